"""Bugs that other breakers had when Redis was away, slow or left alone, each held off by a test of its own."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from breaker import Consistency, FailureRate, Mode, Override
from tests.conformance.fleet import KEY, Fleet
from tests.conformance.replica import CHARGED, FAILURE, SUCCESS, ProviderDownError
from tests.support.processes import wait_until
from tests.support.redis_servers import RedisServer, running
from tests.support.redis_topologies import is_replicating

_MAINTENANCE = Override(mode=Mode.FORCED_OPEN, reason="maintenance", actor="anna")
_RESET = Override(mode=None, reason="everybody is here", actor="anna")
_MONTH_SECONDS = 30 * 24 * 3600
_STORE_TIMEOUT_SECONDS = 0.25
# Less than to wait twice. A busy machine adds nothing: time is counted by turns of the event loop (`Replica.slowest`).
_LONGEST_SECONDS = 1.5 * _STORE_TIMEOUT_SECONDS
# So long no server is silent that is there, even on a busy machine. A heartbeat is sent as long after the one before.
_PATIENT_SECONDS = 1.0
_HEARTBEAT_SECONDS = 0.05
# So many of each replica take long enough to tell one PING in a heartbeat from two.
_HEARTBEATS = 3
_SOON = 0.02
_FROM_TESTS = {"info", "config|resetstat"}


@contextmanager
def frozen(server: RedisServer) -> Iterator[None]:
    """Stop a server for the length of the block; it keeps its connections and answers nothing."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


def commands_of_clients(fleet: Fleet) -> dict[str, int]:
    """Count the commands that the server has heard of since the last reset, the test's own left out."""
    stats = fleet.cli.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    return {name: calls for name, calls in counts.items() if name not in _FROM_TESTS}


async def has_settled(fleet: Fleet) -> None:
    """Wait until replicas that have just begun have read what they follow."""
    async with asyncio.timeout(10):
        read = True
        while read:
            fleet.cli.config_resetstat()
            await asyncio.sleep(2 * _HEARTBEAT_SECONDS)
            read = not commands_of_clients(fleet).keys() <= {"ping"}


async def test_a_completed_call_is_returned_although_redis_died(
    fleet_of_its_own: Fleet, own_server: RedisServer
) -> None:
    """The server is killed while calls are under way: each caller gets its own value or its own exception."""
    own_server.start()
    first, second, third = await fleet_of_its_own.start()
    calls = [await member.begin() for member in (first, second, third)]
    own_server.kill()
    assert await calls[0].succeed() == CHARGED
    assert isinstance(await calls[1].fail(), ProviderDownError)
    assert isinstance(await calls[2].cancel(), asyncio.CancelledError)


async def test_a_completed_probe_is_returned_although_redis_died(
    fleet_of_its_own: Fleet, own_server: RedisServer
) -> None:
    """The server is killed while probes are under way: however they are guarded, their callers get the results."""
    own_server.start()
    fleet = fleet_of_its_own
    first, second, third = await fleet.start(config=fleet.config(probe_limit=3))
    probes = [await fleet.reach_half_open(first), await fleet.probe(second), await fleet.probe(third)]
    own_server.kill()
    assert [await probe.succeed() for probe in probes] == [CHARGED] * 3
    assert await fleet.each(lambda member: member.ask("degraded")) == [True] * 3


async def test_redis_absent_at_start_up_does_not_stop_the_application(
    fleet_of_its_own: Fleet, own_server: RedisServer
) -> None:
    """Replicas begin without a server and guard themselves; the server comes, and they share a circuit."""
    fleet = fleet_of_its_own
    first, second, third = await fleet.start(warm=False, plant_clocks=False, pause_seconds=_SOON)
    assert await fleet.each(lambda member: member.run(SUCCESS)) == [{CHARGED: 1}] * 3
    assert await first.run(FAILURE, 4) == {"ProviderDownError": 3, "open": 1}
    assert await second.run(SUCCESS) == {CHARGED: 1}
    assert await fleet.each(lambda member: member.ask("degraded")) == [True] * 3
    own_server.start()
    await fleet.each(lambda member: member.ask("start_traffic"))
    await fleet.each(lambda member: member.ask("until_degraded", degraded=False))
    await fleet.each(lambda member: member.ask("stop_traffic"))
    assert await fleet.each(lambda member: member.run(SUCCESS)) == [{CHARGED: 1}] * 3
    await fleet.caught_up()
    await fleet.trip()
    assert (await third.refused()).reason == "open"


# A strict replica follows nothing, and so knows of no other.
@pytest.mark.parametrize("consistency", [Consistency.MIRRORED], indirect=True, ids=str)
async def test_without_redis_each_of_three_replicas_trips_by_a_third_of_the_minimum_of_calls(
    fleet_of_its_own: Fleet, own_server: RedisServer
) -> None:
    """A local breaker that waited for the whole fleet's calls would send all of them to a dependency that is down."""
    own_server.start()
    fleet = fleet_of_its_own
    first, *_ = await fleet.start(config=fleet.config(policy=FailureRate(threshold=0.5, minimum_calls=9)))
    await first.ask("control", override=_RESET)  # What is told of this says how many follow the circuit by now.
    await fleet.caught_up()
    own_server.kill()
    assert await fleet.each(lambda member: member.run(FAILURE, 4)) == [{"ProviderDownError": 3, "open": 1}] * 3


