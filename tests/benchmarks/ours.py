"""This library, in each way of using it, and the bare commands that its strict calls are held against."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, cast

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from breaker import (
    BreakerConfig,
    CallNotPermittedError,
    CircuitBreaker,
    Consecutive,
    Consistency,
    FailureRate,
    Listener,
    MemoryStore,
    State,
    sync,
)
from tests.benchmarks.subjects import DependencyError, Room, Subject, blocking_work, fail, subject, work
from tests.benchmarks.timing import Series
from tests.benchmarks.watched import WatchedStore, WatchedThreadStore, trip

UNGUARDED = "no breaker"
MIRRORED = "breaker, mirrored"
HEARD = "breaker, mirrored, with a listener"
RATE = "breaker, mirrored, FailureRate"
STRICT = "breaker, strict"
PING = "one PING"
EVALSHA = "one bare EVALSHA"
EVALSHA_UNBOUNDED = "one bare EVALSHA, no deadline"
WAITS = "no breaker, waits once"
WAITS_MIRRORED = "breaker, mirrored, waits once"

# A busy machine must not make the store count as away in the middle of a measurement. And what a heartbeat costs is in
# the rows about idle replicas, not in the ones about calls.
PATIENT: dict[str, Any] = {"timeout_seconds": 10.0, "heartbeat_seconds": 3600.0}


_RATE = FailureRate()
_RATE_AT_ONCE = FailureRate(minimum_calls=1)


def config(consistency: Consistency, policy: Consecutive | FailureRate | None = None) -> BreakerConfig:
    """A configuration whose circuits stay open once they are."""
    return BreakerConfig(policy=policy or Consecutive(), cooldown_seconds=3600, consistency=consistency)


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[list[Subject]]:
    """Yield the library's subjects, each with one circuit that is closed and one that is open, and the references."""
    async with AsyncExitStack() as stack:
        store = WatchedStore(await stack.enter_async_context(_store_client(url)), **PATIENT)
        stack.push_async_callback(store.aclose)
        # The driver as it comes, with the deadline that it sets by itself, since nobody should send a command without
        # one; and then without, which is how the store uses it behind the deadline of its own.
        bare = await stack.enter_async_context(redis.asyncio.Redis.from_url(url))
        unbounded = await stack.enter_async_context(_store_client(url))
        evalsha = await _evalsha_of_a_call(url)
        mirrored, mirrored_open = await _pair("mirrored", store, Consistency.MIRRORED)
        rate, rate_open = await _pair("rate", store, Consistency.MIRRORED, _RATE, trips_at_once=_RATE_AT_ONCE)
        strict, strict_open = await _pair("strict", store, Consistency.STRICT)
        memory, memory_open = await _pair("memory", MemoryStore(), Consistency.STRICT)
        heard, heard_open = await _pair("heard", store, Consistency.MIRRORED, listeners=[lambda _: None])
        threads, threads_open = await _thread_pair(url, mirrored.name, mirrored_open.name, stack)
        yield [
            Subject(UNGUARDED, Room.NONE, Series(work), Series(fail, DependencyError)),
            Subject(WAITS, Room.NONE, Series(_wait)),
            Subject(PING, Room.NONE, Series(bare.ping)),
            Subject(EVALSHA, Room.NONE, Series(_sent_again(bare, evalsha))),
            Subject(EVALSHA_UNBOUNDED, Room.NONE, Series(_sent_again(unbounded, evalsha))),
            # Beside what it is held against: after rows that leave the server idle its first calls wake it up.
            _ours(STRICT, strict(work), strict_open(work)),
            _ours("breaker, in memory", memory(work), memory_open(work), Room.PROCESS),
            _ours(MIRRORED, mirrored(work), mirrored_open(work)),
            _ours(HEARD, heard(work), heard_open(work)),
            _ours("breaker, mirrored (threads)", threads(blocking_work), threads_open(blocking_work), blocking=True),
            _ours("breaker, mirrored, by call()", partial(mirrored.call, work), partial(mirrored_open.call, work)),
            _ours(RATE, rate(work), rate_open(work)),
            Subject(WAITS_MIRRORED, Room.REDIS, Series(mirrored(_wait)), ours=True),
        ]


def _ours(name: str, closed: Any, refused: Any, room: Room = Room.REDIS, *, blocking: bool = False) -> Subject:
    return subject(name, room, closed, refused, CallNotPermittedError, blocking=blocking, ours=True)


async def _pair(
    name: str,
    store: WatchedStore | MemoryStore,
    consistency: Consistency,
    policy: Consecutive | FailureRate | None = None,
    *,
    trips_at_once: Consecutive | FailureRate | None = None,
    listeners: Sequence[Listener] = (),
) -> tuple[CircuitBreaker, CircuitBreaker]:
    """Make a circuit that is closed and one that is open, and wait for their copies if they have any."""
    closed = CircuitBreaker(f"{name}-closed", store, config(consistency, policy), listeners=listeners)
    trips = config(consistency, trips_at_once or Consecutive(1))
    opened = CircuitBreaker(f"{name}-open", store, trips, listeners=listeners)
    await closed.call(work)
    await trip(opened)
    if consistency is Consistency.MIRRORED and isinstance(store, WatchedStore):
        await store.until(closed.name, State.CLOSED)
        await store.until(opened.name, State.OPEN)
    return closed, opened


async def _thread_pair(
    url: str, closed_name: str, open_name: str, stack: AsyncExitStack
) -> tuple[sync.CircuitBreaker, sync.CircuitBreaker]:
    """Guard two circuits of tasks in threads as well, and wait for the copies."""
    client = stack.enter_context(redis.Redis.from_url(url, socket_timeout=PATIENT["timeout_seconds"]))
    store = WatchedThreadStore(client, **PATIENT)
    stack.callback(store.close)
    closed = sync.CircuitBreaker(closed_name, store, config(Consistency.MIRRORED))
    opened = sync.CircuitBreaker(open_name, store, config(Consistency.MIRRORED, Consecutive(1)))
    closed.call(blocking_work)
    with contextlib.suppress(CallNotPermittedError):
        opened.call(blocking_work)
    await store.until(closed_name, State.CLOSED)
    await store.until(open_name, State.OPEN)
    return closed, opened


def _store_client(url: str) -> redis.asyncio.Redis:
    """Make a client like the store's own: the deadline is the store's, and nothing is retried."""
    return redis.asyncio.Redis.from_url(
        url, socket_timeout=None, socket_connect_timeout=None, retry=Retry(NoBackoff(), 0)
    )


class _Recorder(redis.asyncio.Redis):
    """A client that keeps the last EVALSHA that went through it."""

    recorded: tuple[Any, ...] = ()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "EVALSHA":
            self.recorded = args
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


async def _evalsha_of_a_call(url: str) -> tuple[Any, ...]:
    """Find out which command a strict call sends, so that the very same can be sent without a breaker."""
    client = cast("_Recorder", _Recorder.from_url(url))
    async with client:
        await CircuitBreaker("bare", WatchedStore(client, **PATIENT), config(Consistency.STRICT)).call(work)
    return client.recorded


def _sent_again(client: redis.asyncio.Redis, command: tuple[Any, ...]) -> Callable[[], Any]:
    send: Callable[..., Any] = client.execute_command
    return partial(send, *command)


async def _wait() -> None:
    """Wait for something, as every real call does."""
    await asyncio.sleep(0)
