"""What the library promises in a Redis Cluster."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest

from breaker import BreakerConfig, CircuitBreaker, Consistency, RedisStore
from tests.support.processes import wait_until
from tests.support.redis_servers import KINDS
from tests.support.redis_topologies import Cluster, cluster, runs
from tests.support.replica import ProviderDownError, fails, replicas, traffic, until, works

STRICT = BreakerConfig(consistency=Consistency.STRICT)


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("breaker._store_guard._PAUSE_SECONDS", 0.1)
    monkeypatch.setattr("breaker._redis_feed._PAUSE_SECONDS", 0.1)


@pytest.mark.parametrize("kind", KINDS)
async def test_circuits_lie_on_all_nodes_and_one_subscription_hears_of_all(kind: str) -> None:
    """Each circuit trips on its own node, and a replica that is subscribed at one node refuses all of them."""
    with cluster(kind) as nodes:
        async with replicas() as start:
            names = [nodes.circuit_of(primary) for primary in nodes.primaries]
            first, second = (start(nodes.url, name, timeout_seconds=1).store for name in ("api-1", "api-2"))
            here = [CircuitBreaker(name, first) for name in names]
            there = [CircuitBreaker(name, second) for name in names]
            for breaker in (*here, *there):
                await breaker.call(works)
            await until(lambda: all(breaker._circuit.mirror.permit for breaker in (*here, *there)))
            for breaker in here:
                for _ in range(3):
                    with pytest.raises(ProviderDownError):
                        await breaker.call(fails)
            await until(lambda: all(breaker._circuit.mirror.refusing_seconds() > 0 for breaker in there))
            assert await second.names() == sorted(names)
        for primary, name in zip(nodes.primaries, names, strict=True):
            with primary.client() as client:
                assert client.hget(f"breaker:{{{name}}}", "state") == "open"
        everywhere = (*nodes.primaries, nodes.replica)
        assert sum(runs(node, "subscribe") > 0 for node in everywhere) <= 2


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_that_the_nodes_lose_makes_no_copy_old_for_long(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that changed without a message, to a newer state or back to an older one, is known after a while."""
    monkeypatch.setattr("breaker._redis_feed._REREAD_SECONDS", 0.05)
    with cluster(kind) as nodes:
        owner = nodes.primaries[0]
        async with replicas() as start:
            replica = start(nodes.url, "api-1", circuit=nodes.circuit_of(owner), timeout_seconds=1)
            await replica.warm()
            record = f"breaker:{{{replica.breaker.name}}}"
            with owner.client() as operator:
                revision = int(operator.hget(record, "revision") or 0)
                operator.hset(record, mapping={"mode": "forced_open", "revision": revision + 1})
                await until(lambda: replica.refuses)
                operator.hset(record, mapping={"mode": "auto", "revision": revision})
                await until(lambda: replica.permits and not replica.refuses)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_node_that_is_away_takes_only_its_own_circuits_along(kind: str) -> None:
    """Calls to a circuit on it neither speak for the others nor keep them from being asked."""
    with cluster(kind, cluster_require_full_coverage="no") as nodes:
        gone, alive = nodes.primaries[1:]
        async with replicas() as start:
            options = {"circuit": nodes.circuit_of(gone), "timeout_seconds": 1, "heartbeat_seconds": 0.1}
            sick = start(nodes.url, "api-1", STRICT, **options)
            healthy = CircuitBreaker(nodes.circuit_of(alive), sick.store)
            for breaker in (sick.breaker, healthy):
                await breaker.call(works)
            gone.kill()
            for _ in range(20):
                assert await sick.breaker.call(works) == "charged"
                assert await healthy.call(works) == "charged"
                assert not healthy._circuit._is_away
            assert sick.store.degraded
            assert sick.breaker._circuit._is_away
            gone.start()
            await until(lambda: not sick.store.degraded)


def hand_over(nodes: Cluster) -> None:
    """Let the replica take over as an operator does before he works on the primary."""
    with nodes.replica.client() as client:
        client.execute_command("CLUSTER FAILOVER")


def kill(nodes: Cluster) -> None:
    """End the primary without a word."""
    nodes.primaries[0].kill()


def freeze(nodes: Cluster) -> None:
    """Silence the primary, whose connections stay open."""
    nodes.primaries[0].signal(signal.SIGSTOP)


@pytest.mark.parametrize(("kind", "end"), [("valkey", kill), ("redis7", freeze), ("redis7", hand_over)])
async def test_a_failover_fails_no_call(
    kind: str, end: Callable[[Cluster], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The primary of the circuit, where the subscriptions are as well, goes; calls go on and all is shared again."""
    with cluster(kind) as nodes:
        gone = nodes.primaries[0]
        monkeypatch.setattr("random.choice", lambda found: min(found, key=lambda node: node.port != gone.port))
        async with replicas() as start:
            options = {"circuit": nodes.circuit_of(gone), "timeout_seconds": 1, "heartbeat_seconds": 0.1}
            asking = start(nodes.url, "api-1", STRICT, **options)
            mirrored = start(nodes.url, "api-2", **options)
            await asking.breaker.call(works)
            await mirrored.warm()
            while not runs(gone, "subscribe"):  # A busy machine may need a second try, which goes to another node.
                mirrored.store._feed.reconnect()
                await until(lambda: not mirrored.permits)
                await mirrored.warm()
            async with traffic(asking.breaker, mirrored.breaker):
                end(nodes)
                await asyncio.to_thread(wait_until, nodes.replica_is_primary, "the replica is promoted")
                await until(lambda: mirrored.permits and not asking.store.degraded and runs(nodes.replica, "eval") > 0)
            after = start(nodes.url, "operator", STRICT, circuit=options["circuit"])
            await after.fail(3)
            await until(lambda: mirrored.refuses)


async def test_no_cancellation_is_lost_in_the_driver() -> None:
    """In whichever turn of the event loop it comes: a command ends with it, and closing the store ends its reader."""
    with cluster("valkey") as nodes:
        async with asyncio.timeout(60):
            for turns in range(100):
                store = RedisStore.from_url(nodes.url, timeout_seconds=5)
                reading = asyncio.create_task(store.snapshot("c"))
                await _turns(turns)
                is_cancelled = reading.cancel()
                await asyncio.wait([reading])
                assert reading.cancelled() is is_cancelled
                store.follow("c", lambda _: None)
                await _turns(turns)
                await store.aclose()


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)
