"""Circuits in this process, for users' tests and for services that run in one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from breaker._fork import in_every_child
from breaker._limits import Limits
from breaker._memory_store import MemoryStore as Circuits
from breaker._types import Adjust, LogEntry, Override, Permitted, Recorded, Refused, Report, View
from breaker.sync._timers import Timers

_T = TypeVar("_T")


class MemoryStore:
    """Circuits in a dictionary; the same answers as Redis, without a server. Never forgets a circuit.

    Args:
        clock: Returns the time in seconds; by default that of day, as Redis has it.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._circuits = Circuits(clock)
        self._begin()
        in_every_child(self, MemoryStore._begin)

    def _begin(self) -> None:
        # The circuits stay as they were at the fork.
        self.timers = Timers()
        self.dispatcher = Timers("breaker-listeners")
        # A signal handler may make a call in the middle of another one.
        self._lock = threading.RLock()

    @property
    def degraded(self) -> bool:
        """Always False: this store is never away."""
        return False

    def acquire(
        self, name: str, permit_id: str, limits: Limits, replica_id: str, *, may_probe: bool = True
    ) -> Permitted | Refused:
        """Ask for leave to make one call."""
        return self._now(self._circuits.acquire(name, permit_id, limits, replica_id, may_probe=may_probe))

    def record(self, name: str, report: Report, limits: Limits) -> Recorded:
        """Settle permits."""
        return self._now(self._circuits.record(name, report, limits))

    def snapshot(self, name: str) -> View | None:
        """Read a circuit."""
        return self._now(self._circuits.snapshot(name))

    def control(self, name: str, action: Override | Adjust) -> View:
        """Carry out an operator's action and return the circuit as it is afterwards."""
        return self._now(self._circuits.control(name, action))

    def events(self, name: str, limit: int = 100) -> list[LogEntry]:
        """List a circuit's newest events, newest first."""
        return self._now(self._circuits.events(name, limit))

    def follow(self, name: str, see: Callable[[View | None], None]) -> None:
        """Tell of nothing: the circuit itself is at hand, so a copy of it would save nothing."""

    def names(self) -> list[str]:
        """List every circuit that was ever asked for, sorted."""
        return self._now(self._circuits.names())

    def close(self) -> None:
        """End the threads."""
        self.timers.close()
        self.dispatcher.close()

    def _now(self, step: Coroutine[Any, Any, _T]) -> _T:
        """Run to its end what waits for nothing, alone."""
        with self._lock:
            try:
                while True:
                    step.send(None)
            except StopIteration as end:
                value: _T = end.value
                return value
