"""What a breaker tells its listeners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from breaker._types import Mode, Reason, State


class EventKind(StrEnum):
    """What a replica saw happen to one of its circuits."""

    TRIPPED = "tripped"  # a failure opened the circuit
    HALF_OPENED = "half_opened"  # the cooldown was over, and a call became the probe
    REOPENED = "reopened"  # a probe failed
    CLOSED = "closed"  # enough probes succeeded
    REFUSED = "refused"  # a call was not let through
    OUTLIER = "outlier"  # this replica alone fails, and stays away by itself
    CONFIG_DIFFERS = "config_differs"  # another replica uses this circuit with another configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerEvent:
    """One thing that happened, in the replica where it happened.

    Attributes:
        kind: What. A transition is told only by the replica whose call brought it about.
        name: The circuit.
        state: Its state afterwards.
        generation: Its generation afterwards.
        local: True when the replica decided by itself: the store was away, or it alone fails.
        reason: Why a call was refused; None for everything else.
    """

    kind: EventKind
    name: str
    state: State
    generation: int
    local: bool = False
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What one replica knows of a circuit and has counted since it started; costs nothing until it is asked for.

    Attributes:
        state: The circuit's state as this replica knows it: what the store said last, also while the replica guards
            itself and may have opened the circuit for itself.
        mode: The operator's mode as this replica knows it.
        generation: The circuit's generation likewise.
        degraded: Whether the store is away, or of no use for this circuit, and the replica guards itself.
        isolated: Whether this replica stays away by itself because it alone fails.
        refused: How many calls were refused here, by reason.
        transitions: How many transitions of the fleet's circuit were brought about here, by kind; and as
            `config_differs` how many other configurations were seen.
    """

    name: str
    state: State
    mode: Mode
    generation: int
    degraded: bool
    isolated: bool
    refused: Mapping[str, int]
    transitions: Mapping[str, int]


Listener = Callable[[BreakerEvent], None]
