"""One replica's copy of one circuit, from which it answers without asking."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from breaker._machine import refusal
from breaker._types import Limits, Mode, Permitted, Recorded, Refused, Reporting, State, View


class MirroredCircuit:
    """A copy of a circuit, as fresh as the messages that arrive; it answers only what cannot be wrong by much.

    A copy is replaced by a newer one only, and by any at all after the subscription was lost: a failover may have
    rolled the circuit back. Between a change and its message the copy is stale; the store decides about everything that
    counts.

    Args:
        limits: The breaker's limits.
        clock: Returns monotonic seconds. What arrives are durations, so nobody's clock has to agree with another's.

    Attributes:
        permit: What every call gets now, or None when the store has to be asked.
    """

    __slots__ = ("_clock", "_fresh", "_limits", "_newest", "_refused", "_refused_until", "permit")

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self.permit: Permitted | None = None
        self._refused: Refused | None = None
        self._refused_until = 0.0
        self._newest = (0, 0)
        self._fresh = False

    def see(self, view: View | None) -> None:
        """Take a view that arrived, or None when no more will arrive for now."""
        if view is None:
            self._forget()
            return
        if (view.generation, view.revision) <= self._newest:
            return
        self._newest = (view.generation, view.revision)
        self._fresh = True
        self.permit = self._permit_of(view)
        self._refuse(refusal(view, self._limits), endless=not view.mode_until_ms)

    def note(self, reply: Permitted | Refused | Recorded) -> None:
        """Take what the store answered to this replica; it may be ahead of the messages."""
        if not self._fresh:
            return
        if reply.generation > self._newest[0]:
            # Whatever belongs to an earlier generation and is still on its way is out of date; the view of this one
            # is on its way too.
            self._newest = (reply.generation, 0)
            self.permit = None
            self._refused = None
        if isinstance(reply, Refused):
            self._refuse(reply, endless=False)

    def refusal(self) -> tuple[Refused, float] | None:
        """Return what every call is refused with now, and for how many seconds more; or None."""
        refused = self._refused
        if refused is None:
            return None
        rest_seconds = self._refused_until - self._clock()
        if rest_seconds <= 0:
            self._refused = None
            return None
        return refused, min(rest_seconds, refused.retry_after_ms / 1000)

    def _permit_of(self, view: View) -> Permitted | None:
        if view.mode_until_ms:
            return None  # A mode that ends by itself sends no message at that moment, so the store is asked.
        if view.mode is Mode.FORCED_CLOSED:
            return Permitted(view.state, view.generation, view.mode, Reporting.NOTHING)
        if view.mode is Mode.FORCED_OPEN or view.state is not State.CLOSED:
            return None
        reporting = Reporting.COUNTED if view.failures else Reporting.FAILURES
        return Permitted(view.state, view.generation, view.mode, reporting)

    def _refuse(self, refused: Refused | None, *, endless: bool) -> None:
        self._refused = refused
        if refused is not None:
            endless = endless and refused.mode is Mode.FORCED_OPEN
            self._refused_until = math.inf if endless else self._clock() + refused.retry_after_ms / 1000

    def _forget(self) -> None:
        self.permit = None
        self._refused = None
        self._newest = (0, 0)
        self._fresh = False