async def test_a_paused_redis_delays_no_call_by_more_than_the_store_timeout(
    fleet_of_its_own: Fleet, own_server: RedisServer
) -> None:
    """While the server is stopped every call comes back: healthy, failing, under way since before, and refused ones."""
    own_server.start()
    fleet = fleet_of_its_own
    await fleet.start(plant_clocks=False, timeout_seconds=_STORE_TIMEOUT_SECONDS, heartbeat_seconds=_HEARTBEAT_SECONDS)
    await fleet.each(lambda member: member.ask("start_watch"))
    under_way = [await member.begin() for member in fleet.members]
    with frozen(own_server):
        assert await fleet.each(lambda member: member.run(SUCCESS, 10)) == [{CHARGED: 10}] * 3
        assert [type(await call.fail()) for call in under_way] == [ProviderDownError] * 3
        assert await fleet.each(lambda member: member.run(FAILURE, 2)) == [{"ProviderDownError": 2}] * 3
        await fleet.each(lambda member: member.ask("lose_touch"))
        assert await fleet.each(lambda member: member.run(SUCCESS, 10)) == [{"open": 10}] * 3
        slowest = max(await fleet.each(lambda member: member.ask("slowest")))
    assert slowest < _LONGEST_SECONDS


async def test_a_frozen_redis_under_traffic_is_one_line_and_no_refusal(
    fleet_of_its_own: Fleet, own_server: RedisServer
) -> None:
    """Degraded goes to one and back to nought with one log line each; no healthy call is refused or waits for long."""
    own_server.start()
    fleet = fleet_of_its_own
    await fleet.start(
        plant_clocks=False,
        timeout_seconds=_PATIENT_SECONDS,
        heartbeat_seconds=_HEARTBEAT_SECONDS,
        pause_seconds=_SOON,
    )
    await fleet.each(lambda member: member.ask("start_watch"))
    await fleet.each(lambda member: member.ask("start_traffic"))
    await fleet.each(lambda member: member.ask("traffic", more=10))
    with frozen(own_server):
        await fleet.each(lambda member: member.ask("until_degraded", degraded=True))
        await fleet.each(lambda member: member.ask("traffic", more=10))
    await fleet.each(lambda member: member.ask("until_degraded", degraded=False))
    ends = await fleet.each(lambda member: member.ask("traffic", more=10))
    assert set().union(*ends) == {CHARGED}
    assert max(await fleet.each(lambda member: member.ask("slowest"))) < 1.5 * _PATIENT_SECONDS
    assert Counter(line.split(",")[0].split(";")[0] for line in await fleet.lines()) == {
        "the store is away": 3,
        "the store answers again": 3,
    }


# Whoever begins after the failover has no copy yet, so that both consistencies do the same.
@pytest.mark.parametrize("consistency", [Consistency.MIRRORED], indirect=True, ids=str)
async def test_a_manual_mode_survives_thirty_idle_days_and_a_failover(
    fleet_of_its_own: Fleet, own_server: RedisServer, server_kind: str
) -> None:
    """Nothing makes an operator's mode lapse but an operator, and the server that is promoted knows it."""
    fleet = fleet_of_its_own
    own_server.start()
    first, *_ = await fleet.start()
    await first.ask("control", override=_MAINTENANCE)
    assert {fleet.cli.pttl(key) for key in fleet.cli.scan_iter(f"{KEY}*")} == {-1}
    await fleet.advance(_MONTH_SECONDS)
    with running(server_kind, replicaof=f"127.0.0.1 {own_server.port}") as promoted:
        await asyncio.to_thread(wait_until, lambda: is_replicating(promoted), "the replica has everything")
        own_server.kill()
        with promoted.client() as client:
            client.replicaof("NO", "ONE")
        await fleet.move(promoted.url)
        assert await fleet.each(lambda member: member.run(SUCCESS)) == [{"forced_open": 1}] * 3
        seen = await fleet.view()
        assert (seen.mode, seen.mode_reason, seen.mode_actor) == (Mode.FORCED_OPEN, "maintenance", "anna")
        await first.ask("control", override=Override(mode=Mode.AUTO, reason="done", actor="anna"))
        await fleet.caught_up()
        assert await fleet.each(lambda member: member.run(SUCCESS)) == [{CHARGED: 1}] * 3


async def test_an_idle_system_sends_no_more_than_documented(fleet: Fleet) -> None:
    """Left alone, a mirrored replica sends one PING in a heartbeat for all its circuits, and a strict one nothing."""
    mirrored = fleet.consistency is Consistency.MIRRORED
    await fleet.start(timeout_seconds=_PATIENT_SECONDS, heartbeat_seconds=_PATIENT_SECONDS)
    await fleet.each(lambda member: member.ask("configure", config=fleet.config(), name="another"))
    await fleet.each(lambda member: member.run(SUCCESS))
    await has_settled(fleet)
    started = time.monotonic()
    fleet.cli.config_resetstat()
    while (  # noqa: ASYNC110 - moved by processes of their own
        time.monotonic() < started + _STORE_TIMEOUT_SECONDS
        or (mirrored and commands_of_clients(fleet).get("ping", 0) < 3 * _HEARTBEATS)
    ):
        await asyncio.sleep(_SOON)
    sent, heartbeats = commands_of_clients(fleet), (time.monotonic() - started) / _PATIENT_SECONDS
    assert set(sent) == ({"ping"} if mirrored else set())
    assert sent.get("ping", 0) <= 3 * (heartbeats + 1)
