"""How long a replica may rely on its copy when the connection that keeps it fresh dies without a word."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from breaker import CircuitBreaker, Consistency, State
from tests.benchmarks.ours import config
from tests.benchmarks.subjects import work
from tests.benchmarks.watched import WatchedStore

_HEARTBEAT_SECONDS, _TIMEOUT_SECONDS = 1.0, 0.25  # the defaults, said aloud because the bound is made of them
BOUND_SECONDS = _HEARTBEAT_SECONDS + 2 * _TIMEOUT_SECONDS

# As many replicas as give every part of a heartbeat its chance to be the moment of death.
_REPLICAS = 16
_PATIENCE_SECONDS = 10 * BOUND_SECONDS


class Link:
    """What forwards bytes to the server until it is cut, and then neither forwards nor closes anything."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname, address.port
        self._whole = True
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Lose every byte from now on."""
        self._whole = False

    @asynccontextmanager
    async def url(self) -> AsyncIterator[str]:
        """Yield the address to connect to."""
        async with await asyncio.start_server(self._join, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            try:
                yield f"redis://{host}:{port}"
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, questions = await asyncio.open_connection(self._host, self._port)
        for source, target in ((reader, questions), (answers, writer)):
            task = asyncio.create_task(self._forward(source, target))
            self._tasks.add(task)

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                if self._whole:
                    target.write(data)
        finally:
            target.close()


async def measure_silence(url: str) -> list[float]:
    """Cut the link of replicas whose heartbeats are spread, and return for how long each relied on its copy."""
    link = Link(url)
    async with link.url() as through:
        stores = [
            WatchedStore.from_url(through, heartbeat_seconds=_HEARTBEAT_SECONDS, timeout_seconds=_TIMEOUT_SECONDS)
            for _ in range(_REPLICAS)
        ]
        for number, store in enumerate(stores):
            breaker = CircuitBreaker("silence", store, config(Consistency.MIRRORED), replica_id=f"silent-{number}")
            await breaker.call(work)
            await store.until(breaker.name, State.CLOSED)
            await asyncio.sleep(_HEARTBEAT_SECONDS / _REPLICAS)
        cut_at = time.monotonic()
        link.cut()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            relied = await asyncio.gather(*[_until_lost(store, cut_at) for store in stores])
        for store in stores:
            with contextlib.suppress(OSError):
                await store.aclose()
    return sorted(relied)


async def _until_lost(store: WatchedStore, cut_at: float) -> float:
    while store.views["silence"] is not None:
        await store.arrival()
    return time.monotonic() - cut_at
