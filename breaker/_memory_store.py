"""Circuits in this process, for users' tests and for services that run in one process."""

from __future__ import annotations

import time
from collections.abc import Callable

from breaker import _machine
from breaker._limits import Limits
from breaker._record import Record
from breaker._types import Adjust, LogEntry, Override, Permitted, Recorded, Refused, Report, View


class MemoryStore:
    """Circuits in a dictionary; the same answers as Redis, without a server. Never forgets a circuit.

    Args:
        clock: Returns the time in seconds; by default that of day, as Redis has it.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._records: dict[str, Record] = {}

    @property
    def degraded(self) -> bool:
        """Always False: this store is never away."""
        return False

    async def acquire(
        self, name: str, permit_id: str, limits: Limits, replica_id: str, *, may_probe: bool = True
    ) -> Permitted | Refused:
        """Ask for leave to make one call."""
        self._records[name], reply = _machine.acquire(
            self._record_of(name), permit_id, limits, self._now_ms(), replica_id=replica_id, may_probe=may_probe
        )
        return reply

    async def record(self, name: str, report: Report, limits: Limits) -> Recorded:
        """Settle permits."""
        record, reply = _machine.report(self._record_of(name), report, limits, self._now_ms())
        if record.shown.generation:
            self._records[name] = record
        return reply

    async def snapshot(self, name: str) -> View | None:
        """Read a circuit."""
        record = self._records.get(name)
        return None if record is None else _machine.view(record, self._now_ms())

    async def control(self, name: str, action: Override | Adjust) -> View:
        """Carry out an operator's action and return the circuit as it is afterwards.

        Raises:
            ConfigError: There is no such setting, or its value makes no sense; nothing was changed.
        """
        now_ms = self._now_ms()
        record = self._records[name] = _machine.control(self._record_of(name), action, now_ms)
        return _machine.view(record, now_ms)

    async def events(self, name: str, limit: int = 100) -> list[LogEntry]:
        """List a circuit's newest events, newest first."""
        return list(reversed(self._record_of(name).events))[: max(0, limit)]

    def follow(self, name: str, see: Callable[[View | None], None]) -> None:
        """Tell of nothing: the circuit itself is at hand, so a copy of it would save nothing."""

    async def names(self) -> list[str]:
        """List every circuit that was ever asked for, sorted."""
        return sorted(self._records)

    async def aclose(self) -> None:
        """Nothing to close."""

    def _record_of(self, name: str) -> Record:
        return self._records.get(name) or Record(name=name)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
