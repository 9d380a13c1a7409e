"""Identifiers that sort by the time they were made, so that new rows land side by side in an index."""

from __future__ import annotations

import re
import secrets
import time
from uuid import UUID

_VERSION = 0x7 << 76
_VARIANT = 0x2 << 62
_PUBLIC = re.compile(r"payint_[0-9a-f]{32}")


def uuid7() -> UUID:
    """Make a UUID of version 7 (RFC 9562): 48 bits of milliseconds, 74 bits of chance."""
    now_ms = time.time_ns() // 1_000_000
    return UUID(int=now_ms << 80 | _VERSION | secrets.randbits(12) << 64 | _VARIANT | secrets.randbits(62))


def public_intent_id(intent_id: UUID) -> str:
    """Give the name that a payment intent has outside."""
    return f"payint_{intent_id.hex}"


def is_public_intent_id(text: str) -> bool:
    """Tell whether a payment intent can have this name; anything else need not be looked for."""
    return _PUBLIC.fullmatch(text) is not None
