"""A replica in the test's own process: a store and a breaker, and the dependency that they guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from breaker import BreakerConfig, CircuitBreaker, RedisStore

NAME = "stripe:create_intent"


class ProviderDownError(Exception):
    """What a sick dependency raises."""


async def works() -> str:
    """Succeed."""
    return "charged"


async def fails() -> str:
    """Fail as a sick dependency does."""
    raise ProviderDownError


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something has become true."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - moved by messages from the server
            await asyncio.sleep(0.002)


class Replica:
    """A store and a breaker, as one process has them."""

    def __init__(
        self, url: str, name: str, config: BreakerConfig | None = None, *, circuit: str = NAME, **options: Any
    ) -> None:
        self.store = RedisStore.from_url(url, **{"timeout_seconds": 5, **options})
        self.breaker = CircuitBreaker(circuit, self.store, config, replica_id=name)

    @property
    def permits(self) -> bool:
        return self.breaker._circuit.mirror.permit is not None

    @property
    def refuses(self) -> bool:
        return self.breaker._circuit.mirror.refusing_seconds() > 0

    async def warm(self) -> None:
        await self.breaker.call(works)
        # A message may have been faster than the read that begins a copy; what is counted from here on is without it.
        await until(lambda: self.permits)
        await self.store._feed._unread.join()

    async def fail(self, times: int) -> None:
        for _ in range(times):
            with pytest.raises(ProviderDownError):
                await self.breaker.call(fails)


@asynccontextmanager
async def replicas() -> AsyncIterator[Callable[..., Replica]]:
    """What starts replicas, all of which are closed at the end."""
    async with AsyncExitStack() as exits:

        def start(*args: Any, **options: Any) -> Replica:
            replica = Replica(*args, **options)
            exits.push_async_callback(replica.store.aclose)
            return replica

        yield start


@asynccontextmanager
async def traffic(*breakers: CircuitBreaker) -> AsyncIterator[None]:
    """Calls through each breaker without a pause; every one of them has to return what the dependency returned."""
    going_on = True

    async def call(breaker: CircuitBreaker) -> None:
        while going_on:
            assert await breaker.call(works) == "charged"
            await asyncio.sleep(0.002)

    async with asyncio.TaskGroup() as tasks:
        for breaker in breakers:
            tasks.create_task(call(breaker))
        yield
        going_on = False
