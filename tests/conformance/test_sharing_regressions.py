"""Bugs that other breakers had in what they share: counts, keys, scripts, settings."""

from __future__ import annotations

from collections import Counter

import pytest

from breaker import Consecutive, Mode, Override
from tests.conformance.fleet import COOLDOWN, KEY, LEASE, NAME, Fleet
from tests.conformance.replica import CHARGED, FAILURE, SUCCESS
from tests.support.stores import START_SECONDS

_FORCED_OPEN = Override(mode=Mode.FORCED_OPEN, reason="maintenance", actor="anna", duration_ms=1000)
_RESET = Override(mode=None, reason="again", actor="anna")
# The stream is trimmed by whole nodes of a hundred entries.
_MOST_EVENTS = 1100


async def read_by_everybody(fleet: Fleet) -> None:
    """Read the circuit in every way and assert that nothing was written."""
    before = fleet.everything()
    for member in fleet.members:
        await member.ask("read")
        await member.ask("peek")
    assert fleet.everything() == before


async def test_reading_the_state_changes_nothing(fleet: Fleet) -> None:
    """Whoever reads moves no circuit, not even one whose cooldown, lease or mode is over, and begins none."""
    first, *_ = await fleet.start(warm=False)
    await read_by_everybody(fleet)
    assert fleet.everything() == {}
    await fleet.each(lambda member: member.run(SUCCESS))
    await fleet.trip()
    await read_by_everybody(fleet)
    await fleet.advance(COOLDOWN)
    await read_by_everybody(fleet)
    assert fleet.state == "open"
    await fleet.probe(first)
    await fleet.advance(LEASE)
    await read_by_everybody(fleet)
    assert fleet.leases == [0]
    await first.ask("control", override=_FORCED_OPEN)
    await fleet.advance(1)
    await read_by_everybody(fleet)
    assert fleet.record["mode"] == "forced_open"


async def test_fifty_concurrent_failures_with_threshold_five_trip_once(fleet: Fleet) -> None:
    """Fifty calls fail at the same moment: five count, the circuit trips once, and every caller gets its own error."""
    await fleet.start(config=fleet.config(policy=Consecutive(5)))
    begun = [await member.begin_many(count) for member, count in zip(fleet.members, (17, 17, 16), strict=True)]
    by_member = dict(zip(fleet.members, (inside for inside, _ in begun), strict=True))
    ends = await fleet.each(lambda member: member.end_many(by_member[member], FAILURE))
    assert Counter(type(end).__name__ for each in ends for end in each) == {"ProviderDownError": 50}
    assert (fleet.state, fleet.record["failures"], fleet.events) == ("open", "5", ["tripped"])


async def test_equal_timestamps_are_not_merged(fleet: Fleet) -> None:
    """Failures in one and the same millisecond are as many as they are, from one replica or from several."""
    first, second, third = await fleet.start(config=fleet.config(policy=Consecutive(9)))
    for failures, member in ((3, first), (6, second), (8, third)):
        await member.run_many(FAILURE, failures - int(fleet.record["failures"]))
        assert (fleet.state, fleet.record["failures"]) == ("closed", str(failures))
    await third.run(FAILURE)
    assert (fleet.state, fleet.record["failures"]) == ("open", "9")
    assert fleet.record["opened_at_ms"] == str(round(START_SECONDS * 1000))


async def test_two_breakers_never_share_keys(fleet: Fleet) -> None:
    """Circuits whose names look like each other's keys have keys of their own, and none moves another."""
    first, second, third = await fleet.start(warm=False)
    names = [NAME, f"{NAME}:probes", f"{NAME}:window"]
    for member, name in zip(fleet.members, names, strict=True):
        await member.ask("configure", config=fleet.config(), name=name)
    await first.run(FAILURE, 3)
    assert await second.run(SUCCESS) == await third.run(SUCCESS) == {CHARGED: 1}
    assert [fleet.cli.hget(f"breaker:{{{name}}}", "state") for name in names] == ["open", "closed", "closed"]
    await fleet.advance(COOLDOWN)
    await first.begin()
    await second.run(FAILURE, 2)
    await third.run(FAILURE, 3)
    keys = {key.decode() for key in fleet.everything()} - {"breakers"}
    owners = {key: [name for name in names if key.startswith(f"breaker:{{{name}}}")] for key in keys}
    assert set(map(len, owners.values())) == {1}
    assert {name for (name,) in owners.values()} == fleet.cli.smembers("breakers") == set(names)
    assert {fleet.cli.type(key) for key in keys} == {"hash", "zset", "stream"}


