"""What a breaker tells its listeners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from breaker._types import State


class EventKind(StrEnum):
    """What a replica saw happen to one of its circuits."""

    TRIPPED = "tripped"
    HALF_OPENED = "half_opened"
    REOPENED = "reopened"
    CLOSED = "closed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerEvent:
    """One thing that happened, in the replica where it happened.

    Attributes:
        kind: What. A transition is told only by the replica whose call brought it about.
        name: The circuit.
        state: Its state afterwards.
        generation: Its generation afterwards.
        local: True when the replica's local layer decided, because the store was away.
    """

    kind: EventKind
    name: str
    state: State
    generation: int
    local: bool = False


Listener = Callable[[BreakerEvent], None]
