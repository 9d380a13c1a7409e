"""Bugs that other breakers had when they count a rate, each held off by a test of its own."""

from __future__ import annotations

import asyncio

import pytest

from breaker import Consistency, FailureRate
from tests.conformance.fleet import COOLDOWN, KEY, Fleet
from tests.conformance.replica import CHARGED, FAILURE, SUCCESS

_ONE_IN_FIVE = [SUCCESS, SUCCESS, SUCCESS, SUCCESS, FAILURE]
_CALLS = 100_000
_LANES = 10
_BUCKETS = 10
# After the first call of each of three replicas, three failures in a row are half of six calls.
_HALF_OF_SIX = FailureRate(threshold=0.5, minimum_calls=6)
_FOR_EVER = 3600.0


# A strict replica counts by the same script, and would ask for each call.
@pytest.mark.timeout(300)  # while branches are counted, on a busy machine
@pytest.mark.parametrize("consistency", [Consistency.MIRRORED], indirect=True, ids=str)
async def test_twenty_percent_errors_never_trip_a_fifty_percent_breaker(fleet: Fleet) -> None:
    """Of 100,000 calls every fifth fails: the circuit stays closed, and not one call is lost to the count."""
    await fleet.start(config=fleet.config(policy=FailureRate(threshold=0.5, window_seconds=60)))
    rounds = 50
    calls_each = len(_ONE_IN_FIVE) * rounds * _LANES
    one_in_five = {CHARGED: calls_each * 4 // 5, "ProviderDownError": calls_each // 5}
    told = 0
    while told < _CALLS:
        ends = await fleet.each(
            lambda member: member.ask("run_side_by_side", hows=_ONE_IN_FIVE, rounds=rounds, lanes=_LANES)
        )
        assert ends == [one_in_five] * 3
        told += 3 * calls_each
        record = fleet.record
        assert (record["state"], int(record["calls"]), int(record["failures"])) == ("closed", told + 3, told // 5)
        await fleet.advance(1)


async def test_late_results_of_a_closed_era_call_count_for_no_rate(fleet: Fleet) -> None:
    """Calls from before the trip come back while open, in half-open and after close: no share moves."""
    _, second, third = await fleet.start(config=fleet.config(policy=_HALF_OF_SIX))
    late = {member: (await member.begin_many(6))[0] for member in fleet.members}

    async def one_of_each_comes_back() -> None:
        before = fleet.everything()
        for member in fleet.members:
            await late[member].pop().succeed()
            await late[member].pop().fail()
        assert fleet.everything() == before

    await fleet.trip()
    await one_of_each_comes_back()
    await fleet.advance(COOLDOWN)
    probe = await fleet.probe(third)
    await one_of_each_comes_back()
    await probe.succeed()
    await fleet.caught_up()
    await second.run(SUCCESS)
    await one_of_each_comes_back()
    assert (fleet.record["calls"], fleet.record["failures"]) == ("1", "0")


@pytest.mark.parametrize("newer", [0, 1])
async def test_successes_that_wait_to_be_told_count_for_their_own_generation_only(fleet: Fleet, newer: int) -> None:
    """What a replica has gathered before a trip says nothing about the circuit that has recovered."""
    first, second, third = await fleet.start(config=fleet.config(policy=_HALF_OF_SIX, flush_seconds=_FOR_EVER))
    await first.ask("run", how=SUCCESS, times=30, wait=False)
    for member in (second, third, second):
        await member.run(FAILURE)
    assert fleet.state == "open"
    await fleet.caught_up()
    await fleet.advance(COOLDOWN)
    probe = await fleet.probe(third)
    await probe.succeed()
    await fleet.caught_up()
    await first.run(SUCCESS, newer)
    assert (fleet.state, fleet.record["calls"]) == ("closed", str(newer))


async def test_calls_of_one_millisecond_and_calls_that_were_told_together_are_all_counted(fleet: Fleet) -> None:
    """Equal timestamps merge into one bucket, and never into one call."""
    first, second, third = await fleet.start(config=fleet.config(policy=FailureRate(minimum_calls=1000)))
    await asyncio.gather(first.run_many(FAILURE, 10), second.run_many(SUCCESS, 20), third.run_many(FAILURE, 5))
    assert (fleet.record["calls"], fleet.record["failures"]) == ("38", "15")


async def test_memory_of_a_rate_is_its_buckets_whatever_the_traffic(fleet: Fleet) -> None:
    """Five times the calls over two windows: as many buckets, and what has left the window is forgotten."""
    await fleet.start(config=fleet.config(policy=FailureRate(window_seconds=10, minimum_calls=10_000)))

    async def two_windows(calls: int) -> int:
        for _ in range(2 * _BUCKETS):
            await fleet.advance(1)
            await fleet.each(
                lambda member: member.ask("run_side_by_side", hows=[SUCCESS, FAILURE], rounds=calls, lanes=1)
            )
        assert int(fleet.record["calls"]) == _BUCKETS * 3 * 2 * calls
        assert fleet.cli.hlen(f"{KEY}:window") <= 3 * _BUCKETS
        keys = [key for key in fleet.cli.scan_iter(f"{KEY}*") if not key.endswith(":events")]
        return sum(fleet.cli.memory_usage(key, samples=0) for key in keys)

    assert await two_windows(5) <= await two_windows(1) + 64


@pytest.mark.parametrize("how", [SUCCESS, FAILURE])
async def test_a_straggler_takes_no_waiting_success_with_it(fleet: Fleet, how: str) -> None:
    """A call from before the trip comes back while successes of today wait to be told: all of those are counted."""
    first, _, third = await fleet.start(config=fleet.config(policy=_HALF_OF_SIX, flush_seconds=_FOR_EVER))
    late = await first.begin()
    probe = await fleet.reach_half_open(third)
    await probe.succeed()
    await fleet.caught_up()
    await first.ask("run", how=SUCCESS, times=30, wait=False)
    await first.ask("finish", call=late.name, how=how, wait=False)
    await first.run(FAILURE)
    assert (fleet.state, fleet.record["calls"], fleet.record["failures"]) == ("closed", "31", "1")