async def test_a_flushed_script_cache_in_the_middle_of_traffic_harms_nobody(fleet: Fleet) -> None:
    """The server forgets every script again and again: calls go on, failures count, the circuit trips and recovers."""
    first, second, third = await fleet.start()
    await fleet.each(lambda member: member.ask("start_traffic"))
    for _ in range(3):
        fleet.cli.script_flush()
        ends = await fleet.each(lambda member: member.ask("traffic", more=20))
        assert set().union(*ends) == {CHARGED}
    await fleet.each(lambda member: member.ask("stop_traffic"))
    for member in fleet.members:
        fleet.cli.script_flush()
        assert await member.run(FAILURE) == {"ProviderDownError": 1}
        await fleet.caught_up()
    assert fleet.state == "open"
    await fleet.advance(COOLDOWN)
    fleet.cli.script_flush()
    probe = await fleet.probe(first)
    fleet.cli.script_flush()
    assert (await second.refused()).reason == "probing"
    assert await probe.succeed() == CHARGED
    assert fleet.state == "closed"
    assert not any([await member.ask("degraded") for member in (first, second, third)])


@pytest.mark.parametrize("decode", [True, False])
async def test_replies_are_understood_decoded_or_not(fleet: Fleet, decode: bool) -> None:
    """A user's own client works with `decode_responses` both ways, messages included."""
    first, second, third = await fleet.start(decode_responses=decode)
    await fleet.trip()
    assert (await second.refused()).last_error == "ProviderDownError"
    assert await third.ask("read") == (await fleet.view(), [NAME])
    await fleet.advance(COOLDOWN)
    probe = await fleet.probe(first)
    await probe.succeed()
    await fleet.caught_up()
    assert await third.run(SUCCESS) == {CHARGED: 1}


async def test_new_thresholds_apply_after_a_redeploy(fleet: Fleet) -> None:
    """What has been counted stays, and the first replica that has the new configuration acts on it."""
    first, _, third = await fleet.start(config=fleet.config(policy=Consecutive(9)))
    await fleet.fail(4)
    assert fleet.state == "closed"
    await third.ask("configure", config=fleet.config(policy=Consecutive(5), cooldown_seconds=2 * COOLDOWN))
    assert await third.run(FAILURE) == {"ProviderDownError": 1}
    assert (fleet.state, fleet.record["failures"]) == ("open", "5")
    await fleet.caught_up()
    assert round((await first.refused()).retry_after_seconds) == 2 * COOLDOWN
    assert "consecutive=5" in fleet.record["config"]


async def test_memory_grows_with_no_traffic(fleet: Fleet) -> None:
    """Ten times the calls, probes that nobody settles, events without end: the same few keys, as large."""
    _, second, third = await fleet.start()
    with fleet.cli.pipeline() as pipe:
        for _ in range(10 * _MOST_EVENTS):
            pipe.xadd(f"{KEY}:events", {"event": "reset"})
        pipe.execute()

    async def traffic(rounds: int) -> int:
        for _ in range(rounds):
            await second.run_many(SUCCESS, 20)
            await fleet.caught_up()
            await second.run(FAILURE, 2)
            await fleet.caught_up()
        await fleet.fail(1)
        for _ in range(rounds):
            await fleet.advance(LEASE)
            probe = await third.begin()
            assert len(fleet.leases) == 1
            await fleet.caught_up()
        await fleet.advance(LEASE - 1)
        await probe.member.ask("control", override=_RESET)
        await fleet.caught_up()
        await fleet.fail(2)
        keys = [key for key in fleet.cli.scan_iter(f"{KEY}*") if not key.endswith(":events")]
        assert set(keys) <= {KEY + suffix for suffix in ("", ":probes", ":window", ":reporters")}
        return sum(fleet.cli.memory_usage(key, samples=0) for key in keys)

    before = await traffic(1)
    assert await traffic(10) <= before + 64
    assert fleet.cli.xlen(f"{KEY}:events") <= _MOST_EVENTS
