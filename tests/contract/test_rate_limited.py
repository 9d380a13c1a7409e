from __future__ import annotations

import pytest

from breaker import FailureRate, Outcome, State
from breaker._types import Transition
from tests.contract.circuit import Circuit
from tests.support.stores import ManualClock


@pytest.mark.parametrize("options", [{}, {"policy": FailureRate()}, {"minimum_reporters": 2}])
async def test_a_rate_limited_answer_opens_at_once(
    circuit: Circuit, clock: ManualClock, options: dict[str, object]
) -> None:
    """One answer that says how long to stay away is enough, whatever the policy asks for, and is taken at its word."""
    circuit.configure(**options)
    recorded = await circuit.fail(open_for_ms=7_000, error="RateLimitError")
    assert (recorded.state, recorded.transition, recorded.failures) == (State.OPEN, Transition.TRIPPED, 1)
    seen = await circuit.view()
    assert (seen.trip_reason, seen.last_error, seen.tripped_by) == ("rate limited", "RateLimitError", "replica-1")
    assert (seen.opened_at_ms, seen.retry_at_ms, seen.reopens) == (clock.now_ms, clock.now_ms + 7_000, 0)
    (entry,) = await circuit.log()
    assert (entry.kind, entry.reason) == (Transition.TRIPPED, "rate limited")


async def test_a_rate_limited_circuit_probes_exactly_when_it_was_told(circuit: Circuit, clock: ManualClock) -> None:
    """One millisecond before the moment is refused, the moment itself is not."""
    await circuit.fail(open_for_ms=45_000)
    clock.advance(44.999)
    assert (await circuit.refusal()).retry_after_ms == 1
    clock.advance(0.001)
    assert (await circuit.permit())[1].state is State.HALF_OPEN


async def test_a_rate_limited_probe_reopens_until_it_was_told(circuit: Circuit, clock: ManualClock) -> None:
    """A probe that is told to stay away sets the moment, although the cooldown would be another."""
    circuit.configure(cooldown_multiplier=2)
    await circuit.fail(3)
    await circuit.wait_out()
    recorded = await circuit.fail(open_for_ms=7_000)
    assert (recorded.state, recorded.transition) == (State.OPEN, Transition.REOPENED)
    seen = await circuit.view()
    assert (seen.trip_reason, seen.retry_at_ms, seen.reopens) == ("rate limited", clock.now_ms + 7_000, 1)


@pytest.mark.parametrize(("told_ms", "believed_ms"), [(99_999, 99_999), (100_000, 100_000), (100_001, 100_000)])
async def test_only_so_much_is_believed(circuit: Circuit, clock: ManualClock, told_ms: int, believed_ms: int) -> None:
    """A dependency that says to stay away for ever does not switch itself off: the longest cooldown is the limit."""
    circuit.configure(max_cooldown_seconds=100)
    await circuit.fail(open_for_ms=told_ms)
    assert (await circuit.view()).retry_at_ms == clock.now_ms + believed_ms


async def test_the_limit_is_that_of_a_cooldown_in_force(circuit: Circuit, clock: ManualClock) -> None:
    """What an operator set as the longest cooldown is what is believed."""
    await circuit.permit()
    await circuit.adjust(max_cooldown_ms=5_000)
    await circuit.fail(open_for_ms=7_000)
    assert (await circuit.view()).retry_at_ms == clock.now_ms + 5_000


async def test_a_millisecond_is_enough_to_open(circuit: Circuit, clock: ManualClock) -> None:
    """The shortest moment opens too."""
    await circuit.fail(open_for_ms=1)
    assert (await circuit.view()).retry_at_ms == clock.now_ms + 1


async def test_a_stale_rate_limited_answer_changes_nothing(circuit: Circuit, clock: ManualClock) -> None:
    """A straggler neither opens a circuit that has closed, nor prolongs one that is open or half-open."""
    straggler = await circuit.permit()
    await circuit.fail(3)
    for _ in range(3):
        before = await circuit.view()
        assert not (await circuit.settle(straggler, Outcome.FAILURE, open_for_ms=7_000)).applied
        assert await circuit.view() == before
        if before.state is State.OPEN:
            clock.advance(30)
            probe = await circuit.permit()
        else:
            await circuit.settle(probe, Outcome.SUCCESS)
    assert (await circuit.view()).state is State.CLOSED


async def test_a_lapsed_probe_that_was_rate_limited_changes_nothing(circuit: Circuit, clock: ManualClock) -> None:
    """Without its place a probe has no say, whatever it was told."""
    await circuit.fail(3)
    await circuit.wait_out()
    probe = await circuit.permit()
    clock.advance(5)
    assert not (await circuit.settle(probe, Outcome.FAILURE, open_for_ms=7_000)).applied
    assert (await circuit.view()).state is State.HALF_OPEN
