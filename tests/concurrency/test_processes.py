"""What only several processes on one real server can prove."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio

from breaker import BreakerConfig, CallNotPermittedError, CircuitBreaker, RedisStore, State, View

NAME = "stripe:create_intent"
_PROCESSES = 8
_CALLS_EACH = 10
# Long enough that no lease lapses and no store call times out on a busy machine while the test looks on.
_PATIENT = BreakerConfig(cooldown_seconds=0.2, call_timeout_seconds=30)
_SHORT_LEASE = BreakerConfig(cooldown_seconds=0.2, call_timeout_seconds=None, lease_seconds=1)
_STORE_TIMEOUT_SECONDS = 10

_spawn = multiprocessing.get_context("spawn")


class ProviderDownError(Exception):
    """What a sick dependency raises."""


async def fails() -> None:
    """Fail as a sick dependency does."""
    raise ProviderDownError


def in_process(
    url: str, config: BreakerConfig, main: Callable[[redis.asyncio.Redis, CircuitBreaker], Awaitable[None]]
) -> None:
    """Run a coroutine with a breaker of its own; the body of a child process."""

    async def run() -> None:
        store = RedisStore.from_url(url, timeout_seconds=_STORE_TIMEOUT_SECONDS)
        async with redis.asyncio.Redis.from_url(url, decode_responses=True) as client:
            await main(client, CircuitBreaker(NAME, store, config, replica_id=f"pid-{os.getpid()}"))
        await store.aclose()

    asyncio.run(run())


async def wait_for(client: Any, key: str, at_least: int) -> None:
    """Wait until a counter in the server has come that far."""
    async with asyncio.timeout(30):
        while int(await client.get(key) or 0) < at_least:  # noqa: ASYNC110 - the counter is moved by other processes
            await asyncio.sleep(0.005)


async def stampede(client: redis.asyncio.Redis, breaker: CircuitBreaker) -> None:
    """Call many times at once, as soon as everybody is ready; the probe waits until all others were refused."""

    async def probe() -> None:
        await client.incr("reached")
        await wait_for(client, "refused", _PROCESSES * _CALLS_EACH - 1)

    async def call() -> None:
        try:
            await breaker.call(probe)
        except CallNotPermittedError:
            await client.incr("refused")

    await client.incr("ready")
    await wait_for(client, "ready", _PROCESSES)
    await asyncio.gather(*(call() for _ in range(_CALLS_EACH)))


def stampede_process(url: str) -> None:
    """Be one of the replicas."""
    in_process(url, _PATIENT, stampede)


async def probe_for_ever(client: redis.asyncio.Redis, breaker: CircuitBreaker) -> None:
    """Become the probe and never come back."""

    async def probe() -> None:
        await client.incr("reached")
        await asyncio.Event().wait()

    await breaker.call(probe)


def prober_process(url: str) -> None:
    """Be the prober that gets killed."""
    in_process(url, _SHORT_LEASE, probe_for_ever)


async def open_and_cooled_down(store: RedisStore, breaker: CircuitBreaker) -> None:
    """Trip the circuit and wait until the server says that its cooldown is over."""
    for _ in range(3):
        try:
            await breaker.call(fails)
        except ProviderDownError:
            continue
    await until(store, lambda seen: seen.state is State.OPEN and seen.retry_after_seconds == 0)


async def until(store: RedisStore, holds: Callable[[View], bool]) -> View:
    """Wait until a circuit looks as it should."""
    async with asyncio.timeout(30):
        while True:
            seen = await store.snapshot(NAME)
            if seen is not None and holds(seen):
                return seen
            await asyncio.sleep(0.01)


async def test_eight_processes_one_probe(redis_url: str) -> None:
    """Eighty callers in eight processes at the half-open moment: one reaches the dependency, the others are refused."""
    store = RedisStore.from_url(redis_url, timeout_seconds=_STORE_TIMEOUT_SECONDS)
    await open_and_cooled_down(store, CircuitBreaker(NAME, store, _PATIENT))
    children = [_spawn.Process(target=stampede_process, args=(redis_url,)) for _ in range(_PROCESSES)]
    for child in children:
        child.start()
    for child in children:
        await asyncio.to_thread(child.join, 40)
    assert [child.exitcode for child in children] == [0] * _PROCESSES
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        assert (await client.get("reached"), await client.get("refused")) == ("1", "79")
    seen = await until(store, lambda _: True)
    assert seen.state is State.CLOSED
    await store.aclose()


async def test_a_killed_prober_is_replaced_when_its_lease_lapses(redis_url: str) -> None:
    """After kill -9 the place stays taken until the lease lapses by the server's clock, then the next caller probes."""
    store = RedisStore.from_url(redis_url, timeout_seconds=_STORE_TIMEOUT_SECONDS)
    breaker = CircuitBreaker(NAME, store, _SHORT_LEASE)
    await open_and_cooled_down(store, breaker)
    prober = _spawn.Process(target=prober_process, args=(redis_url,))
    prober.start()
    taken = await until(store, lambda seen: seen.probes_out == 1)
    assert prober.pid is not None
    os.kill(prober.pid, signal.SIGKILL)
    await asyncio.to_thread(prober.join, 10)

    async def works() -> str:
        return "charged"

    reasons: list[str] = []
    async with asyncio.timeout(30):
        while True:
            try:
                await breaker.call(works)
                break
            except CallNotPermittedError as refused:
                reasons.append(refused.reason)
                await asyncio.sleep(refused.retry_after_seconds / 4)
    seen = await until(store, lambda _: True)
    assert set(reasons) == {"probing"}
    assert seen.now_ms >= taken.probe_until_ms
    assert seen.state is State.CLOSED
    await store.aclose()
