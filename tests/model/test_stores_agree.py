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

from breaker import Adjust, BreakerConfig, Consecutive, FailureRate, Mode, Outcome, Override
from breaker._types import Permitted, Report
from tests.support.stores import ManualClock, open_store

_PERMIT_IDS = [f"permit-{number}" for number in range(6)]
_REPLICAS = ["replica-1", "replica-2"]
_POLICIES = st.one_of(
    st.builds(Consecutive, st.integers(1, 3)),
    st.builds(
        FailureRate,
        threshold=st.sampled_from([0.2, 1 / 3, 1.0]),
        window_seconds=st.sampled_from([1.0, 4.0]),
        minimum_calls=st.integers(1, 4),
        slow_call_seconds=st.sampled_from([None, 0.5]),
        slow_rate_threshold=st.sampled_from([0.5, 1.0]),
    ),
)


def _configs() -> st.SearchStrategy[BreakerConfig]:
    """Every knob that a store knows of, in few and small values, so that few steps reach what they change."""
    return st.builds(
        BreakerConfig,
        policy=_POLICIES,
        minimum_reporters=st.integers(1, 2),
        cooldown_seconds=st.just(5.0),
        cooldown_multiplier=st.sampled_from([1.0, 1.5, 3.0]),
        max_cooldown_seconds=st.just(40.0),
        cooldown_jitter=st.sampled_from([0.0, 0.25]),
        stable_after_seconds=st.sampled_from([0.0, 3.0]),
        call_timeout_seconds=st.just(1.0),
        probe_limit=st.integers(1, 2),
        probe_successes=st.integers(1, 2),
        ramp_seconds=st.sampled_from([0.0, 3.0]),
    )


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

    def ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        async def everyone() -> list[Any]:
            return [await getattr(store, method)(*args, **kwargs) for store in self.stores.values()]

        first, *others = self.runner.run(everyone())
        for other in others:
            assert other == first
        return first

    @initialize(config=_configs(), other_policy=_POLICIES)
    def configure(self, config: BreakerConfig, other_policy: Consecutive | FailureRate) -> None:
        self.limits = config.limits()
        self.other_limits = replace(config, policy=other_policy, cooldown_seconds=9.0).limits()

    @rule(seconds=st.sampled_from([0.001, 0.4, 1.999, 2.0, 5.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        for clock in self.clocks.values():
            clock.advance(seconds)

    @rule(seconds=st.sampled_from([0.001, 0.4, 2.0, 6.0, 3600.0]))
    def clock_is_set_back(self, seconds: float) -> None:
        """As when a server corrects its clock, or one that is behind is promoted."""
        self.time_passes(-seconds)

    @rule(
        permit_id=st.sampled_from(_PERMIT_IDS),
        replica_id=st.sampled_from(_REPLICAS),
        may_probe=st.sampled_from([True, True, True, False]),
        redeployed=st.sampled_from([False, False, False, True]),
    )
    def acquire(self, permit_id: str, replica_id: str, may_probe: bool, redeployed: bool) -> None:
        limits = self.other_limits if redeployed else self.limits
        reply = self.ask("acquire", "c", permit_id, limits, replica_id, may_probe=may_probe)
        if isinstance(reply, Permitted):
            self.permits[permit_id] = reply

    @precondition(lambda self: self.permits)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(Outcome),
        replica_id=st.sampled_from(_REPLICAS),
        drop=st.booleans(),
        slow=st.integers(0, 1),
        open_for_ms=st.sampled_from([0, 0, 0, 700, 10**7]),
        alone=st.sampled_from([False, False, True]),
        redeployed=st.sampled_from([False, False, False, True]),
    )
    def record(  # noqa: PLR0917 - Hypothesis draws each of them
        self,
        data: st.DataObject,
        outcome: Outcome,
        replica_id: str,
        drop: bool,
        slow: int,
        open_for_ms: int,
        alone: bool,
        redeployed: bool,
    ) -> None:
        permit_id = data.draw(st.sampled_from(sorted(self.permits)))
        failed = outcome is Outcome.FAILURE
        told = Report(
            permit_id=permit_id,
            generation=self.permits[permit_id].generation,
            outcome=outcome,
            error="Boom" if failed else "",
            replica_id=replica_id,
            calls=1,
            failures=int(failed),
            slow=slow,
            open_for_ms=open_for_ms if failed else 0,
            alone=alone and failed,
        )
        self.ask("record", "c", told, self.other_limits if redeployed else self.limits)
        if drop:
            del self.permits[permit_id]

    @rule()
    def an_outage_comes_and_goes(self) -> None:
        """The circuit opens and its probe succeeds, or whatever else comes of it now: single steps get there rarely."""
        for outcome, open_for_ms in ((Outcome.FAILURE, 700), (Outcome.SUCCESS, 0)):
            reply = self.ask("acquire", "c", "outage", self.limits, "replica-1")
            told = Report(
                permit_id="outage", generation=reply.generation, outcome=outcome, error="Boom", open_for_ms=open_for_ms
            )
            self.ask("record", "c", told, self.limits)
            self.time_passes(0.7)

    @precondition(lambda self: self.permits)
    @rule(
        data=st.data(),
        calls=st.integers(0, 5),
        failures=st.integers(0, 2),
        slow=st.integers(0, 2),
        redeployed=st.booleans(),
    )
    def record_a_batch(self, data: st.DataObject, calls: int, failures: int, slow: int, redeployed: bool) -> None:
        permit = self.permits[data.draw(st.sampled_from(sorted(self.permits)))]
        told = Report(
            permit_id="batch",
            generation=permit.generation,
            outcome=Outcome.FAILURE if failures else Outcome.SUCCESS,
            replica_id="replica-2",
            calls=calls + failures,
            failures=failures,
            slow=slow,
        )
        self.ask("record", "c", told, self.other_limits if redeployed else self.limits)

    @rule(permit_id=st.sampled_from(_PERMIT_IDS))
    def give_back_unseen(self, permit_id: str) -> None:
        told = Report(permit_id=permit_id, generation=0, outcome=Outcome.IGNORED)
        self.ask("record", "c", told, self.limits)

    @rule(mode=st.sampled_from([*Mode, None]), duration_ms=st.sampled_from([0, 1500]))
    def control(self, mode: Mode | None, duration_ms: int) -> None:
        override = Override(mode=mode, reason="because", actor="anna", duration_ms=duration_ms)
        self.ask("control", "c", override)

    @rule(
        settings=st.one_of(
            st.fixed_dictionaries({"jitter_percent": st.sampled_from([None, 1, 100])}),
            st.dictionaries(
                st.sampled_from(["cooldown_ms", "probe_limit", "minimum_reporters", "ramp_ms"]),
                st.sampled_from([None, 1, 2, 7000]),
                min_size=1,
            ),
        )
    )
    def adjust(self, settings: dict[str, float | None]) -> None:
        self.ask("control", "c", Adjust(settings=settings, reason="tuning", actor="anna"))

    @rule()
    def read(self) -> None:
        before = self.ask("snapshot", "c"), self.ask("events", "c", 20)
        assert (self.ask("snapshot", "c"), self.ask("events", "c", 20)) == before


def _run(kinds: tuple[str, ...], url: str | None, examples: int) -> None:
    chosen = type("Chosen", (Circuit,), {"kinds": kinds, "url": url})
    run_state_machine_as_test(
        chosen,
        settings=settings(
            max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_memory_fakeredis_and_a_real_server_answer_alike(valkey_url: str) -> None:
    """The same commands at the same times get the same answers from the Python machine and from the Lua everywhere."""
    _run(("memory", "fake", "real"), valkey_url, examples=15)


@pytest.mark.timeout(120)
def test_memory_and_a_real_server_answer_alike(valkey_url: str) -> None:
    """The same commands at the same times get the same answers from the Python machine and from a real server."""
    _run(("memory", "real"), valkey_url, examples=40)


def test_views_differ_when_a_record_differs() -> None:
    """The comparison above can fail: two views that differ in one field are not equal."""
    machine = Circuit()
    try:
        machine.configure(BreakerConfig(), FailureRate())
        machine.acquire("permit-0", "replica-1", may_probe=True, redeployed=False)
        seen = machine.ask("snapshot", "c")
        assert seen != seen._replace(failures=seen.failures + 1)
    finally:
        machine.teardown()
