"""A circuit as a test talks to it: the store's verbs with everything that does not matter filled in."""

from __future__ import annotations

import itertools

from breaker import BreakerConfig, Mode, Outcome, Override, Store, View
from breaker._types import Permitted, Recorded, Refused, Report

NAME = "stripe:create_intent"


class Circuit:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.limits = BreakerConfig(cooldown_seconds=30.0, call_timeout_seconds=4.0).limits()
        self._ids = itertools.count(1)

    def new_id(self) -> str:
        return f"p{next(self._ids)}"

    async def ask(self, permit_id: str | None = None) -> Permitted | Refused:
        return await self.store.acquire(NAME, permit_id or self.new_id(), self.limits, "replica-1")

    async def permit(self, permit_id: str | None = None) -> tuple[str, Permitted]:
        permit_id = permit_id or self.new_id()
        reply = await self.ask(permit_id)
        assert isinstance(reply, Permitted)
        return permit_id, reply

    async def refusal(self) -> Refused:
        reply = await self.ask()
        assert isinstance(reply, Refused)
        return reply

    async def settle(self, permit: tuple[str, Permitted], outcome: Outcome) -> Recorded:
        return await self.tell(permit[0], permit[1].generation, outcome)

    async def tell(self, permit_id: str, generation: int, outcome: Outcome) -> Recorded:
        error = "ReadTimeout" if outcome is Outcome.FAILURE else ""
        report = Report(
            permit_id=permit_id, generation=generation, outcome=outcome, error=error, replica_id="replica-1"
        )
        return await self.store.record(NAME, report, self.limits)

    async def fail(self, times: int = 1) -> Recorded:
        for _ in range(times):
            recorded = await self.settle(await self.permit(), Outcome.FAILURE)
        return recorded

    async def succeed(self) -> Recorded:
        return await self.settle(await self.permit(), Outcome.SUCCESS)

    async def set_mode(self, mode: Mode | None, *, for_seconds: float = 0) -> View:
        override = Override(mode=mode, reason="because", actor="anna", duration_ms=round(for_seconds * 1000))
        return await self.store.control(NAME, override)

    async def view(self) -> View:
        seen = await self.store.snapshot(NAME)
        assert seen is not None
        return seen
