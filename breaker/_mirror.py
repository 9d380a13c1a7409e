"""One replica's copy of one circuit, from which it answers without asking."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from breaker import _machine
from breaker._limits import Limits
from breaker._types import Mode, Permitted, Reason, Recorded, Refused, Reporting, State, View

# Generation and revision: of two views of a circuit the one with the larger pair is the newer.
Moment = tuple[int, int]


class MirroredCircuit:
    """A copy of a circuit, as fresh as the messages that arrive; it answers only what cannot be wrong by much.

    A copy is replaced by a newer one only, and by any at all after the subscription was lost: a failover may have
    rolled the circuit back. Between a change and its message the copy is stale; the store decides about everything that
    counts.

    Args:
        limits: The breaker's limits.
        clock: Returns monotonic seconds. What arrives are durations, so nobody's clock has to agree with another's.
        may_probe: Whether this replica's callers may become probes.

    Attributes:
        newest: What was seen or heard of last; whoever sends a command keeps it until the answer comes.
        permit: What every call gets now, or None when the store has to be asked.
        refused: What every call is refused with while `refusing_seconds` lasts, or None.
    """

    __slots__ = (
        "_clock",
        "_fresh",
        "_later",
        "_later_at",
        "_limits",
        "_may_probe",
        "_refused_until",
        "newest",
        "permit",
        "refused",
    )

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic, *, may_probe: bool = True) -> None:
        self._limits = limits
        self._may_probe = may_probe
        self._clock = clock
        self.newest: Moment = (0, 0)
        self._fresh = False
        self._later: Permitted | None = None
        self._later_at = 0.0
        self.permit: Permitted | None = None
        self.refused: Refused | None = None
        self._refused_until = 0.0

    def see(self, view: View | None) -> bool:
        """Take a view that arrived, or None when no more will arrive for now; False when it was an old one."""
        if view is None:
            self._forget()
            return True
        if (view.generation, view.revision) <= self.newest:
            return False
        self.newest = (view.generation, view.revision)
        self._fresh = True
        limits = self._limits.with_settings(view.settings)
        self.permit = self._permit_of(view, limits)
        # While a ramp lasts the store decides who goes through; its end sends no message.
        ramp_rest_ms = _machine.ramp_rest_ms(view, limits)
        self._later = None
        if ramp_rest_ms and self.permit is not None:
            self._later, self._later_at, self.permit = self.permit, self._clock() + ramp_rest_ms / 1000, None
        refused = _machine.refusal(view, limits, may_probe=self._may_probe)
        self._refuse(refused, endless=not view.mode_until_ms)
        return True

    def note(self, reply: Permitted | Refused | Recorded, asked_at: Moment) -> bool:
        """Take what the store answered to this replica; it may be ahead of the messages, or behind them.

        Args:
            reply: The answer.
            asked_at: `newest` as it was when the command was sent.

        Returns:
            Whether the store has gone back: it knows less than it did when it was asked.
        """
        if not self._fresh:
            return False
        if reply.generation > self.newest[0]:
            # Whatever belongs to an earlier generation and is still on its way is out of date; the view of this one
            # is on its way too.
            self.newest = (reply.generation, 0)
            self.permit = self._later = self.refused = None
        elif self.newest != asked_at:
            return False  # A message has overtaken the answer, which may be older.
        elif reply.generation < self.newest[0]:
            return True
        if isinstance(reply, Refused) and reply.reason is not Reason.RAMPING:
            self._refuse(reply, endless=False)
        return False

    def refusing_seconds(self) -> float:
        """Return for how many seconds more every call is refused, 0 when none is; brings `permit` up to date."""
        now = self._clock()
        if self.refused is not None:
            rest_seconds = self._refused_until - now
            if rest_seconds > 0:
                return rest_seconds
            self.refused = None
        if self._later is not None and now >= self._later_at:
            self.permit, self._later = self._later, None
        return 0.0

    def _permit_of(self, view: View, limits: Limits) -> Permitted | None:
        if view.mode_until_ms:
            return None  # A mode that ends by itself sends no message at that moment, so the store is asked.
        if view.mode is Mode.FORCED_CLOSED:
            return Permitted(view.state, view.generation, view.mode, Reporting.NOTHING)
        if view.mode is Mode.FORCED_OPEN or view.state is not State.CLOSED:
            return None
        return Permitted(view.state, view.generation, view.mode, _machine.reporting(view, limits))

    def _refuse(self, refused: Refused | None, *, endless: bool) -> None:
        self.refused = refused
        if refused is not None:
            endless = endless and refused.mode is Mode.FORCED_OPEN
            self._refused_until = math.inf if endless else self._clock() + refused.retry_after_ms / 1000

    def _forget(self) -> None:
        self.permit = self._later = self.refused = None
        self.newest = (0, 0)
        self._fresh = False
