"""The machine exists twice, in Python and in Lua; here both are driven with the same commands and must answer alike."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from breaker import Adjust, BreakerConfig, Consecutive, FailureRate, Mode, Outcome, Override
from breaker._errors import ScriptError
from breaker._types import Permitted, Report
from tests.interleavings.wrong_scripts import MISTAKES, Mistake
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
    script_path: tuple[Path, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clocks = {kind: ManualClock() for kind in self.kinds}
        self.exits = AsyncExitStack()
        self.permits: dict[str, Permitted] = {}
        self.numbers = itertools.count()
        self.stores = self.runner.run(self._open())

    async def _open(self) -> dict[str, Any]:
        return {
            kind: await self.exits.enter_async_context(open_store(kind, self.clocks[kind], self.url, self.script_path))
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

    @rule(
        outcomes=st.lists(st.sampled_from([*Outcome, Outcome.FAILURE, Outcome.FAILURE]), min_size=1, max_size=4),
        replica_id=st.sampled_from(_REPLICAS),
        told=st.integers(1, 2),
        redeployed=st.sampled_from([False, False, False, True]),
    )
    def calls_end(self, outcomes: list[Outcome], replica_id: str, told: int, redeployed: bool) -> None:
        """Calls that nothing comes between, each told of once or twice: alone they seldom make a run or a recovery."""
        limits = self.other_limits if redeployed else self.limits
        for outcome in outcomes:
            permit_id = f"call-{next(self.numbers)}"
            reply = self.ask("acquire", "c", permit_id, limits, replica_id)
            if isinstance(reply, Permitted):
                failed = outcome is Outcome.FAILURE
                report = Report(
                    permit_id=permit_id,
                    generation=reply.generation,
                    outcome=outcome,
                    error="Boom" if failed else "",
                    replica_id=replica_id,
                    calls=1,
                    failures=int(failed),
                )
                for _ in range(told):
                    self.ask("record", "c", report, limits)

    @rule(
        moment=st.sampled_from(["retry", "lease", "mode", "ramp", "stable", "window"]),
        off_ms=st.sampled_from([-1, 0, 1]),
    )
    def a_moment_is_near(self, moment: str, off_ms: int) -> None:
        """Whatever ends at a moment is looked at beside it as well: a millisecond too early and too late."""
        seen = self.ask("snapshot", "c")
        if seen is None:
            return
        ends_at_ms = {
            "retry": seen.retry_at_ms,
            "lease": seen.probe_until_ms,
            "mode": seen.mode_until_ms,
            "ramp": seen.closed_at_ms and seen.closed_at_ms + self.limits.ramp_ms,
            "stable": seen.closed_at_ms and seen.closed_at_ms + self.limits.stable_ms,
            "window": seen.now_ms + self.limits.window_ms,
        }
        rest_ms = ends_at_ms[moment] + off_ms - seen.now_ms
        if rest_ms > 0:
            self.time_passes(rest_ms / 1000)

    @rule(permit_ids=st.lists(st.sampled_from(_PERMIT_IDS), min_size=1, max_size=3, unique=True))
    def probes_begin(self, permit_ids: list[str]) -> None:
        """The circuit opens for a moment, and after that these are its probes, as many as there is room for."""
        reply = self.ask("acquire", "c", "outage", self.limits, "replica-1")
        told = Report(
            permit_id="outage", generation=reply.generation, outcome=Outcome.FAILURE, error="Boom", open_for_ms=700
        )
        self.ask("record", "c", told, self.limits)
        self.time_passes(0.7)
        for permit_id in permit_ids:
            self.acquire(permit_id, "replica-2", may_probe=True, redeployed=False)

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


def _run(kinds: tuple[str, ...], url: str | None, examples: int, *script_path: Path, **also: Any) -> None:
    chosen = type("Chosen", (Circuit,), {"kinds": kinds, "url": url, "script_path": script_path})
    run_state_machine_as_test(
        chosen,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **also,
        ),
    )


def test_memory_fakeredis_and_a_real_server_answer_alike(valkey_url: str) -> None:
    """The same commands at the same times get the same answers from the Python machine and from the Lua everywhere."""
    _run(("memory", "fake", "real"), valkey_url, examples=15)


def test_memory_and_a_real_server_answer_alike(server_url: str) -> None:
    """The same commands at the same times get the same answers from the Python machine and from each real server."""
    _run(("memory", "real"), server_url, examples=60)


# They show after hundreds of examples, so that finding them here takes long; `tests/interleavings` finds them at once.
_SHOW_SELDOM = {
    "a lost answer is given back by whoever holds a place",
    "calls count for twice as long as the window",
    "a lease counts as long as nobody has removed it",
}


@pytest.mark.parametrize(
    "mistake",
    [mistake for mistake in MISTAKES if mistake.name not in _SHOW_SELDOM],
    ids=lambda mistake: mistake.name,
)
def test_a_mistake_in_a_script_is_noticed(mistake: Mistake, valkey_url: str, tmp_path: Path) -> None:
    """The comparison above fails when a script makes a mistake; the examples are the same each time."""
    mistake.plant(tmp_path)
    with pytest.raises((AssertionError, ScriptError)):
        _run(("memory", "real"), valkey_url, 300, tmp_path, derandomize=True, phases=[Phase.generate])
