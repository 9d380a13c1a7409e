"""What the library promises when Sentinels promote a replica."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest

from breaker import BreakerConfig, Consistency, Mode, Outcome, Override
from breaker._types import Report
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.redis_servers import running
from tests.support.redis_topologies import SERVICE, runs, watched
from tests.support.replica import replicas, traffic, until, works

LIMITS = BreakerConfig().limits()
STRICT = BreakerConfig(consistency=Consistency.STRICT)


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("breaker._store_guard._PAUSE_SECONDS", 0.1)
    monkeypatch.setattr("breaker._redis_feed._PAUSE_SECONDS", 0.1)


@pytest.mark.parametrize(
    ("kind", "end"), [("valkey", signal.SIGKILL), ("redis7", signal.SIGSTOP)], ids=["valkey-killed", "redis7-frozen"]
)
async def test_a_failover_fails_no_call_and_forgets_nothing_that_was_replicated(kind: str, end: signal.Signals) -> None:
    """Calls go on, a mode survives, a permit of a lost circuit is stale, scripts are sent again, messages arrive."""
    with watched(kind) as group:
        url = group.url
        async with replicas() as start:
            asking = start(url, "api-1", STRICT, timeout_seconds=1)
            mirrored = start(url, "api-2", timeout_seconds=1, heartbeat_seconds=0.1)
            before = start(url, "operator", STRICT).store
            await asking.breaker.call(works)
            await mirrored.warm()
            await before.control("other", Override(mode=Mode.FORCED_OPEN, reason="maintenance", actor="anna"))
            with group.primary.client() as client:
                assert client.wait(1, 10_000) == 1
            with group.replica.client() as client:
                client.replicaof("127.0.0.1", free_port())  # What follows is not replicated any more.
            lost = await before.acquire("lost", "p1", LIMITS, "operator")
            async with traffic(asking.breaker, mirrored.breaker):
                group.primary.signal(end)
                await asyncio.to_thread(wait_until, group.replica_is_primary, "the replica is promoted")
                await until(lambda: mirrored.permits and not asking.store.degraded)
            assert runs(group.replica, "eval") > 0
            after = start(url, "operator", STRICT)
            kept = await after.store.snapshot("other")
            assert kept is not None
            assert (kept.mode, kept.mode_reason, kept.mode_actor) == (Mode.FORCED_OPEN, "maintenance", "anna")
            begun_again = await after.store.acquire("lost", "p2", LIMITS, "operator")
            assert begun_again.generation > lost.generation
            late = Report(permit_id="p1", generation=lost.generation, outcome=Outcome.FAILURE)
            assert not (await after.store.record("lost", late, LIMITS)).applied
            await after.fail(3)
            await until(lambda: mirrored.refuses)


async def test_a_silent_sentinel_is_passed_over() -> None:
    """One that accepts and never answers costs its part of the deadline, and the next one is asked."""
    with socket.create_server(("127.0.0.1", 0)) as silent, watched("valkey") as group:
        port = silent.getsockname()[1]
        url = f"redis+sentinel://127.0.0.1:{port},{group.sentinel.address}/{SERVICE}"
        async with replicas() as start:
            replica = start(url, "api-1", STRICT, timeout_seconds=3)
            assert await replica.breaker.call(works) == "charged"
            assert not replica.store.degraded
            assert runs(group.primary, "eval") == 1


async def test_a_service_that_no_sentinel_watches_is_an_absent_store() -> None:
    """The application starts and is guarded locally, as with every other absence."""
    with running("valkey", mode="--sentinel", ready="Sentinel ID") as sentinel:
        async with replicas() as start:
            replica = start(f"redis+sentinel://{sentinel.address}/another", "api-1", STRICT)
            assert await replica.breaker.call(works) == "charged"
            assert replica.store.degraded
