"""Every kind of store behind one clock that tests move, so that a promise is written once and kept by all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import fakeredis
import redis
import redis.asyncio

from breaker import MemoryStore, RedisStore, Store

_PLANTED_LUA = Path(__file__).parent / "lua"
START_SECONDS = 1_766_000_000.0


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.seconds = START_SECONDS
        self._planted: redis.Redis | fakeredis.FakeRedis | None = None

    def __call__(self) -> float:
        return self.seconds

    @property
    def now_ms(self) -> int:
        return round(self.seconds * 1000)

    def advance(self, seconds: float) -> None:
        self.seconds = round(self.seconds + seconds, 3)
        self._write()

    def plant(self, server: redis.Redis | fakeredis.FakeRedis) -> None:
        """Make the scripts of a server read this clock."""
        self._planted = server
        self._write()

    def _write(self) -> None:
        if self._planted is not None:
            self._planted.set("planted:now_ms", self.now_ms)


def without_shebang(store: RedisStore) -> RedisStore:
    """Strip the `#!lua` line, which fakeredis does not know."""
    scripts = store._scripts
    for operation in ("acquire", "record", "snapshot", "control"):
        script = getattr(scripts, operation)
        setattr(scripts, operation, type(script)(script.text.split("\n", 1)[1]))
    return store


@asynccontextmanager
async def memory_store(clock: ManualClock) -> AsyncIterator[Store]:
    """Yield the in-memory store."""
    yield MemoryStore(clock)


@asynccontextmanager
async def fake_store(clock: ManualClock) -> AsyncIterator[Store]:
    """Yield the real scripts in fakeredis."""
    server = fakeredis.FakeServer()
    client = fakeredis.FakeAsyncRedis(server=server)
    with fakeredis.FakeRedis(server=server) as planted:
        clock.plant(planted)
        yield without_shebang(RedisStore(client, timeout_seconds=10, script_path=[_PLANTED_LUA]))
    await client.aclose()


@asynccontextmanager
async def real_store(clock: ManualClock, url: str, script_path: Sequence[Path] = ()) -> AsyncIterator[Store]:
    """Yield the real scripts, or what goes before them, in a real server, which is emptied first."""
    with redis.Redis.from_url(url) as planted:
        planted.flushall()
        clock.plant(planted)
        client = redis.asyncio.Redis.from_url(url)
        yield RedisStore(client, timeout_seconds=10, script_path=[*script_path, _PLANTED_LUA])
        await client.aclose()


def open_store(
    kind: str, clock: ManualClock, url: str | None, script_path: Sequence[Path] = ()
) -> AbstractAsyncContextManager[Store]:
    """Open a store by its kind: memory, fake, or any other word for a real server."""
    if kind == "memory":
        return memory_store(clock)
    if kind == "fake":
        return fake_store(clock)
    assert url is not None
    return real_store(clock, url, script_path)
