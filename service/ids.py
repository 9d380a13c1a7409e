"""Identifiers that sort by the time they were made, so that new rows land side by side in an index."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

_VERSION = 0x7 << 76
_VARIANT = 0x2 << 62


def uuid7() -> UUID:
    """Make a UUID of version 7 (RFC 9562): 48 bits of milliseconds, 74 bits of chance."""
    now_ms = time.time_ns() // 1_000_000
    return UUID(int=now_ms << 80 | _VERSION | secrets.randbits(12) << 64 | _VARIANT | secrets.randbits(62))


def public_intent_id(intent_id: UUID) -> str:
    """Give the name that a payment intent has outside."""
    return f"payint_{intent_id.hex}"
