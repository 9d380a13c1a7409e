"""What guards a replica while the store is away: the same machine, in this process.

It begins from what the store said last: a circuit known to be open stays refused until its own deadline, and an
operator's mode is kept. As soon as the store answers again the shared record is in force and this one is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from breaker import _machine
from breaker._config import BreakerConfig, OnStoreError
from breaker._types import Limits, Mode, Permitted, Recorded, Refused, Report, Reporting, State, View


class LocalLayer:
    """Guards one circuit in one replica while the store is away.

    Args:
        config: The breaker's configuration.
        clock: Returns monotonic seconds; no other process sees this clock.
    """

    def __init__(self, config: BreakerConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._on_store_error = config.on_store_error
        self._limits: Limits = config.limits()
        self._clock = clock
        self._record: _machine.Record | None = None
        self._last: Permitted | Refused | Recorded | View | None = None
        self._last_at = 0.0

    def learn(self, said: Permitted | Refused | Recorded | View) -> None:
        """Keep what the store said last; in strict consistency this is on the path of every call."""
        self._record = None
        known = self._last
        if isinstance(said, Recorded) and isinstance(known, View) and said.generation <= known.generation:
            return  # The message of this very report came before its answer, and it says more.
        self._last, self._last_at = said, self._clock()

    def acquire(self, permit_id: str) -> Permitted | Refused:
        """Ask for leave to make one call, as `on_store_error` has it."""
        if self._on_store_error is OnStoreError.PERMIT:
            return Permitted(State.CLOSED, 0, Mode.AUTO, Reporting.NOTHING)
        if self._on_store_error is OnStoreError.REFUSE:
            return Refused(State.CLOSED, 0, Mode.AUTO, "store_unavailable", 1000, "")
        now_ms = self._now_ms()
        self._record, reply = _machine.acquire(self._current(), permit_id, self._limits, now_ms)
        return reply

    def record(self, report: Report) -> Recorded:
        """Settle a permit that this layer issued."""
        self._record, reply = _machine.report(self._current(), report, self._limits, self._now_ms())
        return reply

    def refusal(self) -> Refused | None:
        """Tell whether a newcomer would be refused; changes nothing that matters."""
        if self._on_store_error is not OnStoreError.LOCAL:
            return None
        return _machine.refusal(_machine.view(self._current(), self._now_ms()), self._limits)

    def _current(self) -> _machine.Record:
        if self._record is None:
            self._record = self._from_last_known()
        return self._record

    def _from_last_known(self) -> _machine.Record:
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
        return _machine.Record(
            state=state,
            # Not the shared generation: permits of the store and of this layer must never settle each other.
            generation=max(1, self._now_ms()),
            retry_at_ms=retry_at_ms,
            mode=Mode.AUTO if last is None or isinstance(last, Recorded) else last.mode,
            last_error=last.last_error if isinstance(last, (Refused, View)) else "",
            config=self._limits.fingerprint,
        )

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
