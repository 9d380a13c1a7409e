from __future__ import annotations

import pytest

from breaker import FailureRate, Mode, Outcome, State
from breaker._types import Reporting
from tests.contract.circuit import NAME, Circuit
from tests.support.stores import ManualClock


async def test_forced_open_refuses_whatever_the_state(circuit: Circuit) -> None:
    """An operator closes the road although the machine beneath is closed; without an end, the pause is a cooldown."""
    await circuit.set_mode(Mode.FORCED_OPEN)
    refused = await circuit.refusal()
    assert (refused.reason, refused.state, refused.retry_after_ms) == ("forced_open", State.CLOSED, 30_000)


async def test_forced_open_with_an_end_names_it(circuit: Circuit, clock: ManualClock) -> None:
    """The rest of the mode is what a refused caller is told; when it is over, calls go through again."""
    await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=600)
    clock.advance(540)
    assert (await circuit.refusal()).retry_after_ms == 60_000
    assert (await circuit.view()).retry_after_seconds == 60.0
    clock.advance(60)
    _, permit = await circuit.permit()
    assert permit.mode is Mode.AUTO
    assert (await circuit.view()).mode_reason == ""


async def test_a_mode_may_last_for_a_millisecond(circuit: Circuit, clock: ManualClock) -> None:
    """However short a time is, it is not until further notice."""
    await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=0.001)
    assert (await circuit.refusal()).retry_after_ms == 1
    clock.advance(0.001)
    await circuit.permit()


async def test_forced_closed_lets_everything_through_uncounted(circuit: Circuit) -> None:
    """An operator opens the road although the machine beneath is open; outcomes are not asked for."""
    await circuit.fail(3)
    await circuit.set_mode(Mode.FORCED_CLOSED)
    _, permit = await circuit.permit()
    assert (permit.state, permit.reporting) == (State.OPEN, Reporting.NOTHING)


async def test_metrics_only_watches_without_refusing(circuit: Circuit, clock: ManualClock) -> None:
    """The machine trips, probes and closes as ever, and what it would refuse goes through."""
    await circuit.set_mode(Mode.METRICS_ONLY)
    assert (await circuit.fail(3)).state is State.OPEN
    beside = await circuit.permit()
    assert beside[1].reporting is Reporting.NOTHING
    assert not (await circuit.settle(beside, Outcome.FAILURE)).applied
    clock.advance(30)
    probe, beside = await circuit.permit(), await circuit.permit()
    assert (probe[1].reporting, beside[1].reporting) == (Reporting.ALL, Reporting.NOTHING)
    assert (await circuit.settle(probe, Outcome.SUCCESS)).state is State.CLOSED


async def test_auto_hands_the_circuit_back_as_it_was(circuit: Circuit) -> None:
    """A mode covers the machine's state, it does not change it."""
    await circuit.fail(3)
    opened = await circuit.view()
    await circuit.set_mode(Mode.FORCED_CLOSED)
    seen = await circuit.set_mode(Mode.AUTO)
    assert (seen.state, seen.generation, seen.retry_at_ms) == (State.OPEN, opened.generation, opened.retry_at_ms)
    assert (seen.mode_reason, seen.mode_actor, seen.mode_until_ms) == ("", "", 0)
    assert (await circuit.refusal()).reason == "open"
    assert "mode_expired" not in await circuit.happened()


async def test_reset_closes_and_ends_the_mode(circuit: Circuit) -> None:
    """Whatever the circuit was, a reset makes it closed, with nothing counted, under the machine."""
    await circuit.fail(3)
    await circuit.set_mode(Mode.FORCED_OPEN)
    seen = await circuit.set_mode(None)
    assert (seen.state, seen.mode, seen.failures, seen.mode_actor) == (State.CLOSED, Mode.AUTO, 0, "")
    await circuit.permit()


