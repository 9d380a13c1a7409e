from __future__ import annotations

import pytest
import pytest_asyncio

from breaker import BreakerConfig, Mode, Outcome, State
from breaker._types import Permitted, Refused, Reporting, Transition
from tests.contract.circuit import Circuit
from tests.support.stores import ManualClock


@pytest_asyncio.fixture
async def recovering(circuit: Circuit, clock: ManualClock) -> Circuit:
    """A circuit that tripped and whose cooldown is over; nobody has asked yet."""
    await circuit.fail(3)
    clock.advance(30)
    return circuit


async def test_fifty_callers_one_probe(recovering: Circuit) -> None:
    """Of fifty callers after the cooldown exactly one is let through; the others learn when its lease lapses."""
    replies = [await recovering.ask() for _ in range(50)]
    permitted = [reply for reply in replies if isinstance(reply, Permitted)]
    refused = [reply for reply in replies if isinstance(reply, Refused)]
    assert (len(permitted), len(refused)) == (1, 49)
    assert permitted[0].reporting is Reporting.ALL
    assert {(reply.reason, reply.retry_after_ms) for reply in refused} == {("probing", 5_000)}


async def test_a_successful_probe_closes(recovering: Circuit) -> None:
    """After one good probe the circuit is closed with nothing counted."""
    recorded = await recovering.succeed()
    assert (recorded.state, recorded.transition, recorded.failures) == (State.CLOSED, Transition.CLOSED, 0)
    seen = await recovering.view()
    assert (seen.opened_at, seen.retry_at_ms, seen.reopens) == ("", 0, 0)


async def test_a_failed_probe_reopens_for_another_cooldown(recovering: Circuit, clock: ManualClock) -> None:
    """After a bad probe the circuit is open for a whole cooldown again, and counts that it reopened."""
    recorded = await recovering.fail()
    assert (recorded.state, recorded.transition) == (State.OPEN, Transition.REOPENED)
    seen = await recovering.view()
    assert (seen.reopens, seen.retry_at_ms, seen.trip_reason) == (1, clock.now_ms + 30_000, "probe failed")


async def test_an_ignored_probe_gives_its_place_back_at_once(recovering: Circuit) -> None:
    """A cancelled probe decides nothing and the next caller may probe."""
    recorded = await recovering.settle(await recovering.permit(), Outcome.IGNORED)
    assert (recorded.applied, recorded.state) == (True, State.HALF_OPEN)
    await recovering.permit()


async def test_a_silent_prober_is_replaced_when_its_lease_lapses(recovering: Circuit, clock: ManualClock) -> None:
    """Kill the prober: the next probe comes after the lease, not never, and not before."""
    await recovering.permit()
    clock.advance(4.999)
    assert (await recovering.refusal()).retry_after_ms == 1
    clock.advance(0.001)
    await recovering.permit()


async def test_a_probe_that_hangs_reopens_the_circuit(circuit: Circuit, clock: ManualClock) -> None:
    """With the shortest lease there is, the report of a probe that was cut off is taken, late by both its trips."""
    circuit.configure(call_timeout_seconds=4.0, lease_seconds=4.5)
    await circuit.fail(3)
    clock.advance(30)
    probe = await circuit.permit()
    clock.advance(4.499)
    assert (await circuit.settle(probe, Outcome.FAILURE)).transition is Transition.REOPENED


async def test_a_refusal_leaves_lapsed_leases_alone(circuit: Circuit, clock: ManualClock) -> None:
    """Whoever is refused writes nothing: what a clock that is set back brings to life again is still there."""
    circuit.configure(probe_limit=2)
    await circuit.fail(3)
    await circuit.wait_out()
    await circuit.permit()
    clock.advance(1)
    await circuit.permit()
    clock.advance(4)
    circuit.configure(probe_limit=1)
    await circuit.refusal()
    clock.advance(-0.001)
    assert (await circuit.view()).probes_out == 2


async def test_refused_callers_do_not_extend_the_lease(recovering: Circuit, clock: ManualClock) -> None:
    """However many ask meanwhile, the lease lapses when it was going to."""
    await recovering.permit()
    for _ in range(5):
        await recovering.refusal()
        clock.advance(1)
    await recovering.permit()


async def test_a_clock_that_goes_back_does_not_bring_the_cooldown_back(recovering: Circuit, clock: ManualClock) -> None:
    """A replica that is promoted may be behind: who asks meanwhile still waits for the probe, not for the cooldown."""
    probe = await recovering.permit()
    clock.advance(-10)
    assert (await recovering.refusal()).reason == "probing"
    assert (await recovering.settle(probe, Outcome.IGNORED)).applied
    await recovering.permit()


