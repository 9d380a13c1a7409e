"""A circuit as a test talks to it: the store's verbs with everything that does not matter filled in."""

from __future__ import annotations

import itertools
from typing import Any

from breaker import Adjust, BreakerConfig, LogEntry, Mode, Outcome, Override, Store, View
from breaker._types import Permitted, Recorded, Refused, Report
from tests.support.stores import ManualClock

NAME = "stripe:create_intent"


class Circuit:
    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self._ids = itertools.count(1)
        self.configure()

    def configure(self, **options: Any) -> None:
        """Have every caller from now on bring this configuration."""
        options = {"cooldown_seconds": 30.0, "call_timeout_seconds": 4.0, **options}
        self.limits = BreakerConfig(**options).limits()

    def new_id(self) -> str:
        return f"p{next(self._ids)}"

    async def ask(
        self, permit_id: str | None = None, *, by: str = "replica-1", may_probe: bool = True
    ) -> Permitted | Refused:
        permit_id = self.new_id() if permit_id is None else permit_id
        return await self.store.acquire(NAME, permit_id, self.limits, by, may_probe=may_probe)

    async def permit(self, permit_id: str | None = None, *, by: str = "replica-1") -> tuple[str, Permitted]:
        permit_id = self.new_id() if permit_id is None else permit_id
        reply = await self.ask(permit_id, by=by)
        assert isinstance(reply, Permitted)
        return permit_id, reply

    async def refusal(self, permit_id: str | None = None, *, may_probe: bool = True) -> Refused:
        reply = await self.ask(permit_id, may_probe=may_probe)
        assert isinstance(reply, Refused)
        return reply

    async def settle(self, permit: tuple[str, Permitted], outcome: Outcome, **also: Any) -> Recorded:
        return await self.tell(permit[0], permit[1].generation, outcome, **also)

    async def tell(
        self,
        permit_id: str,
        generation: int,
        outcome: Outcome,
        *,
        by: str = "replica-1",
        error: str = "ReadTimeout",
        **also: Any,
    ) -> Recorded:
        """Report; what is told of a failure besides, such as `alone`, is named."""
        failed = outcome is Outcome.FAILURE
        counts = {"calls": 1, "failures": int(failed), **also}
        report = Report(
            permit_id=permit_id,
            generation=generation,
            outcome=outcome,
            error=error if failed else "",
            replica_id=by,
            **counts,
        )
        return await self.store.record(NAME, report, self.limits)

    async def fail(self, times: int = 1, *, by: str = "replica-1", **also: Any) -> Recorded:
        for _ in range(times):
            recorded = await self.settle(await self.permit(by=by), Outcome.FAILURE, by=by, **also)
        return recorded

    async def succeed(self, times: int = 1, *, by: str = "replica-1", **also: Any) -> Recorded:
        for _ in range(times):
            recorded = await self.settle(await self.permit(by=by), Outcome.SUCCESS, by=by, **also)
        return recorded

    async def count(self, calls: int, failures: int = 0, *, slow: int = 0, by: str = "replica-1") -> Recorded:
        """Report many calls together, as a replica does for a rate."""
        outcome = Outcome.FAILURE if failures else Outcome.SUCCESS
        permit = await self.permit(by=by)
        return await self.settle(permit, outcome, by=by, calls=calls, failures=failures, slow=slow)

    async def recover(self) -> Recorded:
        """Wait until the open circuit takes a probe, and let it succeed."""
        await self.wait_out()
        return await self.succeed()

    async def wait_out(self) -> None:
        """Let the time pass until an open circuit takes a probe."""
        seen = await self.view()
        self.clock.advance(max(0, seen.retry_at_ms - self.clock.now_ms) / 1000)

    async def set_mode(self, mode: Mode | None, *, for_seconds: float = 0) -> View:
        override = Override(mode=mode, reason="because", actor="anna", duration_ms=round(for_seconds * 1000))
        return await self.store.control(NAME, override)

    async def adjust(self, **settings: float | None) -> View:
        return await self.store.control(NAME, Adjust(settings=settings, reason="tuning", actor="anna"))

    async def view(self) -> View:
        seen = await self.store.snapshot(NAME)
        assert seen is not None
        return seen

    async def log(self) -> list[LogEntry]:
        """Return everything that happened, oldest first."""
        return list(reversed(await self.store.events(NAME)))

    async def happened(self) -> list[str]:
        """Name everything that happened, oldest first."""
        return [str(entry.kind) for entry in await self.log()]
