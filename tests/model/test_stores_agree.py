"""The machine exists twice, in Python and in Lua; here both are driven with the same commands and must answer alike."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from breaker import Mode, Outcome, Override
from breaker._config import BreakerConfig, Consecutive
from breaker._types import Permitted, Report
from tests.support.stores import ManualClock, open_store

_PERMIT_IDS = [f"permit-{number}" for number in range(6)]


class Circuit(RuleBasedStateMachine):
    """Commands on one circuit, time included, each sent to every store."""

    kinds: tuple[str, ...] = ("memory", "fake")
    url: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clocks = {kind: ManualClock() for kind in self.kinds}
        self.exits = AsyncExitStack()
        self.permits: dict[str, Permitted] = {}
        self.stores = self.runner.run(self._open())

    async def _open(self) -> dict[str, Any]:
        return {
            kind: await self.exits.enter_async_context(open_store(kind, self.clocks[kind], self.url))
            for kind in self.kinds
        }

    def teardown(self) -> None:
        self.runner.run(self.exits.aclose())
        self.runner.close()

    def ask(self, method: str, *args: Any) -> Any:
        async def everyone() -> list[Any]:
            return [await getattr(store, method)(*args) for store in self.stores.values()]

        first, *others = self.runner.run(everyone())
        for other in others:
            assert other == first
        return first

    @initialize(
        threshold=st.integers(1, 3),
        probe_limit=st.integers(1, 2),
        probe_successes=st.integers(1, 2),
    )
    def configure(self, threshold: int, probe_limit: int, probe_successes: int) -> None:
        self.limits = BreakerConfig(
            policy=Consecutive(threshold),
            cooldown_seconds=5.0,
            call_timeout_seconds=1.0,
            probe_limit=probe_limit,
            probe_successes=probe_successes,
        ).limits()

    @rule(seconds=st.sampled_from([0.001, 0.4, 1.999, 2.0, 5.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        for clock in self.clocks.values():
            clock.advance(seconds)

    @rule(permit_id=st.sampled_from(_PERMIT_IDS))
    def acquire(self, permit_id: str) -> None:
        reply = self.ask("acquire", "c", permit_id, self.limits, "replica-1")
        if isinstance(reply, Permitted):
            self.permits[permit_id] = reply

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), drop=st.booleans())
    def record(self, data: st.DataObject, outcome: Outcome, drop: bool) -> None:
        permit_id = data.draw(st.sampled_from(sorted(self.permits)))
        generation = self.permits[permit_id].generation
        error = "Boom" if outcome is Outcome.FAILURE else ""
        told = Report(permit_id=permit_id, generation=generation, outcome=outcome, error=error, replica_id="replica-1")
        self.ask("record", "c", told, self.limits)
        if drop:
            del self.permits[permit_id]

    @rule(permit_id=st.sampled_from(_PERMIT_IDS))
    def give_back_unseen(self, permit_id: str) -> None:
        told = Report(permit_id=permit_id, generation=0, outcome=Outcome.IGNORED)
        self.ask("record", "c", told, self.limits)

    @rule(mode=st.sampled_from([*Mode, None]), duration_ms=st.sampled_from([0, 1500]))
    def control(self, mode: Mode | None, duration_ms: int) -> None:
        override = Override(mode=mode, reason="because", actor="anna", duration_ms=duration_ms)
        self.ask("control", "c", override)

    @rule()
    def snapshot(self) -> None:
        before = self.ask("snapshot", "c")
        assert self.ask("snapshot", "c") == before


def _run(kinds: tuple[str, ...], url: str | None, examples: int) -> None:
    chosen = type("Chosen", (Circuit,), {"kinds": kinds, "url": url})
    run_state_machine_as_test(
        chosen,
        settings=settings(
            max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_memory_and_fakeredis_answer_alike() -> None:
    """The same commands at the same times get the same answers from the Python machine and from the Lua."""
    _run(("memory", "fake"), None, examples=40)


@pytest.mark.timeout(120)
def test_memory_and_a_real_server_answer_alike(valkey_url: str) -> None:
    """The same commands at the same times get the same answers from the Python machine and from a real server."""
    _run(("memory", "real"), valkey_url, examples=120)


def test_views_differ_when_a_record_differs() -> None:
    """The comparison above can fail: two views that differ in one field are not equal."""
    machine = Circuit()
    try:
        machine.configure(threshold=1, probe_limit=1, probe_successes=1)
        machine.acquire("permit-0")
        seen = machine.ask("snapshot", "c")
        assert seen != replace(seen, failures=seen.failures + 1)
    finally:
        machine.teardown()
