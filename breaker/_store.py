"""The port to where circuits live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from breaker._limits import Limits
from breaker._types import Adjust, LogEntry, Override, Permitted, Recorded, Refused, Report, View


class Store(Protocol):
    """Where circuits live: Redis for a fleet, memory for tests and single processes.

    Operators use `snapshot`, `control`, `events` and `names`; `acquire`, `record` and `follow` are for breakers, and
    what they take and give may change. Every method is atomic for its circuit and raises `StoreUnavailableError` when
    the store does not answer in time or is known to be away; what was asked for may then have happened or not.
    """

    @property
    def degraded(self) -> bool:
        """True from the first call that the store failed to answer until the first that it answers again."""
        ...

    async def acquire(
        self, name: str, permit_id: str, limits: Limits, replica_id: str, *, may_probe: bool = True
    ) -> Permitted | Refused:
        """Ask for leave to make one call. Asking twice with one permit id takes at most one place.

        Who may not probe is refused until another's probe has closed the circuit.
        """
        ...

    async def record(self, name: str, report: Report, limits: Limits) -> Recorded:
        """Settle permits.

        A stale report changes nothing, and a probe or a failure in a row that is told twice counts once.
        """
        ...

    async def snapshot(self, name: str) -> View | None:
        """Read a circuit; changes nothing. None when nothing was ever asked of it, or it idled out."""
        ...

    async def control(self, name: str, action: Override | Adjust) -> View:
        """Carry out an operator's action and return the circuit as it is afterwards.

        Raises:
            ConfigError: There is no such setting, or its value makes no sense; nothing was changed.
        """
        ...

    async def events(self, name: str, limit: int = 100) -> list[LogEntry]:
        """List a circuit's newest events, newest first."""
        ...

    def follow(self, name: str, see: Callable[[View | None], None]) -> None:
        """Tell of a circuit's views from now on, one at each change, and of None when no more will arrive for now.

        A store may tell nothing at all; every call then asks it.
        """
        ...

    async def names(self) -> list[str]:
        """List every circuit that was ever asked for, sorted."""
        ...

    async def aclose(self) -> None:
        """Close the connections that the store opened itself."""
        ...