async def test_a_mode_can_be_set_before_the_first_call(circuit: Circuit) -> None:
    """Who knows that a provider will be away need not wait for a call to create the circuit."""
    seen = await circuit.set_mode(Mode.FORCED_OPEN)
    assert (seen.mode_reason, seen.mode_actor, seen.state) == ("because", "anna", State.CLOSED)
    assert await circuit.store.names() == [NAME]


async def test_a_mode_that_is_over_is_shown_as_over(circuit: Circuit, clock: ManualClock) -> None:
    """Reading tells the truth although it writes nothing."""
    await circuit.set_mode(Mode.METRICS_ONLY, for_seconds=1)
    clock.advance(1)
    seen, again = await circuit.view(), await circuit.view()
    assert (seen.mode, seen.mode_until_ms) == (Mode.AUTO, 0)
    assert seen == again


@pytest.mark.parametrize("mode", [Mode.FORCED_OPEN, Mode.FORCED_CLOSED])
async def test_a_forced_mode_does_not_hand_out_probes(circuit: Circuit, clock: ManualClock, mode: Mode) -> None:
    """While an operator decides, the machine stays where it is."""
    await circuit.fail(3)
    clock.advance(30)
    await circuit.set_mode(mode)
    await circuit.ask()
    seen = await circuit.view()
    assert (seen.state, seen.probes_out) == (State.OPEN, 0)


async def test_forced_closed_counts_nothing_of_a_rate(circuit: Circuit) -> None:
    """What an operator lets through stays out of the window."""
    circuit.configure(policy=FailureRate(minimum_calls=1))
    await circuit.set_mode(Mode.FORCED_CLOSED)
    assert (await circuit.permit())[1].reporting is Reporting.NOTHING


async def test_metrics_only_watches_a_rate(circuit: Circuit) -> None:
    """The window fills and trips as ever."""
    circuit.configure(policy=FailureRate(minimum_calls=2))
    await circuit.set_mode(Mode.METRICS_ONLY)
    assert (await circuit.permit())[1].reporting is Reporting.COUNTED
    assert (await circuit.count(2, 1)).state is State.OPEN
    await circuit.permit()


async def test_metrics_only_lets_through_beside_the_probes(circuit: Circuit, clock: ManualClock) -> None:
    """While the places are taken others go through uncounted, and a place that is given back is a probe's again."""
    await circuit.set_mode(Mode.METRICS_ONLY)
    await circuit.fail(3)
    clock.advance(30)
    probe = await circuit.permit("probe")
    assert (await circuit.permit("probe"))[1].reporting is Reporting.ALL
    beside = await circuit.permit()
    assert (beside[1].state, beside[1].transition) == (State.HALF_OPEN, None)
    assert not (await circuit.settle(beside, Outcome.FAILURE)).applied
    await circuit.settle(probe, Outcome.IGNORED)
    assert (await circuit.permit())[1].reporting is Reporting.ALL


@pytest.mark.parametrize("mode", list(Mode))
async def test_a_mode_shows_who_set_it_and_until_when(circuit: Circuit, clock: ManualClock, mode: Mode) -> None:
    """A mode carries its reason, its actor and its end; auto carries nothing, whatever was said with it."""
    seen = await circuit.set_mode(mode, for_seconds=90)
    expected = ("", "", 0) if mode is Mode.AUTO else ("because", "anna", clock.now_ms + 90_000)
    assert seen.mode is mode
    assert (seen.mode_reason, seen.mode_actor, seen.mode_until_ms) == expected
    assert await circuit.view() == seen


async def test_a_mode_holds_to_its_last_millisecond(circuit: Circuit, clock: ManualClock) -> None:
    """One millisecond before the end it refuses, at the end it does not, and reading says the same."""
    await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=10)
    clock.advance(9.999)
    assert (await circuit.view()).mode is Mode.FORCED_OPEN
    assert (await circuit.refusal()).retry_after_ms == 1
    clock.advance(0.001)
    seen = await circuit.view()
    assert (seen.mode, seen.mode_reason, seen.mode_actor, seen.mode_until_ms) == (Mode.AUTO, "", "", 0)
    await circuit.permit()


