"""One permitted call, until it is settled."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from breaker._types import Permitted


class Issuer(Enum):
    """Who gave a permit, and so has to hear how the call ended."""

    STORE = auto()
    MIRROR = auto()
    LOCAL = auto()
    ISOLATION = auto()


@dataclass(slots=True)
class Call:
    """One permitted call.

    Attributes:
        counted: Whether a rate has counted it already, because it was slow.
    """

    permit_id: str
    permit: Permitted
    issuer: Issuer
    counted: bool = False
