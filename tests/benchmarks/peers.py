"""Other people's breakers at their best: the documented decorator, default settings, one failure to trip."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import circuitbreaker
import interlock
import nopanic
import purgatory
import pybreaker
import redis
import redis.asyncio
from interlock.integrations.redis import AsyncRedisStorage
from nopanic_redis import redis_circuit_breaker
from purgatory.domain.model import OpenedState

from tests.benchmarks.subjects import DependencyError, Room, Subject, blocking_fail, blocking_work, fail, subject, work

# Long enough to stay open for the whole run.
_COOLDOWN_SECONDS = 3600.0

# The one that goals are set against.
YARDSTICK = "circuitbreaker"


@asynccontextmanager
async def peers(url: str) -> AsyncIterator[list[Subject]]:
    """Yield every peer with one circuit that is closed and one that is open."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(redis.asyncio.Redis.from_url(url))
        blocking_client = stack.enter_context(redis.Redis.from_url(url))
        yield [
            await _circuitbreaker(),
            _pybreaker(None),
            await _purgatory(None, stack),
            await _nopanic(None),
            await _interlock(None, stack),
            _pybreaker(blocking_client),
            await _purgatory(url, stack),
            await _nopanic(client),
            await _interlock(client, stack),
        ]


async def _circuitbreaker() -> Subject:
    closed = circuitbreaker.CircuitBreaker(name="closed")
    opened = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=_COOLDOWN_SECONDS, name="open")
    with contextlib.suppress(DependencyError):
        await opened(fail)()
    return subject(YARDSTICK, Room.PROCESS, closed(work), opened(work), circuitbreaker.CircuitBreakerError)


def _pybreaker(client: redis.Redis | None) -> Subject:
    """It guards threads and Tornado, so what is timed is an ordinary call."""

    def storage(name: str) -> pybreaker.CircuitBreakerStorage:
        if client is None:
            return pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        return pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, client, namespace=name)

    closed = pybreaker.CircuitBreaker(state_storage=storage("closed"))
    opened = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=_COOLDOWN_SECONDS, state_storage=storage("open"))
    with contextlib.suppress(pybreaker.CircuitBreakerError):
        opened(blocking_fail)()
    return subject(
        "pybreaker (threads)",
        Room.PROCESS if client is None else Room.REDIS,
        closed(blocking_work),
        opened(blocking_work),
        pybreaker.CircuitBreakerError,
        blocking=True,
    )


async def _purgatory(url: str | None, stack: AsyncExitStack) -> Subject:
    unit = None
    if url is not None:
        unit = purgatory.AsyncRedisUnitOfWork(url)
        stack.push_async_callback(unit.contexts.redis.aclose)
    factory = purgatory.AsyncCircuitBreakerFactory(uow=unit)
    await factory.initialize()
    opened = {"threshold": 1, "ttl": _COOLDOWN_SECONDS}
    with contextlib.suppress(DependencyError):
        await factory("open", **opened)(fail)()
    return subject(
        "purgatory",
        Room.PROCESS if url is None else Room.REDIS,
        factory("closed")(work),
        factory("open", **opened)(work),
        OpenedState,
    )


async def _nopanic(client: redis.asyncio.Redis | None) -> Subject:
    def breaker(name: str, **options: float) -> nopanic.CircuitBreaker | redis_circuit_breaker:
        if client is None:
            return nopanic.circuit_breaker(name=name, **options)
        return redis_circuit_breaker(client, name=name, **options)

    closed, opened = breaker("closed"), breaker("open", min_calls=1, reset_timeout=_COOLDOWN_SECONDS)
    with contextlib.suppress(DependencyError):
        await opened(fail)()
    return subject(
        "nopanic" if client is None else "nopanic-redis",
        Room.PROCESS if client is None else Room.REDIS,
        closed(work),
        opened(work),
        nopanic.CircuitOpen,
    )


async def _interlock(client: redis.asyncio.Redis | None, stack: AsyncExitStack) -> Subject:
    storage = None if client is None else AsyncRedisStorage(client)
    trips_at_once = interlock.Config(minimum_number_of_calls=1, wait_duration_in_open=_COOLDOWN_SECONDS)
    closed = interlock.CircuitBreaker(name="closed", storage=storage)
    opened = interlock.CircuitBreaker(name="open", config=trips_at_once, storage=storage)
    for one in (closed, opened):
        stack.push_async_callback(one.aclose)
    with contextlib.suppress(DependencyError):
        await opened(fail)()
    return subject(
        "interlock-cb",
        Room.PROCESS if client is None else Room.REDIS,
        closed(work),
        opened(work),
        interlock.CircuitOpenError,
    )
