"""The ten behaviours of a breaker that is correct when calls overlap, each named in full."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import pytest

from breaker import CallTimeoutError, FailureRate
from tests.conformance.fleet import COOLDOWN, LEASE, Fleet
from tests.conformance.replica import CHARGED, FAILURE, SUCCESS, ClientMistakeError, ProviderDownError

_SOON = 0.05
_LATER = 20.0


async def test_1_a_late_success_of_a_closed_era_call_is_ignored_in_half_open(fleet: Fleet) -> None:
    """A call that began before the trip and succeeds during the probe leaves the decision to the probe."""
    first, _, third = await fleet.start()
    await fleet.fail(1)  # From here on a success would be reported: it ends a run of failures.
    late = await first.begin()
    await first.run(SUCCESS)
    probe = await fleet.reach_half_open(third)
    before = fleet.everything()
    assert await late.succeed() == CHARGED
    assert fleet.everything() == before
    await probe.succeed()
    assert fleet.state == "closed"


async def test_2_a_late_failure_of_a_closed_era_call_is_ignored_in_half_open(fleet: Fleet) -> None:
    """A call that began before the trip and fails during the probe does not push the circuit back."""
    first, _, third = await fleet.start()
    late = await first.begin()
    probe = await fleet.reach_half_open(third)
    before = fleet.everything()
    assert isinstance(await late.fail(), ProviderDownError)
    assert fleet.everything() == before
    await probe.succeed()
    assert fleet.state == "closed"


@pytest.mark.parametrize("how", ["succeed", "fail", "end_ignored", "cancel"])
async def test_3_late_results_change_nothing_while_open(fleet: Fleet, how: str) -> None:
    """However a call ends that began before the trip, the open circuit does not move."""
    await fleet.start()
    await fleet.fail(1)
    late = [await member.begin() for member in fleet.members]
    await fleet.fail(2)
    assert fleet.state == "open"
    before = fleet.everything()
    for call in late:
        await getattr(call, how)()
    assert fleet.everything() == before


async def test_4_a_cancelled_probe_frees_its_place(fleet: Fleet) -> None:
    """The client of the probe goes away: somebody else may probe at once, and nothing was decided."""
    first, second, third = await fleet.start()
    probe = await fleet.reach_half_open(first)
    generation = fleet.record["generation"]
    assert (await second.refused()).reason == "probing"
    assert isinstance(await probe.cancel(), asyncio.CancelledError)
    await fleet.caught_up()
    assert (fleet.leases, fleet.state, fleet.record["generation"]) == ([], "half_open", generation)
    again = await fleet.probe(third)
    await again.succeed()
    assert fleet.state == "closed"


async def test_5_clients_that_go_away_while_closed_count_as_nothing(fleet: Fleet) -> None:
    """Cancelled calls neither count as failures nor end a run of failures."""
    await fleet.start()
    await fleet.fail(2)
    before = fleet.everything()
    for member in fleet.members:
        calls, _ = await member.begin_many(10)
        for call in calls:
            assert isinstance(await call.cancel(), asyncio.CancelledError)
    assert fleet.everything() == before
    await fleet.fail(1)
    assert fleet.state == "open"


async def test_6_of_fifty_callers_at_half_open_one_passes(fleet: Fleet) -> None:
    """Fifty callers all over the fleet at the same moment: one is the probe, the others are refused at once."""
    first, second, third = await fleet.start()
    await fleet.trip()
    await fleet.advance(COOLDOWN)
    answers = await asyncio.gather(first.begin_many(17), second.begin_many(17), third.begin_many(16))
    (probe,) = [call for inside, _ in answers for call in inside]
    assert sum((reasons for _, reasons in answers), Counter()) == {"probing": 49}
    assert await probe.succeed() == CHARGED
    assert fleet.events == ["tripped", "half_opened", "closed"]


async def test_7_a_probe_that_is_ignored_gives_its_place_back_and_decides_nothing(fleet: Fleet) -> None:
    """A client's mistake as the probe says nothing of the dependency, and the next caller probes."""
    first, second, _ = await fleet.start()
    probe = await fleet.reach_half_open(first)
    assert isinstance(await probe.end_ignored(), ClientMistakeError)
    await fleet.caught_up()
    assert (fleet.leases, fleet.state, fleet.record["probe_successes"]) == ([], "half_open", "0")
    again = await fleet.probe(second)
    await again.fail()
    assert fleet.state == "open"


async def test_8_a_probe_that_hangs_is_replaced_after_its_lease(fleet: Fleet) -> None:
    """Until the lease lapses everybody is refused for just as long, then another probes, and the first is too late."""
    first, second, third = await fleet.start()
    hanging = await fleet.reach_half_open(first)
    await fleet.advance(LEASE - 0.001)
    refusal = await second.refused()
    assert (refusal.reason, round(refusal.retry_after_seconds, 3)) == ("probing", 0.001)
    await fleet.advance(0.001)
    probe = await fleet.probe(third)
    before = fleet.everything()
    assert await hanging.succeed() == CHARGED
    assert fleet.everything() == before
    await probe.succeed()
    assert fleet.state == "closed"


async def test_9_a_timeout_is_seen_although_the_caller_has_a_deadline_of_its_own(fleet: Fleet) -> None:
    """The breaker's own timeout passes first and is a failure; a caller that gives up before it says nothing."""
    config = fleet.config(call_timeout_seconds=_SOON)
    await fleet.start(config=config)
    ends = [await member.ask("hang", own_deadline_seconds=_LATER) for member in fleet.members]
    assert [type(end) for end in ends] == [CallTimeoutError] * 3
    assert (fleet.state, fleet.record["last_error"]) == ("open", "CallTimeoutError")


async def test_9_a_callers_own_deadline_is_no_failure(fleet: Fleet) -> None:
    """A deadline around the breaker that passes first is the caller's affair, however often it passes."""
    await fleet.start()
    before = fleet.everything()
    ends = [await member.ask("hang", own_deadline_seconds=_SOON) for member in fleet.members]
    assert [type(end) for end in ends] == [TimeoutError] * 3
    assert fleet.everything() == before
    assert await fleet.members[0].run(FAILURE) == {"ProviderDownError": 1}


async def test_10_alternating_failures_trip_a_rate_policy(fleet: Fleet) -> None:
    """Every other call fails, by turns all over the fleet: the twentieth call is the tenth failure, and trips."""
    await fleet.start(warm=False, config=fleet.config(policy=FailureRate(threshold=0.5, minimum_calls=20)))
    turns = zip(itertools.cycle(fleet.members), itertools.cycle([SUCCESS, FAILURE]))
    for member, how in itertools.islice(turns, 19):
        await member.run(how)
    assert (fleet.state, fleet.record["calls"], fleet.record["failures"]) == ("closed", "19", "9")
    await fleet.members[-1].run(FAILURE)
    assert (fleet.state, fleet.record["trip_reason"]) == ("open", "10 of 20 calls failed")
