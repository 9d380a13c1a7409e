"""What one replica has counted of a circuit, and whom it tells."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from breaker._events import BreakerEvent, EventKind, Listener
from breaker._types import Reason, Recorded, Refused, State

_log = logging.getLogger("breaker")


class Account:
    """Counts what happens to a circuit in this replica, and tells the listeners.

    Args:
        name: The circuit.
        listeners: Called with each event; an exception is logged and harms nobody.

    Attributes:
        refusing: The refusal that is given again and again, while nobody listens.
        refusals: How often it was given; whoever gives it again counts it here, or calls `refuse`.
    """

    __slots__ = ("_failing", "_listeners", "_name", "_refused", "_transitions", "refusals", "refusing")

    def __init__(self, name: str, listeners: Iterable[Listener]) -> None:
        self._name = name
        self._listeners = tuple(listeners)
        self._failing: set[int] = set()
        self._transitions: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        # Counted by itself, and summed up when another takes its place.
        self.refusing: Refused | None = None
        self.refusals = 0

    @property
    def refused(self) -> dict[str, int]:
        """How many calls were refused, by reason."""
        self._sum_up(None)
        return dict(self._refused)

    @property
    def transitions(self) -> dict[str, int]:
        """How many transitions of the fleet's circuit were brought about here, by kind."""
        return dict(self._transitions)

    def refuse(self, refused: Refused, *, local: bool = False) -> None:
        """Count a refusal, and tell of it."""
        if not self._listeners:
            self._sum_up(refused)
            self.refusals = 1
            return
        self._refused[refused.reason] += 1
        self._tell(EventKind.REFUSED, refused.state, refused.generation, local=local, reason=refused.reason)

    def note(self, recorded: Recorded, *, local: bool) -> None:
        """Count and tell what a report brought about, if anything."""
        if recorded.transition is not None:
            self.happened(EventKind(recorded.transition), recorded.state, recorded.generation, local=local)

    def happened(self, kind: EventKind, state: State, generation: int, *, local: bool = False) -> None:
        """Count what happened, if it happened to the fleet's circuit, and tell of it."""
        if not local:
            self._transitions[kind] += 1
        self._tell(kind, state, generation, local=local)

    def _tell(
        self, kind: EventKind, state: State, generation: int, *, local: bool, reason: Reason | None = None
    ) -> None:
        event = BreakerEvent(kind=kind, name=self._name, state=state, generation=generation, local=local, reason=reason)
        for place, listener in enumerate(self._listeners):
            try:
                listener(event)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:
                # Said once until it works again, since an outage is made of many refusals. A listener waits for
                # nothing, so that even a cancellation is an error of its own.
                if place not in self._failing:
                    self._failing.add(place)
                    _log.exception("%s: a listener failed", self._name)
            else:
                self._failing.discard(place)

    def _sum_up(self, following: Refused | None) -> None:
        if self.refusing is not None:
            self._refused[self.refusing.reason] += self.refusals
        self.refusing, self.refusals = following, 0
