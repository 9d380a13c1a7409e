"""Faults of a real server, and of one circuit in it: what they take from whom, and that it comes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio
import redis

from breaker import (
    BreakerConfig,
    CallNotPermittedError,
    CircuitBreaker,
    Consistency,
    FailureRate,
    Mode,
    Override,
    RedisStore,
    State,
    View,
)
from tests.support.ports import free_port
from tests.support.redis_servers import RedisServer, running
from tests.support.redis_topologies import runs
from tests.support.replica import ProviderDownError, Replica, fails, replicas, until, works

STRICT = BreakerConfig(consistency=Consistency.STRICT)
Start = Callable[..., Replica]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    # The two are equal in earnest too, which is what let them keep each other from finding the server.
    monkeypatch.setattr("breaker._store_guard._PAUSE_SECONDS", 0.1)
    monkeypatch.setattr("breaker._redis_feed._PAUSE_SECONDS", 0.1)


@pytest_asyncio.fixture
async def start(redis_url: str) -> AsyncIterator[Start]:
    """Start a replica that is closed at the end."""
    async with replicas() as starting:
        yield lambda name, config=None, *, url=redis_url, **options: starting(url, name, config, **options)


@pytest.fixture
def cli(redis_url: str) -> Iterator[redis.Redis]:
    """What a person on call would use."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def others(replica: Replica, count: int) -> list[CircuitBreaker]:
    """Make breakers on further circuits of a replica's store."""
    return [CircuitBreaker(f"other-{number}", replica.store, replica.breaker.config) for number in range(count)]


def is_fresh(breaker: CircuitBreaker) -> bool:
    """Tell whether a breaker relies on its copy."""
    return breaker._circuit.mirror._fresh


async def test_a_server_that_is_back_is_found_by_a_replica_of_many_circuits(start: Start) -> None:
    """Nobody calls: the subscription finds out by itself, and no circuit takes the one attempt from another."""
    with running("valkey") as server:
        replica = start("api-1", url=server.url, timeout_seconds=0.5, heartbeat_seconds=0.1)
        breakers = [replica.breaker, *others(replica, 5)]
        for breaker in breakers:
            await breaker.call(works)
        await until(lambda: all(map(is_fresh, breakers)))
        server.kill()
        await until(lambda: not any(map(is_fresh, breakers)))
        for breaker in breakers:
            assert await breaker.call(works) == "charged"
        assert replica.store.degraded
        server.start()
        await until(lambda: not replica.store.degraded)
        for breaker in breakers:
            await breaker.call(works)
        await until(lambda: all(map(is_fresh, breakers)))


