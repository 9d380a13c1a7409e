"""A client's Idempotency-Key: reading it, and telling whether two requests are the same."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.payments.errors import IdempotencyKeyInvalidError

# The IETF draft makes the header a structured string, which is quoted; most clients send it bare. Both name one key.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_PRINTABLE = re.compile(r"[ -~]{1,255}")


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """A key as one principal used it on one route, with the fingerprint of what was asked."""

    principal: str
    route: str
    key: str
    fingerprint: str


def parse_key(values: Sequence[str]) -> str | None:
    """Read the values of the `Idempotency-Key` header.

    Returns:
        The key, or None when there is no such header.

    Raises:
        IdempotencyKeyInvalidError: There is more than one, or it is not a key.
    """
    if not values:
        return None
    value = values[0].strip()
    if quoted := _QUOTED.fullmatch(value):
        value = re.sub(r"\\(.)", r"\1", quoted[1])
    elif value.startswith('"'):
        raise IdempotencyKeyInvalidError
    if len(values) > 1 or not _PRINTABLE.fullmatch(value):
        raise IdempotencyKeyInvalidError
    return value


def fingerprint(body: Mapping[str, Any]) -> str:
    """Give a text that is equal exactly for equal bodies, whatever the order of their members."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
