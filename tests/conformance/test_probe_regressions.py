"""Bugs that other breakers had when they recovered, each held off by a test of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conformance.fleet import COOLDOWN, LEASE, Fleet
from tests.conformance.replica import CHARGED, FAILURE, SUCCESS
from tests.support.stores import START_SECONDS

_ENDS = pytest.mark.parametrize("how", [SUCCESS, FAILURE])
_EIGHT = 8
_CALLS_EACH = 10


@contextmanager
def refusing_writes(fleet: Fleet) -> Iterator[None]:
    """Let the server answer every script that may write with an error."""
    fleet.cli.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        fleet.cli.config_set("min-replicas-to-write", 0)


async def test_a_killed_prober_is_replaced_after_its_lease(fleet: Fleet) -> None:
    """The prober's process dies: until its lease lapses nobody probes, then somebody does."""
    first, second, third = await fleet.start()
    await fleet.reach_half_open(first)
    await first.kill()
    assert (await second.refused()).reason == "probing"
    await fleet.advance(LEASE - 0.001)
    assert (await third.refused()).reason == "probing"
    await fleet.advance(0.001)
    probe = await fleet.probe(second)
    assert await probe.succeed() == CHARGED
    assert fleet.state == "closed"


async def test_refused_callers_do_not_extend_the_lease(fleet: Fleet) -> None:
    """However many callers are refused while the probe is out, its lease lapses when it would have anyway."""
    first, second, third = await fleet.start()
    await fleet.reach_half_open(first)
    assert fleet.leases == [round(LEASE * 1000)]
    for _ in range(3):
        await fleet.advance(LEASE / 4)
        before = fleet.everything()
        assert await second.run_many(SUCCESS, 20) == {"probing": 20}
        assert fleet.everything() == before
    await fleet.advance(LEASE / 4)
    assert fleet.leases == [0]
    await fleet.probe(third)


async def test_a_redis_error_while_a_probe_reports_heals_by_itself(fleet: Fleet) -> None:
    """The report of a probe is lost to an error: its caller has its result, and the next probe closes the circuit."""
    first, second, _ = await fleet.start(pause_seconds=0)
    probe = await fleet.reach_half_open(first)
    with refusing_writes(fleet):
        assert await probe.succeed() == CHARGED
    assert (fleet.state, len(fleet.leases)) == ("half_open", 1)
    assert await first.ask("degraded")
    await fleet.advance(LEASE)
    again = await second.begin()
    assert await again.succeed() == CHARGED
    await fleet.caught_up()
    assert await first.run(FAILURE) == {"ProviderDownError": 1}
    assert (fleet.state, fleet.record["failures"]) == ("closed", "1")
    assert not await first.ask("degraded")


@_ENDS
async def test_a_result_of_round_one_is_ignored_in_round_two(fleet: Fleet, how: str) -> None:
    """A probe whose lease has lapsed comes back during the next half-open round and says nothing about it."""
    first, second, third = await fleet.start()
    late = await fleet.reach_half_open(first)
    await fleet.advance(LEASE)
    probe = await fleet.probe(second)
    await probe.fail()
    await fleet.caught_up()
    await fleet.advance(COOLDOWN)
    second_round = await fleet.probe(third)
    before = fleet.everything()
    await late.end(how)
    assert fleet.everything() == before
    assert await second_round.succeed() == CHARGED
    assert fleet.events == ["tripped", "half_opened", "reopened", "half_opened", "closed"]


@_ENDS
async def test_a_closed_era_straggler_is_ignored_in_half_open_and_after_close(fleet: Fleet, how: str) -> None:
    """However they are guarded, calls from before the trip count neither for the recovery nor after it."""
    first, _, third = await fleet.start()
    await fleet.fail(1)  # From here on a success would be reported as well.
    during, after = [[await member.begin() for member in fleet.members] for _ in range(2)]
    await first.run(SUCCESS)
    probe = await fleet.reach_half_open(third)
    before = fleet.everything()
    for late in during:
        await late.end(how)
    assert fleet.everything() == before
    await probe.succeed()
    await fleet.caught_up()
    await third.run(FAILURE)  # A success that counted would end this run of failures.
    await fleet.caught_up()
    before = fleet.everything()
    for late in after:
        await late.end(how)
    assert fleet.everything() == before
    assert fleet.record["failures"] == "1"


async def test_a_late_success_cannot_close_an_open_circuit(fleet: Fleet) -> None:
    """Neither a call from before the trip nor a probe whose lease has lapsed closes a circuit that is open."""
    first, second, third = await fleet.start()
    await fleet.fail(1)
    closed_era = await third.begin()
    await third.run(SUCCESS)
    lapsed = await fleet.reach_half_open(first)
    await fleet.advance(LEASE)
    probe = await fleet.probe(second)
    await probe.fail()
    before = fleet.everything()
    assert [await closed_era.succeed(), await lapsed.succeed()] == [CHARGED, CHARGED]
    assert fleet.everything() == before
    assert fleet.state == "open"


async def test_eight_replicas_send_one_probe(fleet: Fleet) -> None:
    """Eighty callers in eight replicas at the half-open moment: one reaches the dependency."""
    await fleet.start(_EIGHT)
    await fleet.trip()
    await fleet.advance(COOLDOWN)
    answers = await fleet.each(lambda member: member.begin_many(_CALLS_EACH))
    (probe,) = [call for inside, _ in answers for call in inside]
    assert sum((reasons for _, reasons in answers), Counter()) == {"probing": _EIGHT * _CALLS_EACH - 1}
    assert await probe.succeed() == CHARGED
    assert fleet.state == "closed"


async def test_of_a_hundred_callers_at_the_end_of_the_cooldown_one_is_admitted(fleet: Fleet) -> None:
    """A millisecond before the end of the cooldown none of them passes, at its end exactly one."""
    first, second, third = await fleet.start()
    await fleet.trip()
    await fleet.advance(COOLDOWN - 0.001)
    early = await fleet.each(lambda member: member.run_many(SUCCESS, 34))
    assert early == [{"open": 34}] * 3
    await fleet.advance(0.001)
    answers = await asyncio.gather(first.begin_many(34), second.begin_many(33), third.begin_many(33))
    assert sum(len(inside) for inside, _ in answers) == 1
    assert sum((reasons for _, reasons in answers), Counter()) == {"probing": 99}


async def test_a_skewed_host_opens_neither_early_nor_late(fleet: Fleet) -> None:
    """Hosts whose time of day is hours off: every moment is the server's, and the cooldown is as long for all."""
    await fleet.start()
    for member, hours in zip(fleet.members, (1, -1, 100), strict=True):
        await member.ask("skew", seconds=hours * 3600)
    await fleet.trip()
    assert fleet.record["opened_at_ms"] == str(round(START_SECONDS * 1000))
    for member in fleet.members:
        assert round((await member.refused()).retry_after_seconds, 3) == COOLDOWN
    await fleet.advance(COOLDOWN - 0.001)
    for member in fleet.members:
        assert round((await member.refused()).retry_after_seconds, 3) == 0.001
    await fleet.advance(0.001)
    for member in fleet.members:
        probe = await fleet.probe(member)
        await probe.cancel()
        await fleet.caught_up()
