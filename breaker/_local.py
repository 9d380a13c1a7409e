"""The same machine in this process alone: for when the store is away, and for a replica that fails alone.

While the store is away it begins from what the store said last: a circuit known to be open stays refused until its own
deadline, and an operator's mode is kept. As soon as the store answers again the shared record is in force and this one
is dropped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from breaker import _machine
from breaker._config import BreakerConfig, OnStoreError
from breaker._limits import Limits
from breaker._record import Record
from breaker._types import Mode, Permitted, Reason, Recorded, Refused, Report, Reporting, State, View

Said = Permitted | Refused | Recorded | View


class LocalLayer:
    """Guards one circuit in one replica by itself.

    Args:
        config: The breaker's configuration.
        clock: Returns monotonic seconds; no other process sees this clock.
    """

    def __init__(self, config: BreakerConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._on_store_error = config.on_store_error
        self._base = config.limits()
        self._seen: View | None = None
        self._clock = clock
        self._record: Record | None = None
        self._last: Said | None = None
        self._last_at = 0.0

    def learn(self, said: Said) -> None:
        """Keep what the store said last; in strict consistency this is on the path of every call."""
        self._record = None
        known = self._last
        if isinstance(said, Recorded) and isinstance(known, View) and said.generation <= known.generation:
            return  # The message of this very report came before its answer, and it says more.
        if isinstance(said, View):
            self._seen = said
        self._last, self._last_at = said, self._clock()

    def acquire(self, permit_id: str) -> Permitted | Refused:
        """Ask for leave to make one call, as `on_store_error` has it."""
        if self._on_store_error is OnStoreError.PERMIT:
            return Permitted(State.CLOSED, 0, Mode.AUTO, Reporting.NOTHING)
        if self._on_store_error is OnStoreError.REFUSE:
            return Refused(State.CLOSED, 0, Mode.AUTO, Reason.STORE_UNAVAILABLE, 1000, "")
        self._record, reply = _machine.acquire(self._current(), permit_id, self._limits, self._now_ms())
        return reply

    def record(self, report: Report) -> Recorded:
        """Settle a permit that this layer issued."""
        self._record, reply = _machine.report(self._current(), report, self._limits, self._now_ms())
        return reply

    def count(self, report: Report) -> Recorded | None:
        """Count a report on a permit that the store issued; None when nothing is counted here now."""
        shown = self._current().shown
        if self._on_store_error is not OnStoreError.LOCAL or shown.state is not State.CLOSED:
            return None
        return self.record(replace(report, generation=shown.generation))

    def refusal(self) -> Refused | None:
        """Tell whether a newcomer would be refused; changes nothing that matters."""
        if self._on_store_error is not OnStoreError.LOCAL:
            return None
        return _machine.refusal(_machine.view(self._current(), self._now_ms()), self._limits)

    @property
    def _limits(self) -> Limits:
        # Worked out when it is needed, since nearly everything that is learnt is never needed.
        seen = self._seen
        return _alone(self._base, 1) if seen is None else _alone(self._base.with_settings(seen.settings), seen.replicas)

    def _current(self) -> Record:
        if self._record is None:
            self._record = self._from_last_known()
        return self._record

    def _from_last_known(self) -> Record:
        last, last_ms = self._last, int(self._last_at * 1000)
        if last is None or last.state is State.CLOSED:
            state, retry_at_ms = State.CLOSED, 0
        elif isinstance(last, Refused):
            state, retry_at_ms = State.OPEN, last_ms + last.retry_after_ms
        elif isinstance(last, View):
            state, retry_at_ms = State.OPEN, last_ms + max(0, last.retry_at_ms - last.now_ms)
        elif last.state is State.OPEN:
            state, retry_at_ms = State.OPEN, last_ms + self._limits.cooldown_ms
        else:
            state, retry_at_ms = State.OPEN, last_ms
        shown = View(
            state=state,
            # Not the shared generation: permits of the store and of this layer must never settle each other.
            generation=max(1, self._now_ms()),
            retry_at_ms=retry_at_ms,
            mode=Mode.AUTO if last is None or isinstance(last, Recorded) else last.mode,
            last_error=last.last_error if isinstance(last, (Refused, View)) else "",
            config=self._limits.text,
        )
        return Record(shown=shown)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


class Isolation:
    """Watches whether this replica fails alone, and keeps it away from the dependency for as long as it does.

    Every outcome of this replica is counted here by the same policy, without the others. What would trip that circuit
    makes the replica an outlier, unless the fleet's circuit trips with it.

    Args:
        limits: The breaker's limits.
        clock: Returns monotonic seconds.

    Attributes:
        active: Whether calls are decided here now.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._base = limits
        self._limits = _alone(limits, 1)
        self._clock = clock
        self._record = self._new_record()
        self.active = False

    def learn(self, view: View) -> None:
        """Take the thresholds in force, and end with the fleet's circuit if that is not closed any more."""
        self._limits = _alone(self._base.with_settings(view.settings), view.replicas)
        if view.state is not State.CLOSED:
            self.end()

    @property
    def hears_successes(self) -> bool:
        """Whether a success changes anything here."""
        return not self._limits.consecutive or self._record.shown.run > 0

    def watch(self, report: Report) -> bool:
        """Count one outcome; True when this replica's own calls have just tripped its own circuit."""
        told = replace(report, generation=self._record.shown.generation)
        self._record, recorded = _machine.report(self._record, told, self._limits, self._now_ms())
        return recorded.state is State.OPEN

    def begin(self) -> None:
        """Stay away: the fleet's circuit did not trip with this replica's."""
        self.active = True

    def end(self) -> None:
        """Forget everything, and follow the fleet's circuit again."""
        self.active = False
        self._record = self._new_record()

    def acquire(self, permit_id: str) -> Permitted | Refused:
        """Ask for leave to make one call."""
        self._record, reply = _machine.acquire(self._record, permit_id, self._limits, self._now_ms())
        return replace(reply, reason=Reason.OUTLIER) if isinstance(reply, Refused) else reply

    def record(self, report: Report) -> Recorded:
        """Settle a permit issued here; the first success ends the isolation."""
        self._record, recorded = _machine.report(self._record, report, self._limits, self._now_ms())
        if recorded.state is State.CLOSED:
            self.end()
        return recorded

    def refusal(self) -> Refused | None:
        """Tell whether a newcomer would be refused."""
        refused = _machine.refusal(_machine.view(self._record, self._now_ms()), self._limits)
        return None if refused is None else replace(refused, reason=Reason.OUTLIER)

    def _new_record(self) -> Record:
        return Record(shown=View(generation=max(1, self._now_ms()), config=self._limits.text))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


@lru_cache(maxsize=1024)
def _alone(limits: Limits, replicas: int) -> Limits:
    """Rescale what only the whole fleet can reach: one replica sees its share of the calls, and no other reporters."""
    minimum_calls = math.ceil(limits.minimum_calls / max(1, replicas))
    return replace(limits, minimum_calls=minimum_calls, minimum_reporters=1, ramp_ms=0)
