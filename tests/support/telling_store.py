"""A store in memory that tells its followers of every change, as Redis does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from breaker import Adjust, MemoryStore, Override, StoreUnavailableError, View
from breaker._limits import Limits
from breaker._types import Permitted, Recorded, Refused, Report


class TellingStore(MemoryStore):
    """Keeps the reports it gets, can pause before it takes one, and can be away."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.reports: list[Report] = []
        self.asked: list[bool] = []
        self.followers: list[tuple[str, Callable[[View | None], None]]] = []
        self.paused: asyncio.Event | None = None
        self.is_away = False

    def follow(self, name: str, see: Callable[[View | None], None]) -> None:
        self.followers.append((name, see))

    async def acquire(
        self, name: str, permit_id: str, limits: Limits, replica_id: str, *, may_probe: bool = True
    ) -> Permitted | Refused:
        self.asked.append(may_probe)
        if self.is_away:
            raise StoreUnavailableError
        reply = await super().acquire(name, permit_id, limits, replica_id, may_probe=may_probe)
        await self.tell(name)
        return reply

    async def record(self, name: str, report: Report, limits: Limits) -> Recorded:
        self.reports.append(report)
        if self.paused is not None:
            await self.paused.wait()
        if self.is_away:
            raise StoreUnavailableError
        recorded = await super().record(name, report, limits)
        await self.tell(name)
        return recorded

    async def snapshot(self, name: str) -> View | None:
        if self.is_away:
            raise StoreUnavailableError
        return await super().snapshot(name)

    async def control(self, name: str, action: Override | Adjust) -> View:
        view = await super().control(name, action)
        await self.tell(name)
        return view

    async def tell(self, name: str) -> None:
        view = await super().snapshot(name)
        for followed, see in self.followers:
            if followed == name:
                see(view)
