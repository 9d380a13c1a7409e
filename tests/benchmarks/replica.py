"""Replicas in processes of their own: `python -m tests.benchmarks.replica ROLE URL COUNT`.

A replica says on its standard output that it is ready, and then what it sees, a line of JSON at a time; it ends when
its standard input does. So none is left behind when the benchmark is interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import psutil  # type: ignore[import-untyped]
import redis.asyncio

from breaker import CallNotPermittedError, CircuitBreaker, Consecutive, Consistency, State
from tests.benchmarks.ours import PATIENT, config
from tests.benchmarks.subjects import work
from tests.benchmarks.timing import Series
from tests.benchmarks.watched import WatchedStore

CIRCUIT = "fleet"
READY = "ready"

# The other replicas have seen the trip by then, and are not kept from it by this one's writing.
SAY_AFTER_SECONDS = 0.02

# How many circuits are first used at once: about as many commands as a store has out at a time.
_AT_ONCE = 16
_CALLS = 100_000


async def watch(url: str, _: int, over: Awaitable[object]) -> None:
    """Say when calls are first refused after each trip: the trip's generation, and nanoseconds."""
    loop = asyncio.get_running_loop()
    async with _store(url, **PATIENT) as store:
        breaker = CircuitBreaker(CIRCUIT, store, config(Consistency.MIRRORED, Consecutive(1)))
        await _use(breaker, store)

        guarded, known = breaker(work), 0

        def call_at_once(_: str) -> None:
            # Within the message's own turn of the loop: another turn would be the benchmark's, and twenty of them wait
            # for two cores.
            nonlocal known
            try:
                cast("Coroutine[Any, Any, None]", guarded()).send(None)
            except CallNotPermittedError as refusal:
                if refusal.generation != known:
                    known = refusal.generation
                    loop.call_later(SAY_AFTER_SECONDS, _say, [known, time.monotonic_ns()])
            except StopIteration:
                return

        store.arrived = call_at_once
        _say(READY)
        await over


async def listen(url: str, _: int, over: Awaitable[object]) -> None:
    """Say when messages arrive, and do nothing else: which one, and nanoseconds."""
    loop = asyncio.get_running_loop()
    async with redis.asyncio.Redis.from_url(url, socket_timeout=None) as client, client.pubsub() as subscription:
        await subscription.subscribe(CIRCUIT)

        async def hear() -> None:
            async for message in subscription.listen():
                if message["type"] == "subscribe":
                    _say(READY)
                else:
                    loop.call_later(SAY_AFTER_SECONDS, _say, [int(message["data"]), time.monotonic_ns()])

        hearing = asyncio.create_task(hear())
        await over
        hearing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await hearing


async def idle(url: str, count: int, over: Awaitable[object]) -> None:
    """Be that many replicas that have used one circuit and now do nothing."""
    async with AsyncExitStack() as stack:
        for number in range(count):
            store = await stack.enter_async_context(_store(url))
            breaker = CircuitBreaker(CIRCUIT, store, config(Consistency.MIRRORED), replica_id=f"idle-{number}")
            await _use(breaker, store)
        _say(READY)
        await over


async def many(url: str, count: int, over: Awaitable[object]) -> None:
    """Use that many circuits once each, and then measure what they take and what a call costs among them."""
    async with _store(url, **PATIENT) as store:
        process = psutil.Process()
        before = process.memory_info().rss
        started = time.perf_counter()
        breakers = [CircuitBreaker(f"many-{number}", store) for number in range(count)]
        waiting = iter(breakers)

        async def use_the_next() -> None:
            for breaker in waiting:
                await breaker.call(work)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_ONCE):
                tasks.create_task(use_the_next())
        used = time.perf_counter()
        for breaker in breakers:
            await store.until(breaker.name, State.CLOSED)
        fresh = time.perf_counter()
        taken = process.memory_info().rss - before
        result = {
            "first_use_seconds": used - started,
            "fresh_seconds": fresh - started,
            "bytes": taken / count,
            "closed_us": await _closed_us(breakers),
            "one_closed_us": await _closed_us(breakers[:1] * count),
        }
        _say(READY)
        _say(result)
        await over


async def _closed_us(breakers: list[CircuitBreaker]) -> float:
    """Time a closed call that goes to each circuit in turn."""
    calls = [breaker(work) for breaker in breakers]

    async def call_each() -> None:
        for call in calls:
            await call()

    series = Series(call_each)
    rounds = max(1, _CALLS // len(calls))
    for _ in range(3):
        started = time.perf_counter()
        await series.run(rounds)
        series.times_us.append((time.perf_counter() - started) / rounds / len(calls) * 1e6)
    return series.median_us


@asynccontextmanager
async def _store(url: str, **options: Any) -> AsyncIterator[WatchedStore]:
    store = WatchedStore.from_url(url, **options)
    try:
        yield store
    finally:
        await store.aclose()


async def _use(breaker: CircuitBreaker, store: WatchedStore) -> None:
    await breaker.call(work)
    await store.until(breaker.name, State.CLOSED)


def _say(something: object) -> None:
    sys.stdout.write(json.dumps(something) + "\n")
    sys.stdout.flush()


async def _main(role: str, url: str, count: str) -> None:
    roles: dict[str, Callable[..., Awaitable[None]]] = {"watch": watch, "listen": listen, "idle": idle, "many": many}
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await roles[role](url, int(count), over)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
