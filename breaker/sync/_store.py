"""The port to where circuits live, for threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from breaker._limits import Limits
from breaker._types import Adjust, LogEntry, Override, Permitted, Recorded, Refused, Report, View
from breaker.sync._timers import Timers


class Store(Protocol):
    """Where circuits live; what `breaker.Store` is to tasks. Any thread may call any method.

    Every method is atomic for its circuit and raises `StoreUnavailableError` when the store does not answer in time;
    what was asked for may then have happened or not.
    """

    @property
    def timers(self) -> Timers:
        """What runs as long as the store is used, and ends with it."""
        ...

    @property
    def dispatcher(self) -> Timers:
        """What tells listeners of events in the store's other threads, so that they hold nothing up."""
        ...

    @property
    def degraded(self) -> bool:
        """True from the first call that the store failed to answer until the first that it answers again."""
        ...

    def acquire(
        self, name: str, permit_id: str, limits: Limits, replica_id: str, *, may_probe: bool = True
    ) -> Permitted | Refused:
        """Ask for leave to make one call. Asking twice with one permit id takes at most one place."""
        ...

    def record(self, name: str, report: Report, limits: Limits) -> Recorded:
        """Settle permits."""
        ...

    def snapshot(self, name: str) -> View | None:
        """Read a circuit; changes nothing. None when nothing was ever asked of it, or it idled out."""
        ...

    def control(self, name: str, action: Override | Adjust) -> View:
        """Carry out an operator's action and return the circuit as it is afterwards.

        Raises:
            ConfigError: There is no such setting, or its value makes no sense; nothing was changed.
        """
        ...

    def events(self, name: str, limit: int = 100) -> list[LogEntry]:
        """List a circuit's newest events, newest first."""
        ...

    def follow(self, name: str, see: Callable[[View | None], None]) -> None:
        """Tell of a circuit's views from now on, one at each change, and of None when no more will arrive for now."""
        ...

    def names(self) -> list[str]:
        """List every circuit that was ever asked for, sorted."""
        ...

    def close(self) -> None:
        """End the store's threads, and close the connections that it opened itself."""
        ...
