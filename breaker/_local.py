"""The same machine in this process alone: for when the store is away, and for a replica that fails alone.

While the store is away it begins from what the store said last: a circuit known to be open stays refused until its own
deadline, and an operator's mode is kept until its own end. As soon as the store answers again the shared record is in
force and this one is dropped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from breaker import _machine
from breaker._config import BreakerConfig, OnStoreError
from breaker._known import Known
from breaker._limits import Limits
from breaker._record import Record
from breaker._types import Mode, Permitted, Reason, Recorded, Refused, Report, Reporting, State, View


class LocalLayer:
    """Guards one circuit in one replica by itself.

    Args:
        config: The breaker's configuration.
        known: What the store said last; its clock is this layer's, and no other process sees it.
    """

    def __init__(self, config: BreakerConfig, known: Known) -> None:
        self._on_store_error = config.on_store_error
        self._base = config.limits()
        self._known = known
        self._record: Record | None = None

    def drop(self) -> None:
        """Forget what was counted here: the store has answered. In strict consistency that is on every call's path."""
        self._record = None

    @property
    def has_begun(self) -> bool:
        """Whether anything was asked or counted here since the store answered."""
        return self._record is not None

    @property
    def is_open(self) -> bool:
        """Whether what was counted here has opened the circuit, which has not closed since."""
        return self._record is not None and self._record.shown.state is not State.CLOSED

    def acquire(self, permit_id: str, *, may_probe: bool = True) -> Permitted | Refused:
        """Ask for leave to make one call, as `on_store_error` has it."""
        if self._on_store_error is OnStoreError.PERMIT:
            return Permitted(State.CLOSED, 0, Mode.AUTO, Reporting.NOTHING)
        if self._on_store_error is OnStoreError.REFUSE:
            return Refused(State.CLOSED, 0, Mode.AUTO, Reason.STORE_UNAVAILABLE, 1000, "")
        self._record, reply = _machine.acquire(
            self._current(), permit_id, self._limits, self._now_ms(), may_probe=may_probe
        )
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

    def refusal(self, *, may_probe: bool = True) -> Refused | None:
        """Tell whether a newcomer would be refused; changes nothing that matters."""
        if self._on_store_error is not OnStoreError.LOCAL:
            return None
        return _machine.refusal(_machine.view(self._current(), self._now_ms()), self._limits, may_probe=may_probe)

    def probe_wait_seconds(self) -> float | None:
        """Tell how long a background probe should wait; None when there is nothing to find out here."""
        if self._on_store_error is not OnStoreError.LOCAL:
            return None
        return _probe_wait_seconds(self._current(), self._limits, self._now_ms())

    @property
    def _limits(self) -> Limits:
        # Worked out when it is needed, since nearly everything that is learnt is never needed.
        seen = self._known.view
        return _alone(self._base, 1) if seen is None else _alone(self._base.with_settings(seen.settings), seen.replicas)

    def _current(self) -> Record:
        if self._record is None:
            self._record = self._from_last_known()
        return self._record

    def _from_last_known(self) -> Record:
        known, limits, now_ms = self._known, self._limits, self._now_ms()
        is_closed = known.state is State.CLOSED
        shown = View(
            # Nobody can ask who holds a lease, so where the circuit is half-open this replica probes for itself.
            state=State.CLOSED if is_closed else State.OPEN,
            # Not the shared generation: permits of the store and of this layer must never settle each other.
            generation=max(1, now_ms),
            retry_at_ms=0 if is_closed else now_ms + known.cooldown_rest_ms(limits.cooldown_ms),
            mode=known.mode,
            mode_until_ms=now_ms + known.mode_rest_ms if known.mode_rest_ms else 0,
            last_error=known.last_error,
            config=limits.text,
        )
        return Record(shown=shown)

    def _now_ms(self) -> int:
        return int(self._known.clock() * 1000)


class Isolation:
    """Watches whether this replica fails alone, and keeps it away from the dependency for as long as it does.

    Every outcome of this replica is counted here by the same policy, without the others. What would trip that circuit
    makes the replica an outlier, unless the fleet's circuit trips with it. Isolation only adds refusals: it is for a
    closed circuit that nobody else decides about, and ends with the generation in which it began.

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
        self._generation = 0
        self.active = False

    def learn(self, said: Permitted | Refused | Recorded | View) -> None:
        """Take the thresholds in force; and end where the fleet or an operator decides now, or has decided since."""
        if isinstance(said, View):
            self._limits = _alone(self._base.with_settings(said.settings), said.replicas)
        mode = Mode.AUTO if isinstance(said, Recorded) else said.mode
        if (
            said.state is not State.CLOSED
            or mode is not Mode.AUTO
            or (self.active and said.generation != self._generation)
        ):
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

    def begin(self, generation: int) -> None:
        """Stay away: the fleet's circuit did not trip with this replica's, and is in this generation."""
        self.active = True
        self._generation = generation

    def end(self) -> None:
        """Forget everything, and follow the fleet's circuit again."""
        self.active = False
        self._record = self._new_record()

    def acquire(self, permit_id: str, *, may_probe: bool = True) -> Permitted | Refused:
        """Ask for leave to make one call."""
        self._record, reply = _machine.acquire(
            self._record, permit_id, self._limits, self._now_ms(), may_probe=may_probe
        )
        return replace(reply, reason=Reason.OUTLIER) if isinstance(reply, Refused) else reply

    def record(self, report: Report) -> Recorded:
        """Settle a permit issued here; the first success ends the isolation."""
        self._record, recorded = _machine.report(self._record, report, self._limits, self._now_ms())
        if recorded.state is State.CLOSED:
            self.end()
        return recorded

    def refusal(self, *, may_probe: bool = True) -> Refused | None:
        """Tell whether a newcomer would be refused."""
        refused = _machine.refusal(_machine.view(self._record, self._now_ms()), self._limits, may_probe=may_probe)
        return None if refused is None else replace(refused, reason=Reason.OUTLIER)

    def probe_wait_seconds(self) -> float | None:
        """Tell how long a background probe should wait; None when there is nothing to find out."""
        return _probe_wait_seconds(self._record, self._limits, self._now_ms())

    def _new_record(self) -> Record:
        return Record(shown=View(generation=max(1, self._now_ms()), config=self._limits.text))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


@lru_cache(maxsize=1024)
def _alone(limits: Limits, replicas: int) -> Limits:
    """Rescale what only the whole fleet can reach: one replica sees its share of the calls, and no other reporters."""
    minimum_calls = math.ceil(limits.minimum_calls / max(1, replicas))
    return replace(limits, minimum_calls=minimum_calls, minimum_reporters=1, ramp_ms=0)


def _probe_wait_seconds(record: Record, limits: Limits, now_ms: int) -> float | None:
    seen = _machine.view(record, now_ms)
    if seen.state is State.CLOSED:
        return None
    # As long as a refusal says: it names a pause also where an operator's mode has no end.
    refused = _machine.refusal(seen, limits, may_probe=True)
    return 0.0 if refused is None else refused.retry_after_ms / 1000