@pytest.mark.parametrize("outcome", list(Outcome))
async def test_a_probe_that_comes_back_after_its_lease_is_stale(
    recovering: Circuit, clock: ManualClock, outcome: Outcome
) -> None:
    """Once its lease has lapsed, a probe decides nothing, whether or not another has taken its place."""
    late = await recovering.permit()
    clock.advance(5)
    assert not (await recovering.settle(late, outcome)).applied
    successor = await recovering.permit()
    assert not (await recovering.settle(late, outcome)).applied
    assert (await recovering.settle(successor, Outcome.SUCCESS)).state is State.CLOSED


async def test_a_result_of_round_one_is_ignored_in_round_two(recovering: Circuit, clock: ManualClock) -> None:
    """A straggling probe of the first half-open round neither closes nor reopens the second."""
    first = await recovering.permit()
    clock.advance(5)
    await recovering.fail()
    clock.advance(30)
    second = await recovering.permit()
    assert not (await recovering.settle(first, Outcome.SUCCESS)).applied
    assert (await recovering.view()).state is State.HALF_OPEN
    assert (await recovering.settle(second, Outcome.SUCCESS)).applied


@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.FAILURE])
async def test_a_closed_era_straggler_is_ignored(circuit: Circuit, clock: ManualClock, outcome: Outcome) -> None:
    """A call from before the trip that ends while half-open, or after closing, changes nothing."""
    straggler = await circuit.permit()
    await circuit.fail(3)
    clock.advance(30)
    probe = await circuit.permit()
    assert not (await circuit.settle(straggler, outcome)).applied
    await circuit.settle(probe, Outcome.SUCCESS)
    assert not (await circuit.settle(straggler, outcome)).applied
    assert (await circuit.view()).failures == 0


async def test_asking_twice_with_one_permit_takes_one_place(recovering: Circuit, clock: ManualClock) -> None:
    """An `acquire` whose answer was lost may be repeated: same place, same lease, until that lapses."""
    await recovering.permit("again")
    lease_until = (await recovering.view()).probe_until_ms
    clock.advance(1)
    await recovering.permit("again")
    seen = await recovering.view()
    assert (seen.probes_out, seen.probe_until_ms) == (1, lease_until)
    clock.advance(4)
    await recovering.permit("again")
    assert (await recovering.view()).probe_until_ms == clock.now_ms + 5_000


async def test_a_probe_whose_answer_was_lost_can_be_given_back(recovering: Circuit) -> None:
    """Who does not know what it was granted can still return the place, and only the place."""
    await recovering.permit("lost")
    before = await recovering.view()
    for outcome in (Outcome.FAILURE, Outcome.SUCCESS):
        assert not (await recovering.tell("lost", 0, outcome)).applied
    assert await recovering.view() == before
    assert (await recovering.tell("lost", 0, Outcome.IGNORED)).applied
    await recovering.permit()
    assert not (await recovering.tell("lost", 0, Outcome.FAILURE)).applied


async def test_several_successes_may_be_asked_for(circuit: Circuit, clock: ManualClock) -> None:
    """With three probe successes the circuit closes at the third, and a failure in between reopens it."""
    circuit.limits = BreakerConfig(call_timeout_seconds=4.0, probe_limit=2, probe_successes=3).limits()
    await circuit.fail(3)
    clock.advance(30)
    assert (await circuit.succeed()).state is State.HALF_OPEN
    pair = await circuit.permit(), await circuit.permit()
    assert (await circuit.refusal()).reason == "probing"
    assert (await circuit.settle(pair[0], Outcome.SUCCESS)).state is State.HALF_OPEN
    assert (await circuit.settle(pair[1], Outcome.SUCCESS)).transition is Transition.CLOSED


async def test_who_leaves_probing_to_others_waits_and_changes_nothing(circuit: Circuit, clock: ManualClock) -> None:
    """With a background probe no user's call is the canary: after the cooldown it is refused for as long as a lease."""
    await circuit.fail(3)
    clock.advance(30)
    before = await circuit.view()
    refused = await circuit.refusal(may_probe=False)
    assert (refused.reason, refused.state, refused.retry_after_ms) == ("probing", State.OPEN, 5_000)
    assert await circuit.view() == before


async def test_who_leaves_probing_to_others_still_sees_the_cooldown(circuit: Circuit, clock: ManualClock) -> None:
    """While the cooldown runs its rest is the answer, to the last millisecond."""
    await circuit.fail(3)
    clock.advance(29.999)
    refused = await circuit.refusal(may_probe=False)
    assert (refused.reason, refused.retry_after_ms) == ("open", 1)


