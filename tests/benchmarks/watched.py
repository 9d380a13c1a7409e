"""A store that also tells this program what its subscription brings; all of it through what the library publishes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import Any

import redis.asyncio

from breaker import CallNotPermittedError, CircuitBreaker, RedisStore, State, View, sync
from tests.benchmarks.subjects import DependencyError, fail

_PATIENCE_SECONDS = 20.0


class WatchedStore(RedisStore):
    """A `RedisStore` whose views can be waited for.

    Attributes:
        views: What each circuit's followers were told last.
        lost: Called whenever followers are told that no more views arrive for now.
        arrived: Called with a circuit's name after each view of it.
    """

    def __init__(self, client: redis.asyncio.Redis, **options: Any) -> None:
        super().__init__(client, **options)
        self.views: dict[str, View | None] = {}
        self.lost: Callable[[], None] = lambda: None
        self.arrived: Callable[[str], None] = lambda _: None
        self._arrived = asyncio.Event()

    def follow(self, name: str, see: Callable[[View | None], None]) -> None:
        """Follow a circuit, and take note of what its followers are told."""

        def watch(view: View | None) -> None:
            see(view)
            known = self.views.get(name)
            if view and known and (view.generation, view.revision) < (known.generation, known.revision):
                return  # Read before a message that was told already.
            self.views[name] = view
            if view is None and known is not None:
                self.lost()
            self._arrived.set()
            self.arrived(name)

        super().follow(name, watch)

    async def arrival(self) -> None:
        """Wait for the next view of any circuit."""
        self._arrived.clear()
        await self._arrived.wait()

    async def until(self, name: str, state: State) -> None:
        """Wait until this replica's copy of a circuit is fresh and in this state."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while (view := self.views.get(name)) is None or view.state is not state:
                await self.arrival()


class WatchedThreadStore(sync.RedisStore):
    """The same for threads."""

    def follow(self, name: str, see: Callable[[View | None], None]) -> None:
        """Follow a circuit, and take note of its state."""

        def watch(view: View | None) -> None:
            see(view)
            self._states[name] = None if view is None else view.state

        super().follow(name, watch)

    async def until(self, name: str, state: State) -> None:
        """Wait until this store's copy of a circuit is fresh and in this state."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while self._states.get(name) is not state:  # noqa: ASYNC110 - moved by a thread
                await asyncio.sleep(0.001)

    @cached_property
    def _states(self) -> dict[str, State | None]:
        return {}


async def trip(breaker: CircuitBreaker) -> None:
    """Fail until the circuit is open."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            try:
                await breaker.call(fail)
            except DependencyError:
                continue
            except CallNotPermittedError:
                return
