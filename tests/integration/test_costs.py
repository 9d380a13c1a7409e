from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from breaker import (
    BreakerConfig,
    CallNotPermittedError,
    CircuitBreaker,
    Consecutive,
    Consistency,
    FailureRate,
    Mode,
    OpenFor,
    Outcome,
    Override,
    RedisStore,
)
from tests.support.pages import ROOT

# Without EVAL: it comes after an EVALSHA that the server did not know yet, and only then.
_OURS = ("evalsha", "sadd", "smembers", "subscribe")
_POLICIES: dict[str, Consecutive | FailureRate] = {
    "Consecutive": Consecutive(3),
    "FailureRate": FailureRate(threshold=1.0, minimum_calls=1000),
}


async def works() -> str:
    """Answers at once, after letting everybody else in the loop run."""
    await asyncio.sleep(0)
    return "done"


async def fails() -> None:
    """Fails as a dependency does that is down."""
    raise ConnectionError


async def is_limited() -> None:
    """Fails as a dependency does that wants to be left alone."""
    raise PermissionError


def _classify(error: Exception) -> Outcome | OpenFor:
    return OpenFor(0.2) if isinstance(error, PermissionError) else Outcome.FAILURE


def documented() -> dict[str, dict[str, int]]:
    """Read the table of the page: what happens, and for each column how many commands that takes."""
    text = (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
    table = next(part for part in text.split("\n\n") if part.startswith("| | mirrored"))
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
    columns = [re.sub("`", "", name) for name in header[1:]]
    return {name: dict(zip(columns, map(int, cells), strict=True)) for name, *cells in rows}


class Server:
    """Counts the commands of the library at the server."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def total(self) -> int:
        """Count those that it has run."""
        stats: Any = self._client.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in _OURS)

    async def during(self, what: Callable[[], Awaitable[object]]) -> int:
        """Count those that it runs because of something, up to when it hears of nothing more."""
        before = self.total()
        await what()
        return await self._settled() - before

    async def _settled(self) -> int:
        total, quiet = self.total(), 0
        while quiet < 5:
            await asyncio.sleep(0.02)
            now = self.total()
            total, quiet = now, quiet + 1 if now == total else 0
        return total


async def measured(url: str, server: Server, *, consistency: str, policy: str) -> dict[str, int]:
    """Make every call of the table, and count."""
    store = RedisStore.from_url(url, timeout_seconds=5)
    config = BreakerConfig(
        policy=_POLICIES[policy],
        consistency=consistency,  # type: ignore[arg-type]
        ramp_seconds=3600,
        flush_seconds=3600,
    )
    breaker = CircuitBreaker(f"{consistency}:{policy}", store, config, classify_error=_classify)
    # As a process nearly always finds it, the circuit exists already.
    elsewhere = RedisStore.from_url(url, timeout_seconds=5)
    await CircuitBreaker(breaker.name, elsewhere, replace(config, consistency=Consistency.STRICT)).call(works)
    await elsewhere.aclose()

    async def call(function: Callable[[], Awaitable[object]], times: int = 1) -> None:
        for _ in range(times):
            with contextlib.suppress(CallNotPermittedError, ConnectionError, PermissionError):
                await breaker.call(function)

    async def control(mode: Mode | None, duration_ms: int = 0) -> None:
        override = Override(mode=mode, reason="counting", actor="test", duration_ms=duration_ms)
        await server.during(lambda: store.control(breaker.name, override))

    # Each line of the table in turn; what lies between brings the circuit into the state that the next one is about.
    commands = {"the first call of a process": await server.during(lambda: call(works))}
    commands["100 healthy calls"] = await server.during(lambda: call(works, 100))
    commands["a failure"] = await server.during(lambda: call(fails))
    commands["the first success after it"] = await server.during(lambda: call(works))
    await server.during(lambda: call(is_limited))
    await control(Mode.FORCED_OPEN)
    commands["100 refused calls"] = await server.during(lambda: call(works, 100))
    await control(Mode.AUTO)

    while (await store.snapshot(breaker.name)).retry_after_seconds:  # type: ignore[union-attr]  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    commands["a probe"] = await server.during(lambda: call(works))
    commands["100 calls while a ramp lasts"] = await server.during(lambda: call(works, 100))
    await control(Mode.FORCED_CLOSED, duration_ms=3_600_000)
    commands["100 calls that a mode with an end lets through"] = await server.during(lambda: call(works, 100))
    await control(None)
    commands["a `peek()`"] = await server.during(breaker.peek)
    await breaker.aclose()
    await store.aclose()
    return commands


@pytest.mark.parametrize("policy", _POLICIES)
@pytest.mark.parametrize("consistency", ["mirrored", "strict"])
async def test_redis_hears_of_as_many_commands_as_the_page_says(redis_url: str, consistency: str, policy: str) -> None:
    """The table of docs/costs.md is what a real server counts."""
    with redis.Redis.from_url(redis_url) as client:
        counted = await measured(redis_url, Server(client), consistency=consistency, policy=policy)
    column = f"{consistency}, {policy}"
    assert counted == {name: row[column] for name, row in documented().items()}