async def test_who_leaves_probing_to_others_takes_no_free_place(circuit: Circuit, clock: ManualClock) -> None:
    """In the middle of recovery, too, a place is left to those who may; the wait is the rest of the first lease."""
    circuit.configure(probe_limit=2)
    await circuit.fail(3)
    clock.advance(30)
    probe = await circuit.permit("probe")
    clock.advance(2)
    refused = await circuit.refusal(may_probe=False)
    assert (refused.reason, refused.state, refused.retry_after_ms) == ("probing", State.HALF_OPEN, 3_000)
    assert (await circuit.refusal("probe", may_probe=False)).reason == "probing"
    assert (await circuit.view()).probes_out == 1
    clock.advance(3)
    assert (await circuit.refusal(may_probe=False)).retry_after_ms == 5_000
    assert not (await circuit.settle(probe, Outcome.SUCCESS)).applied
    await circuit.succeed()
    assert isinstance(await circuit.ask(may_probe=False), Permitted)


async def test_who_leaves_probing_to_others_goes_through_when_metrics_are_only_watched(recovering: Circuit) -> None:
    """Where nothing is refused, who may not probe is let through and not counted."""
    await recovering.set_mode(Mode.METRICS_ONLY)
    reply = await recovering.ask(may_probe=False)
    assert isinstance(reply, Permitted)
    assert (reply.state, reply.reporting, reply.transition) == (State.OPEN, Reporting.NOTHING, None)
    await recovering.settle(await recovering.permit(), Outcome.IGNORED)
    reply = await recovering.ask(may_probe=False)
    assert (reply.state, (await recovering.view()).probes_out) == (State.HALF_OPEN, 0)


async def test_two_places_are_two_leases(circuit: Circuit, clock: ManualClock) -> None:
    """Each probe has a lease of its own; who is refused waits for the first of them to lapse."""
    circuit.configure(probe_limit=2)
    await circuit.fail(3)
    clock.advance(30)
    await circuit.permit()
    clock.advance(2)
    await circuit.permit()
    seen = await circuit.view()
    assert (seen.probes_out, seen.probe_until_ms) == (2, clock.now_ms + 3_000)
    assert (await circuit.refusal()).retry_after_ms == 3_000
    clock.advance(3)
    await circuit.permit()
    assert (await circuit.refusal()).retry_after_ms == 2_000


async def test_successes_of_one_recovery_do_not_count_in_the_next(circuit: Circuit) -> None:
    """A reopening forgets the good probes before it."""
    circuit.configure(probe_successes=2)
    await circuit.fail(3)
    await circuit.wait_out()
    await circuit.succeed()
    assert (await circuit.view()).probe_successes == 1
    await circuit.fail()
    assert (await circuit.view()).probe_successes == 0
    await circuit.wait_out()
    assert (await circuit.succeed()).state is State.HALF_OPEN
    assert (await circuit.succeed()).state is State.CLOSED
    assert (await circuit.view()).probe_successes == 0


async def test_an_ignored_probe_is_no_success(circuit: Circuit) -> None:
    """A cancelled probe adds nothing to the successes that close."""
    circuit.configure(probe_successes=2)
    await circuit.fail(3)
    await circuit.wait_out()
    await circuit.succeed()
    await circuit.settle(await circuit.permit(), Outcome.IGNORED)
    assert (await circuit.view()).probe_successes == 1


async def test_what_a_failed_probe_leaves_behind(recovering: Circuit, clock: ManualClock) -> None:
    """The record names the probe's error and replica, and the failures that tripped stay readable."""
    clock.advance(3)
    await recovering.fail(by="replica-2", error="ConnectError")
    seen = await recovering.view()
    assert (seen.last_error, seen.tripped_by, seen.failures) == ("ConnectError", "replica-2", 3)
    assert (seen.opened_at_ms, seen.opened_at) == (clock.now_ms, "2025-12-17T19:33:53.000Z")


async def test_what_a_good_probe_leaves_behind(recovering: Circuit, clock: ManualClock) -> None:
    """The record shows when it closed; why it had tripped, and the last error, stay for whoever looks later."""
    await recovering.succeed()
    seen = await recovering.view()
    assert (seen.closed_at_ms, seen.opened_at_ms, seen.probes_out) == (clock.now_ms, 0, 0)
    assert (seen.trip_reason, seen.last_error) == ("3 consecutive failures", "ReadTimeout")


async def test_an_ignored_probe_closes_nothing_though_enough_have_succeeded(circuit: Circuit) -> None:
    """Fewer successes are asked for than there were: the next one closes, and no outcome that says nothing."""
    circuit.configure(probe_limit=3, probe_successes=3)
    await circuit.fail(3)
    await circuit.wait_out()
    first, second, third = [await circuit.permit() for _ in range(3)]
    await circuit.settle(first, Outcome.SUCCESS)
    circuit.configure(probe_limit=3, probe_successes=1)
    assert (await circuit.settle(second, Outcome.IGNORED)).transition is None
    assert (await circuit.settle(third, Outcome.SUCCESS)).transition is Transition.CLOSED