@pytest.mark.parametrize("key", ["breaker:{stripe:create_intent}", "breaker:{stripe:create_intent}:window"])
async def test_a_spoilt_key_takes_nothing_from_other_circuits(
    start: Start, cli: redis.Redis, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    """A circuit that the server cannot read or write is guarded locally, with one line; the server is not away."""
    replica = start("api-1", STRICT)
    (healthy,) = others(replica, 1)
    cli.delete(key)
    await healthy.call(works)
    if key.endswith("window"):
        await replica.breaker.call(works)
    cli.set(key, "spoilt")
    for _ in range(3):
        with pytest.raises(ProviderDownError):
            await replica.breaker.call(fails)
        assert await healthy.call(works) == "charged"
        assert not replica.store.degraded
        assert not healthy._circuit._is_away
    with pytest.raises(CallNotPermittedError):
        await replica.breaker.call(fails)
    assert await replica.breaker.peek() is not None
    assert replica.breaker.status.degraded
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


@pytest.mark.parametrize("consistency", Consistency)
async def test_a_key_that_is_mended_brings_its_circuit_back(
    start: Start, cli: redis.Redis, consistency: Consistency
) -> None:
    """Successes are reported too while failures cannot be, so that the replica finds out."""
    replica = start("api-1", BreakerConfig(policy=FailureRate(minimum_calls=3), consistency=consistency))
    window = f"breaker:{{{replica.breaker.name}}}:window"
    await replica.breaker.call(works)
    cli.set(window, "spoilt")
    with pytest.raises(ProviderDownError):
        await replica.breaker.call(fails)
    assert replica.breaker.status.degraded
    cli.delete(window)
    async with asyncio.timeout(20):
        while replica.breaker.status.degraded:
            assert await replica.breaker.call(works) == "charged"
            await asyncio.sleep(0.002)
    if consistency is Consistency.MIRRORED:
        assert is_fresh(replica.breaker)


async def test_a_message_that_cannot_be_read_takes_one_circuits_copy(start: Start, cli: redis.Redis) -> None:
    """The other copies stay fresh; that circuit is read, and is fresh again by that."""
    replica = start("api-1", heartbeat_seconds=0.1)
    (healthy,) = others(replica, 1)
    seen: list[View | None] = []
    await replica.warm()
    await healthy.call(works)
    await until(lambda: is_fresh(healthy))
    replica.store.follow(replica.breaker.name, seen.append)
    replica.store.follow(healthy.name, lambda view: seen.append(view) if view is None else None)
    await until(lambda: len(seen) == 1)
    for nonsense in ("hello", '{"state": "isolated"}', "[]"):
        seen.clear()
        cli.publish(f"breaker:{{{replica.breaker.name}}}:changes", nonsense)
        await until(lambda: len(seen) >= 2)
        assert [view is None for view in seen] == [True, False]
        assert is_fresh(replica.breaker)


async def test_a_circuit_that_cannot_be_read_leaves_the_others_their_copies(start: Start, cli: redis.Redis) -> None:
    """It is looked at again at each heartbeat, and is fresh as soon as it makes sense."""
    cli.set("breaker:{other-0}", "spoilt")
    replica = start("api-1", heartbeat_seconds=0.1)
    (spoilt,) = others(replica, 1)
    assert await spoilt.call(works) == "charged"
    await replica.breaker.call(works)
    await until(lambda: is_fresh(replica.breaker))
    assert not is_fresh(spoilt)
    cli.delete("breaker:{other-0}")
    assert await spoilt.call(works) == "charged"
    await until(lambda: is_fresh(spoilt))


@pytest.mark.parametrize("mode", [Mode.FORCED_OPEN, Mode.FORCED_CLOSED])
async def test_an_operators_mode_ends_with_its_record(
    start: Start, cli: redis.Redis, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    """Neither calls nor messages tell that the circuit was deleted: it is read again now and then."""
    monkeypatch.setattr("breaker._redis_feed._REREAD_SECONDS", 0.05)
    replica = start("api-1")
    await replica.warm()
    await replica.store.control(replica.breaker.name, Override(mode=mode, reason="works on it", actor="anna"))
    await until(lambda: replica.breaker.status.mode is mode)
    cli.flushall()
    await until(lambda: not is_fresh(replica.breaker))
    assert await replica.breaker.call(works) == "charged"
    assert replica.breaker.status.mode is Mode.AUTO


async def test_a_circuit_in_a_mode_is_read_again_as_long_as_redis_answers(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that fails changes nothing: the subscription itself finds out whether the server is away."""
    monkeypatch.setattr("breaker._redis_feed._REREAD_SECONDS", 0.01)
    replica = start("api-1")
    await replica.warm()
    failed, overtaken = False, 0
    really = replica.store._feed._snapshot

    async def fails_at_first(name: str) -> object:
        nonlocal failed, overtaken
        if not failed:
            failed = True
            presence = replica.store._guard._presences[""]
            presence.note_absence(ConnectionError("for a moment"), presence.check())
        view = await really(name)
        replica.store._feed._untold.clear()  # a message has told of something newer
        overtaken += 1
        return view

    monkeypatch.setattr(replica.store._feed, "_snapshot", fails_at_first)
    await replica.store.control(replica.breaker.name, Override(mode=Mode.FORCED_OPEN, reason="r", actor="anna"))
    await until(lambda: overtaken >= 5)
    assert replica.refuses


def clients_of(server: RedisServer) -> set[str]:
    """List the connections of others."""
    with server.client() as client:
        mine = str(client.client_id())
        return {each["id"] for each in client.client_list()} - {mine}


async def test_a_primary_that_has_become_a_replica_is_left(start: Start) -> None:
    """Its connections stay open and its address may lead elsewhere: commands and messages get new connections."""
    with running("valkey") as server, running("valkey") as other:
        replica = start("api-1", STRICT, url=server.url, timeout_seconds=0.5, heartbeat_seconds=0.1)
        mirrored = CircuitBreaker("mirrored", replica.store)
        await mirrored.call(works)
        await replica.breaker.call(works)
        await until(lambda: is_fresh(mirrored))
        before = clients_of(server)
        with server.client() as operator:
            operator.replicaof("127.0.0.1", other.port)
        assert await replica.breaker.call(works) == "charged"
        assert replica.store.degraded
        await until(lambda: not before & clients_of(server))
        with server.client() as operator:
            operator.replicaof("NO", "ONE")
        await until(lambda: not replica.store.degraded and is_fresh(mirrored))
        assert await replica.breaker.call(works) == "charged"
        assert replica.breaker.status.state is State.CLOSED


async def test_a_primary_that_has_become_a_replica_is_left_by_a_first_call_as_well(start: Start) -> None:
    """The first command of a circuit's first call is no script, and finds it out all the same."""
    with running("valkey") as server, running("valkey") as other:
        replica = start("api-1", STRICT, url=server.url, timeout_seconds=0.5)
        assert await replica.store.names() == []
        before = clients_of(server)
        with server.client() as operator:
            operator.replicaof("127.0.0.1", other.port)
        assert await replica.breaker.call(works) == "charged"
        assert replica.store.degraded
        await until(lambda: not before & clients_of(server))


async def test_a_server_that_can_only_be_read_is_away(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Reads and messages bring nothing back: a sick dependency is refused by the replica itself, after three calls."""
    with running("valkey") as server:
        replica = start("api-1", url=server.url, timeout_seconds=0.5, heartbeat_seconds=0.05)
        await replica.warm()
        with server.client() as operator:
            operator.replicaof("127.0.0.1", free_port())
            calls = 0
            before = runs(server, "subscribe")
            async with asyncio.timeout(20):
                while runs(server, "subscribe") < before + 5:
                    try:
                        await replica.breaker.call(fails)
                    except CallNotPermittedError:
                        await asyncio.sleep(0.01)
                    except ProviderDownError:
                        calls += 1
        assert calls == 3
        assert replica.store.degraded
        assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


async def test_a_store_whose_parts_answer_slowly_holds_up_no_sign_of_life(
    start: Start, cli: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding out whether it is back goes on beside the heartbeat, and beside the beginning of a subscription."""
    replica = start("api-1", heartbeat_seconds=0.02, timeout_seconds=0.5)
    monkeypatch.setattr(replica.store._feed, "_recover", asyncio.Event().wait)
    await replica.warm()
    cli.config_resetstat()
    await until(lambda: int(cli.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"]) >= 3)
    assert is_fresh(replica.breaker)


async def test_who_is_cancelled_while_a_store_is_closed_is_cancelled(redis_url: str) -> None:
    """The end of the subscription is waited for, and a cancellation of the one who waits is not lost in it."""
    store = RedisStore.from_url(redis_url)
    await CircuitBreaker("c", store).call(works)
    closing = asyncio.create_task(store.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await store.aclose()