@pytest.mark.parametrize("mode", [Mode.FORCED_OPEN, Mode.FORCED_CLOSED, Mode.METRICS_ONLY])
async def test_every_answer_tells_for_how_much_longer_a_mode_holds(
    circuit: Circuit, clock: ManualClock, mode: Mode
) -> None:
    """Whoever asks learns the mode and its rest, to the last millisecond; without an end the rest is 0."""
    await circuit.set_mode(mode, for_seconds=10)
    clock.advance(4)
    assert ((await circuit.ask()).mode, (await circuit.ask()).mode_rest_ms) == (mode, 6_000)
    clock.advance(5.999)
    assert ((await circuit.ask()).mode, (await circuit.ask()).mode_rest_ms) == (mode, 1)
    clock.advance(0.001)
    assert ((await circuit.ask()).mode, (await circuit.ask()).mode_rest_ms) == (Mode.AUTO, 0)
    await circuit.set_mode(mode)
    assert ((await circuit.ask()).mode, (await circuit.ask()).mode_rest_ms) == (mode, 0)


async def test_probes_and_whoever_goes_through_beside_them_learn_the_rest_of_a_mode(
    circuit: Circuit, clock: ManualClock
) -> None:
    """In every state of the machine beneath the answer is the same, a repeated question included."""
    await circuit.set_mode(Mode.METRICS_ONLY, for_seconds=60)
    await circuit.fail(3)
    assert (await circuit.ask()).mode_rest_ms == 60_000
    clock.advance(30)
    assert [(await circuit.ask(each)).mode_rest_ms for each in ("probe", "probe", "beside")] == [30_000] * 3


async def test_in_auto_no_answer_tells_of_the_rest_of_a_mode(circuit: Circuit) -> None:
    """Permitted or refused, where no operator has a say there is nothing that ends."""
    assert (await circuit.ask()).mode_rest_ms == 0
    await circuit.fail(3)
    assert (await circuit.refusal()).mode_rest_ms == 0


async def test_a_new_mode_takes_the_place_of_the_old_with_its_end(circuit: Circuit, clock: ManualClock) -> None:
    """A mode without an end does not inherit one."""
    await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=10)
    seen = await circuit.set_mode(Mode.FORCED_CLOSED)
    assert seen.mode_until_ms == 0
    clock.advance(10)
    assert (await circuit.permit())[1].mode is Mode.FORCED_CLOSED


async def test_a_report_does_not_end_a_mode(circuit: Circuit, clock: ManualClock) -> None:
    """A mode that is over is shown as over, and its end is written by the next who asks."""
    permit = await circuit.permit()
    await circuit.set_mode(Mode.METRICS_ONLY, for_seconds=10)
    clock.advance(10)
    assert (await circuit.settle(permit, Outcome.FAILURE)).failures == 1
    assert (await circuit.view()).mode is Mode.AUTO
    assert await circuit.happened() == ["mode_changed"]


async def test_a_reset_of_an_unknown_circuit_makes_one(circuit: Circuit, clock: ManualClock) -> None:
    """It is closed, has a generation of its own, and the reset is on record."""
    seen = await circuit.set_mode(None)
    assert (seen.state, seen.generation, seen.revision) == (State.CLOSED, clock.now_ms + 1, 2)
    assert await circuit.happened() == ["reset"]


async def test_a_reset_leaves_what_explains_the_past(circuit: Circuit, clock: ManualClock) -> None:
    """Why it had tripped stays readable; what would act on the future is gone."""
    circuit.configure(probe_successes=2)
    await circuit.fail(3)
    clock.advance(30)
    await circuit.succeed()
    await circuit.permit()
    seen = await circuit.set_mode(None)
    assert (seen.trip_reason, seen.last_error) == ("3 consecutive failures", "ReadTimeout")
    assert (seen.opened_at, seen.opened_at_ms, seen.retry_at_ms, seen.failures) == ("", 0, 0, 0)
    assert (seen.probe_successes, seen.probes_out, seen.probe_until_ms) == (0, 0, 0)
