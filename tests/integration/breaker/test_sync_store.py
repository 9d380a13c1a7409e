"""What the store for threads promises on a real server: commands, messages, deadlines, ends."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis
from redis._parsers.hiredis import _HiredisParser
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.retry import Retry

from breaker import (
    BreakerConfig,
    CallNotPermittedError,
    ConfigError,
    Consistency,
    Mode,
    Outcome,
    Override,
    State,
    StoreUnavailableError,
    View,
)
from breaker._address import parse
from breaker._errors import ScriptError
from breaker._scripts import Script
from breaker._types import Permitted, Report
from breaker.sync import CircuitBreaker, RedisStore
from breaker.sync import _in_time as in_time
from breaker.sync._client import close, connect
from breaker.sync._guard import StoreGuard
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.redis_servers import RedisServer, running
from tests.support.redis_topologies import watched

NAME = "stripe:create_intent"
KEY = f"breaker:{{{NAME}}}"
LIMITS = BreakerConfig().limits()
STRICT = BreakerConfig(consistency=Consistency.STRICT)
_FROM_A_CLIENT = {"evalsha", "eval", "sadd", "smembers", "subscribe", "hello", "client|setinfo", "client|setname"}


class ProviderDownError(Exception):
    """What a sick dependency raises."""


def works() -> str:
    """Succeed."""
    return "charged"


def fails() -> str:
    """Fail as a sick dependency does."""
    raise ProviderDownError


def interrupt(*_: object, **__: object) -> None:
    """Raise what Ctrl-C does."""
    raise KeyboardInterrupt


def fail(breaker: CircuitBreaker, times: int) -> None:
    """Make failing calls."""
    for _ in range(times):
        with pytest.raises(ProviderDownError):
            breaker.call(fails)


def permits(breaker: CircuitBreaker) -> bool:
    """Tell whether the copy of the circuit is fresh and lets calls through."""
    return breaker._circuit.permit is not None


def refuses(breaker: CircuitBreaker) -> bool:
    """Tell whether the copy of the circuit is fresh and refuses calls."""
    return breaker._circuit.mirror.refusing_seconds() > 0


def warm(breaker: CircuitBreaker) -> None:
    """Use the breaker until its copy is fresh."""
    wait_until(lambda: breaker.call(works) == "charged" and permits(breaker), "the copy is fresh")


Start = Callable[..., CircuitBreaker]


@pytest.fixture
def start(redis_url: str) -> Iterator[Start]:
    """Start a replica whose store is closed at the end."""
    stores: list[RedisStore] = []

    def starting(
        name: str, config: BreakerConfig | None = None, *, url: str = redis_url, **options: Any
    ) -> CircuitBreaker:
        stores.append(RedisStore.from_url(url, **{"timeout_seconds": 5, **options}))
        return CircuitBreaker(NAME, stores[-1], config, replica_id=name)

    yield starting
    for store in stores:
        store.close()


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    """A store on an empty server."""
    with closing(RedisStore.from_url(redis_url, timeout_seconds=5)) as opened:
        yield opened


@pytest.fixture
def cli(redis_url: str) -> Iterator[redis.Redis]:
    """What a person on call would use."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def store_of(breaker: CircuitBreaker) -> RedisStore:
    """Say which store a replica of these tests uses."""
    store = breaker._store
    assert isinstance(store, RedisStore)
    return store


def test_what_cannot_be_listed_takes_no_store_away(store: RedisStore, cli: redis.Redis) -> None:
    """Something else lies in the place of the events or of the names: whoever wants to see them harms nobody."""
    cli.set(f"{KEY}:events", "no stream")
    with pytest.raises(ScriptError, match="WRONGTYPE"):
        store.events(NAME)
    cli.delete("breakers")
    cli.set("breakers", "no set")
    with pytest.raises(ScriptError, match="WRONGTYPE"):
        store.names()
    cli.delete("breakers")
    assert not store.degraded


def test_a_list_of_names_that_is_spoilt_takes_no_store_away(store: RedisStore, cli: redis.Redis) -> None:
    """Something else lies in the place of the set: circuits that are new to a replica cannot be listed, that is all."""
    cli.delete("breakers")
    cli.set("breakers", "no set")
    assert isinstance(store.acquire(NAME, "p1", LIMITS, "api-1"), Permitted)
    assert not store.degraded
    cli.delete("breakers")


def commands_sent(cli: redis.Redis) -> dict[str, int]:
    """Count the commands of clients since the last reset, heartbeats left out."""
    stats: Any = cli.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    return {name: calls for name, calls in counts.items() if name in _FROM_A_CLIENT}


@contextmanager
def frozen(server: RedisServer) -> Iterator[None]:
    """Stop a server's process while the block runs."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


def test_a_healthy_call_and_a_refused_one_cost_no_command(start: Start, cli: redis.Redis) -> None:
    """Ten thousand calls on a fresh copy that is closed, and a hundred on one that is open."""
    breaker = start("api-1")
    warm(breaker)
    cli.config_resetstat()
    for _ in range(10_000):
        breaker.call(works)
    assert commands_sent(cli) == {}
    fail(breaker, 3)
    wait_until(lambda: refuses(breaker), "the copy knows of the trip")
    cli.config_resetstat()
    for _ in range(100):
        with pytest.raises(CallNotPermittedError):
            breaker.call(works)
        assert breaker.peek() is not None
    assert commands_sent(cli) == {}


def test_a_connection_says_nothing_of_its_own(start: Start, cli: redis.Redis) -> None:
    """A strict call is one command; the first use of a name registers it, and no connection introduces itself."""
    cli.script_flush()
    cli.config_resetstat()
    breaker = start("api-1", STRICT)
    for _ in range(3):
        breaker.call(works)
    # What `cli` says to connect is its own.
    assert {name: count for name, count in commands_sent(cli).items() if name in {"eval", "sadd"}} == {
        "eval": 1,
        "sadd": 1,
    }
    assert commands_sent(cli)["evalsha"] == 3


def test_what_the_store_reads_and_writes(store: RedisStore, cli: redis.Redis) -> None:
    """The same keys as everybody's, readable by a person; reading changes nothing."""
    assert store.snapshot(NAME) is None
    permit = store.acquire(NAME, "p1", LIMITS, "api-1")
    assert isinstance(permit, Permitted)
    report = Report(permit_id="p1", generation=permit.generation, outcome=Outcome.FAILURE, failures=1, error="Broken")
    assert store.record(NAME, report, LIMITS).failures == 1
    view = store.control(NAME, Override(mode=Mode.FORCED_OPEN, reason="maintenance", actor="anna"))
    assert view.mode is Mode.FORCED_OPEN
    assert cli.hget(KEY, "last_error") == "Broken"
    assert [entry.by for entry in store.events(NAME)] == ["anna"]
    assert (store.events(NAME, 0), store.degraded) == ([], False)
    assert store.names() == [NAME]
    cli.flushall()
    store.acquire(NAME, "p2", LIMITS, "api-1")
    assert store.names() == [NAME]


def test_what_is_sent_to_scripts_is_text(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing a number is where the driver's extension crashes when a signal handler raises, such as that of Ctrl-C."""
    sent: list[object] = []
    pack: Any = hiredis.pack_command

    def packing(words: tuple[object, ...]) -> Any:
        """Note what is sent."""
        sent.extend(words)
        return pack(words)

    monkeypatch.setattr(hiredis, "pack_command", packing)
    permit = store.acquire(NAME, "p1", LIMITS, "api-1")
    store.record(NAME, Report(permit_id="p1", generation=permit.generation, outcome=Outcome.FAILURE), LIMITS)
    store.control(NAME, Override(mode=Mode.AUTO, reason="done", actor="anna"))
    store.snapshot(NAME)
    assert len(sent) > 30
    assert all(isinstance(word, str | bytes) for word in sent)


def test_an_operators_mode_reaches_every_replica(start: Start) -> None:
    """Forced open holds at once everywhere, and `auto` ends it everywhere."""
    first, second = start("api-1"), start("api-2")
    warm(first)
    warm(second)
    store_of(first).control(NAME, Override(mode=Mode.FORCED_OPEN, reason="maintenance", actor="anna"))
    wait_until(lambda: refuses(second), "the other replica knows")
    store_of(first).control(NAME, Override(mode=Mode.AUTO, reason="done", actor="anna"))
    wait_until(lambda: permits(second), "the other replica knows")


def test_a_lost_subscription_falls_back_to_asking(
    start: Start, cli: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is cut is noticed at once; calls ask until the copies are fresh again."""
    monkeypatch.setattr("breaker.sync._redis_feed._PAUSE_SECONDS", 0.5)
    breaker = start("api-1")
    warm(breaker)
    subscriber = next(client for client in cli.client_list(_type="pubsub"))
    cli.client_kill_filter(_id=subscriber["id"])
    wait_until(lambda: not permits(breaker), "the copy is not relied on")
    assert breaker.call(works) == "charged"
    wait_until(lambda: permits(breaker), "the copy is fresh again")


def test_a_subscription_that_dies_silently_is_noticed_by_the_heartbeat(start: Start) -> None:
    """A server that stops answering sends nothing; without a sign of life the copy is not relied on."""
    with running("valkey") as server:
        breaker = start("api-1", url=server.url, heartbeat_seconds=0.05, timeout_seconds=0.5)
        warm(breaker)
        with frozen(server):
            wait_until(lambda: not permits(breaker), "the copy is not relied on")
        wait_until(lambda: permits(breaker), "the copy is fresh again")


def test_a_quiet_subscription_stays(start: Start, cli: redis.Redis) -> None:
    """As long as the server gives signs of life the copy is fresh, however little happens."""
    breaker = start("api-1", heartbeat_seconds=0.05)
    warm(breaker)
    number = cli.client_list(_type="pubsub")[0]["id"]
    cli.config_resetstat()
    stats: Any = {}

    def has_asked() -> bool:
        """Tell whether the subscription has asked for five signs of life."""
        stats.update(cli.info("commandstats"))
        return bool(stats.get("cmdstat_ping", {}).get("calls", 0) >= 5)

    wait_until(has_asked, "five heartbeats")
    assert permits(breaker)
    assert [client["id"] for client in cli.client_list(_type="pubsub")] == [number]


def test_breakers_of_a_process_share_one_subscription(start: Start, cli: redis.Redis) -> None:
    """Another circuit, and another breaker for the same one, are followed on the same connection."""
    breaker = start("api-1")
    warm(breaker)
    store = store_of(breaker)
    second, other = CircuitBreaker(NAME, store), CircuitBreaker("other", store)
    warm(second)
    warm(other)
    (subscriber,) = cli.client_list(_type="pubsub")
    assert subscriber["sub"] == "2"


def test_a_subscription_survives_what_ends_threads_and_starts_again_if_it_does_end(
    start: Start, cli: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows knows that its copy is not kept fresh meanwhile, and the next one to follow starts it."""
    monkeypatch.setattr("breaker.sync._redis_feed._PAUSE_SECONDS", 0.01)
    breaker = start("api-1")
    warm(breaker)
    store = store_of(breaker)
    worker, raises = store._feed._worker, [SystemExit("over")]

    def see(_: View | None) -> None:
        """End this thread, once."""
        if raises:
            raise raises.pop()

    store.follow(NAME, see)
    wait_until(lambda: not raises, "somebody ends the thread")
    wait_until(lambda: permits(breaker), "the copy is fresh again")

    def end(*_: object) -> None:
        """End this thread."""
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(logging.getLogger("breaker"), "debug", end)
        patched.setattr(threading, "excepthook", lambda _: None)
        cli.client_kill_filter(_type="pubsub")
        worker.join()
    assert not worker.is_alive()
    assert not permits(breaker)
    warm(CircuitBreaker("other", store))
    wait_until(lambda: permits(breaker), "the copy is fresh again")


def test_what_cannot_be_read_of_one_circuit_does_not_end_the_subscription(start: Start, cli: redis.Redis) -> None:
    """Only that circuit's copy is not relied on, until it is read again a heartbeat later."""
    breaker = start("api-1", heartbeat_seconds=0.02)
    warm(breaker)
    store = store_of(breaker)
    other = CircuitBreaker("other", store)
    warm(other)
    number = cli.client_list(_type="pubsub")[0]["id"]
    seen: dict[str, list[View | None]] = {NAME: [], "other": []}
    for name, views in seen.items():
        store.follow(name, views.append)
    wait_until(lambda: all(seen.values()), "both are followed")
    snapshot, failing = store._feed._snapshot, [ScriptError("not understood")] * 2

    def read(name: str) -> View | None:
        """Fail twice."""
        if name == NAME and failing:
            raise failing.pop()
        return snapshot(name)

    store._feed._snapshot = read
    cli.publish(f"{KEY}:changes", "not a view")
    wait_until(lambda: None in seen[NAME], "the copy is not relied on")
    wait_until(lambda: permits(breaker), "the copy is fresh again")
    assert not failing
    store._feed._take({"type": "message", "channel": b"nobody's", "data": b"not a view"})
    assert None not in seen["other"]
    assert [client["id"] for client in cli.client_list(_type="pubsub")] == [number]


def test_a_subscription_that_stands_again_while_the_store_counts_as_away_stays(
    start: Start, cli: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempts to reach the store may all be taken by others; its circuits are read when it is back."""
    monkeypatch.setattr("breaker.sync._redis_feed._PAUSE_SECONDS", 0.01)
    breaker = start("api-1", heartbeat_seconds=0.02)
    warm(breaker)
    store = store_of(breaker)
    opened: list[PubSub] = []
    recovers: list[None] = []
    subscribe, recover = store._feed._open, store._feed._recover

    def open_subscription() -> PubSub:
        """Note that it is opened."""
        opened.append(subscribe())
        return opened[-1]

    store._feed._open = open_subscription
    store._feed._recover = lambda: recovers.append(None)
    store._guard.degraded, store._guard._try_again_at = True, dict.fromkeys((True, False), time.monotonic() + 60)
    cli.client_kill_filter(_type="pubsub")
    wait_until(lambda: bool(opened), "the subscription is opened again")
    wait_until(lambda: len(recovers) > 10, "some heartbeats")
    assert not permits(breaker)
    store._guard._try_again_at.update({True: 0.0, False: 0.0})
    store._feed._recover = recover
    wait_until(lambda: permits(breaker), "the copy is fresh again")
    assert not store.degraded
    assert len(opened) == 1


def test_who_follows_twice_is_told_once(store: RedisStore) -> None:
    """As one that was interrupted while it asked for it does."""
    store.acquire(NAME, "p1", LIMITS, "api-1")
    seen: list[View | None] = []
    for _ in range(2):
        store.follow(NAME, seen.append)
    wait_until(lambda: any(seen), "the circuit is followed")
    assert len(store._feed._followers[f"{KEY}:changes"]) == 1


def test_a_store_that_is_back_is_noticed_though_nobody_asks_it(start: Start, cli: redis.Redis) -> None:
    """A healthy mirrored replica asks nothing, so its subscription finds out that a failed command was not the end."""
    breaker = start("api-1", heartbeat_seconds=0.02)
    warm(breaker)
    cli.config_set("min-replicas-to-write", 1)
    try:
        fail(breaker, 1)
    finally:
        cli.config_set("min-replicas-to-write", 0)
    assert store_of(breaker).degraded
    wait_until(lambda: not store_of(breaker).degraded, "the store is in force again")


def test_closing_ends_the_threads_and_the_connections(start: Start, cli: redis.Redis) -> None:
    """Nothing of a store is left, and its breakers know that they are not kept fresh any longer."""
    breaker = start("api-1")
    warm(breaker)
    fail(breaker, 1)
    wait_until(lambda: breaker._circuit.hears_successes, "the copy knows of the failure")
    breaker.call(works)
    store = store_of(breaker)
    threads = [store.timers._worker._thread, store._feed._worker._thread]
    assert all(thread is not None and thread.daemon and thread.is_alive() for thread in threads)
    breaker.close()
    store.close()
    assert not any(thread is not None and thread.is_alive() for thread in threads)
    assert not permits(breaker)
    assert cli.hget(KEY, "failures") == "0"
    assert not cli.client_list(_type="pubsub")
    wait_until(lambda: len(cli.client_list()) == 1, "only the person on call is connected")


def test_a_closed_store_connects_no_more(
    start: Start, cli: redis.Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes late is answered at once and guarded locally, and a command that closing interrupts is no absence."""
    breaker = start("api-1")
    warm(breaker)
    store = store_of(breaker)

    def closing(*_: Any) -> Any:
        """Close the store while this command is out."""
        store.close()
        raise redis.ConnectionError

    monkeypatch.setattr(store._client, "evalsha", closing)
    with pytest.raises(StoreUnavailableError):
        store.snapshot(NAME)
    assert not store.degraded
    assert not caplog.records
    with pytest.raises(StoreUnavailableError, match="closed"):
        store.names()
    assert breaker.call(works) == "charged"
    wait_until(lambda: len(cli.client_list()) == 1, "only the person on call is connected")


def test_a_store_can_be_closed_by_what_a_message_brings_about(store: RedisStore) -> None:
    """A follower that closes the store does not wait for itself."""
    closed = threading.Event()

    def close(_: object) -> None:
        """Close the store."""
        store.close()
        closed.set()

    store.follow(NAME, close)
    assert closed.wait(20)
    thread = store._feed._worker._thread
    assert thread is not None
    thread.join(20)
    assert not thread.is_alive()


def test_connections_that_interruptions_have_lost_are_replaced(store: RedisStore, cli: redis.Redis) -> None:
    """A process that was interrupted often finds Redis all the same, and closes what the driver kept."""
    pool = store._client.connection_pool
    lost = [weakref.ref(pool.get_connection()) for _ in range(pool.max_connections)]
    with pytest.raises(StoreUnavailableError, match="Too many connections"):
        store.snapshot(NAME)
    assert not any(connection() for connection in lost)

    def answers() -> bool:
        """Ask."""
        with suppress(StoreUnavailableError):
            store.snapshot(NAME)
        return not store.degraded

    wait_until(answers, "the store is there again")
    wait_until(lambda: len(cli.client_list()) == 2, "only the store and the person on call are connected")


def test_the_answer_to_a_command_that_was_interrupted_is_nobody_elses(
    store: RedisStore, cli: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when Ctrl-C comes after the command was sent and before anybody waits for its answer."""
    assert store.names() == []
    with monkeypatch.context() as patch:
        patch.setattr(store._client, "parse_response", interrupt)
        cli.execute_command("CLIENT", "PAUSE", 200)  # type: ignore[no-untyped-call]
        with pytest.raises(KeyboardInterrupt):
            store.names()
    assert store.snapshot(NAME) is None
    with pytest.raises(redis.ResponseError):
        store._client.execute_command("NONSENSE")  # type: ignore[no-untyped-call]
    before = cli.info()["total_connections_received"]
    assert store.names() == []
    assert cli.info()["total_connections_received"] == before, "nothing else was connected anew"


def test_a_connection_that_was_interrupted_as_it_was_opened_is_opened_anew(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when Ctrl-C comes after it has a socket and before it has said who it is."""
    with monkeypatch.context() as patch:
        patch.setattr(store._client.connection_pool.connection_class, "on_connect_check_health", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.names()
    assert store.names() == []


_FORKING = """
import os, sys, threading
from breaker.sync import RedisStore
store = RedisStore.from_url(sys.argv[1], timeout_seconds=5)
store.names()
pool = store._client.connection_pool
owner = {"pool": pool, "events of the pool": pool._event_dispatcher, "fork": pool}[sys.argv[2]]
lock = owner._fork_lock if sys.argv[2] == "fork" else owner._lock
holding = threading.Thread(target=lock.acquire)
holding.start()
holding.join()
child = os.fork()
if child == 0:
    store.names()
    os._exit(7)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
@pytest.mark.parametrize("held", ["pool", "events of the pool", "fork"])
def test_a_forked_child_waits_for_no_lock_that_a_thread_of_its_parent_held(redis_url: str, held: str) -> None:
    """Another thread may have been taking or giving back a connection, and it does not exist in the child."""
    program = [sys.executable, "-W", "ignore", "-c", _FORKING, redis_url, held]
    with subprocess.Popen(program, start_new_session=True) as parent:
        try:
            assert parent.wait(10) == 7
        finally:
            with suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)


def test_a_client_of_the_users_own_stays_open(redis_url: str) -> None:
    """A store closes what it made; one that decodes answers is as good, one that might wait for ever is refused."""
    with redis.Redis.from_url(redis_url, decode_responses=True, socket_timeout=5) as client:
        store = RedisStore(client)
        breaker = CircuitBreaker(NAME, store)
        warm(breaker)
        fail(breaker, 3)
        wait_until(lambda: refuses(breaker), "the copy knows of the trip")
        store.close()
        assert client.ping()
    with redis.Redis.from_url(redis_url, socket_timeout=None) as client, pytest.raises(ConfigError, match="socket"):
        RedisStore(client)


def test_what_a_driver_reconnects_by_itself_is_read_anew(redis_url: str, cli: redis.Redis) -> None:
    """A client with retries mends the subscription unseen; meanwhile a failover may have rolled the circuit back."""
    retrying = Retry(NoBackoff(), 3)
    with (
        redis.Redis.from_url(redis_url, socket_timeout=5, retry=retrying) as client,
        closing(RedisStore(client)) as store,
    ):
        breaker = CircuitBreaker(NAME, store)
        warm(breaker)
        before: Any = client.dump(KEY)
        fail(breaker, 3)
        wait_until(lambda: refuses(breaker), "the copy knows of the trip")
        client.restore(KEY, 0, before, replace=True)
        subscriber = next(client for client in cli.client_list(_type="pubsub"))
        cli.client_kill_filter(_id=subscriber["id"])
        wait_until(lambda: permits(breaker), "the copy is the older circuit")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://localhost", {"timeout_seconds": 0}),
        ("redis://localhost", {"heartbeat_seconds": 0}),
        ("redis://localhost", {"prefix": "{breaker}"}),
        ("redis+cluster://localhost", {}),
    ],
)
def test_nonsense_is_refused_at_construction(url: str, options: dict[str, Any]) -> None:
    """What cannot work is said before anything is connected."""
    with pytest.raises(ConfigError):
        RedisStore.from_url(url, **options)


def test_a_socket_in_the_file_system_is_a_server_as_well() -> None:
    """What binds a connection to its deadline does so for every kind."""
    with tempfile.TemporaryDirectory(prefix="sg-") as directory:
        path = str(Path(directory) / "socket")
        with running("valkey", unixsocket=path), closing(RedisStore.from_url(f"unix://{path}")) as store:
            assert CircuitBreaker(NAME, store, STRICT).call(works) == "charged"
            assert store.names() == [NAME]


def test_a_primary_that_was_demoted_is_left(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a name leads to another server and the old one lives on, what is open is closed and opened anew."""
    monkeypatch.setattr("breaker._store_guard._PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("breaker.sync._redis_feed._PAUSE_SECONDS", 0.05)
    with tempfile.TemporaryDirectory(prefix="sg-") as directory:
        name, *sockets = (Path(directory) / word for word in ("name", "first", "second"))
        with (
            running("valkey", unixsocket=sockets[0]) as first,
            running("valkey", unixsocket=sockets[1]) as second,
            first.client() as on_first,
            second.client() as on_second,
        ):
            name.symlink_to(sockets[0])
            breaker = start("api-1", url=f"unix://{name}", heartbeat_seconds=0.02)
            warm(breaker)
            store_of(breaker).snapshot(NAME)
            name.unlink()
            name.symlink_to(sockets[1])
            on_first.replicaof("127.0.0.1", second.port)
            fail(breaker, 1)
            assert store_of(breaker).degraded
            wait_until(lambda: breaker.call(works) == "charged" and not store_of(breaker).degraded, "the other is used")
            warm(breaker)
            fail(breaker, 3)
            assert on_second.hget(KEY, "state") == "open"
            wait_until(lambda: len(on_second.client_list(_type="pubsub")) == 1, "messages are heard there")


def test_an_absent_server_does_not_stop_the_application(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """With nobody listening, calls are guarded locally at once, and the log says so in one line."""
    breaker = start("api-1", url=f"redis://127.0.0.1:{free_port()}")
    with caplog.at_level(logging.WARNING, logger="breaker"):
        for _ in range(5):
            assert breaker.call(works) == "charged"
        fail(breaker, 3)
        with pytest.raises(CallNotPermittedError):
            breaker.call(works)
    assert breaker.status.degraded
    assert len(caplog.records) == 1


def test_a_handler_of_the_log_may_make_guarded_calls_on_the_same_store(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that tells a pager does: nothing is logged while another call has to wait for that."""
    breaker = start("api-1", url=f"redis://127.0.0.1:{free_port()}")
    store, told = store_of(breaker), list[str]()
    pager = CircuitBreaker("pager", store)

    def page(record: logging.LogRecord) -> None:
        """Tell somebody, guarded."""
        calling = threading.Thread(target=lambda: told.append(pager.call(record.getMessage)), daemon=True)
        calling.start()
        calling.join(20)

    monkeypatch.setattr(caplog.handler, "emit", page)
    assert breaker.call(works) == "charged"
    store._guard._try_again_at.update({True: 0.0, False: 0.0})
    store._registered |= {NAME, "pager"}
    monkeypatch.setattr(store, "_evaluate", lambda *_: ["permitted", "closed", 1, "auto", 0, "nothing", "", 0])
    assert breaker.call(works) == "charged"
    assert [words[:24] for words in told] == ["the store is away, each ", "the store answers again;"]


def test_a_frozen_server_costs_one_store_timeout_and_what_was_known_is_kept(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One of sixteen threads waits for the server, for one timeout; when it goes on, the shared circuit is in force."""
    monkeypatch.setattr("breaker._store_guard._PAUSE_SECONDS", 60)
    with running("valkey") as server:
        breaker = start("api-1", STRICT, url=server.url, timeout_seconds=0.3)
        store = store_of(breaker)
        breaker.call(works)
        waits: list[float] = []

        def call() -> None:
            """Call ten times, and note how long that took."""
            for _ in range(10):
                began = time.monotonic()
                assert breaker.call(works) == "charged"
                waits.append(time.monotonic() - began)

        with frozen(server):
            call()
            assert store.degraded
            threads = [threading.Thread(target=call) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
        assert len(waits) == 170
        assert sum(wait >= 0.3 for wait in waits) == 1, "only the first call waited for the server"
        monkeypatch.setattr("breaker._store_guard._PAUSE_SECONDS", 0)
        store._guard._try_again_at.update({True: 0.0, False: 0.0})

        def is_back() -> bool:
            """Call, and tell whether the store answered."""
            breaker.call(works)
            return not store.degraded

        wait_until(is_back, "the store answers again")
        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


@contextmanager
def slow_server(seconds: float) -> Iterator[str]:
    """Answer each command with a number, but only after a while."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            """Serve one connection."""
            connection, _ = listening.accept()
            with connection:
                while connection.recv(65536):
                    time.sleep(seconds)  # The slowness is what is tested.
                    connection.sendall(b":1\r\n")

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}"
        serving.join(20)


def test_the_deadline_is_one_for_everything_that_a_call_makes_the_store_do() -> None:
    """Two answers that are each in time are too late together."""
    with slow_server(0.4) as url, closing(RedisStore.from_url(url, timeout_seconds=0.6)) as store:
        with pytest.raises(StoreUnavailableError, match="TimeoutError"):
            store.acquire(NAME, "p1", LIMITS, "api-1")
        assert store._registered == {NAME}, "the first answer came in time"


def test_a_pause_of_our_own_is_no_absence_of_the_server(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that could not run until its deadline had passed still takes the answer that came meanwhile."""
    monkeypatch.setattr("breaker.sync._in_time._LAST_LOOK_SECONDS", 5)
    sadd = store._client.sadd

    def pausing(*arguments: Any) -> Any:
        """Do not run for longer than the deadline."""
        in_time._current.due = time.monotonic() - 1
        return sadd(*arguments)

    monkeypatch.setattr(store._client, "sadd", pausing)
    assert isinstance(store.acquire(NAME, "p1", LIMITS, "api-1"), Permitted)
    assert not store.degraded


def test_queueing_counts_as_waiting() -> None:
    """Who finds no free place in time is guarded locally."""
    guard, go_on = StoreGuard(0.05, 1), threading.Event()
    holding = threading.Thread(target=guard.run, args=(lambda: go_on.wait(20),))
    holding.start()
    wait_until(guard._places.empty, "the only place is taken")
    with pytest.raises(StoreUnavailableError, match="too many"):
        guard.run(works)
    go_on.set()
    holding.join(20)
    assert not guard.degraded


def test_what_is_not_understood_is_a_store_failure(store: RedisStore) -> None:
    """A reply of another version is told apart from what the server itself refuses."""
    store._scripts.acquire = Script("#!lua\nreturn {'perhaps', 0}")
    assert CircuitBreaker(NAME, store, STRICT).call(works) == "charged"
    store._scripts.snapshot = Script("#!lua\nreturn redis.error_reply('BREAKER wrong')")
    with pytest.raises(StoreUnavailableError, match="BREAKER wrong"):
        store.snapshot(NAME)
    assert not store.degraded
    store._scripts.snapshot = Script("#!lua\nreturn redis.error_reply('OOM no memory')")
    with pytest.raises(StoreUnavailableError, match="OutOfMemory"):
        store.snapshot(NAME)
    assert store.degraded


def test_threads_that_ask_the_sentinels_at_once_all_find_the_primary() -> None:
    """Who is asked first may change while another thread goes through the list."""
    address = parse(f"redis+sentinel://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3/{NAME}")
    client = connect(address, timeout_seconds=1, max_connections=2)
    pool: Any = client.connection_pool
    sentinels = pool.sentinel_manager

    *away, last = sentinels.sentinels
    primary = {"ip": "127.0.0.1", "port": 4, "is_master": True, "is_sdown": False, "is_odown": False}
    last.sentinel_masters = lambda: {NAME: primary | {"num-other-sentinels": 2}}

    def absent() -> Any:
        """Be away."""
        raise redis.ConnectionError

    def absent_for_long() -> Any:
        """Be away, and meanwhile another thread finds the last one."""
        away[0].sentinel_masters = absent
        assert sentinels.discover_master(NAME) == ("127.0.0.1", 4)
        return absent()

    away[0].sentinel_masters, away[1].sentinel_masters = absent_for_long, absent
    assert sentinels.discover_master(NAME) == ("127.0.0.1", 4)
    assert sentinels.sentinels[0] is last
    close(client)


def test_sentinels_lead_to_the_primary_also_after_a_failover(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls go on through it, and an interrupted command's answer is not taken for the next one's."""
    monkeypatch.setattr("breaker._store_guard._PAUSE_SECONDS", 0.1)
    monkeypatch.setattr("breaker.sync._redis_feed._PAUSE_SECONDS", 0.1)
    with watched("valkey") as group:
        breaker = start("api-1", url=group.url, timeout_seconds=1, heartbeat_seconds=0.1)
        warm(breaker)
        store = store_of(breaker)

        parsers: list[_HiredisParser] = []

        def interrupted(parser: _HiredisParser, **_: object) -> None:
            """Press Ctrl-C while the answer is on its way."""
            parsers.append(parser)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(_HiredisParser, "read_response", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.names()
        assert parsers[-1]._sock is None, "the connection is not used for another command"
        view = store.snapshot(NAME)
        assert view is not None
        assert view.state is State.CLOSED
        group.primary.signal(signal.SIGKILL)

        def is_promoted() -> bool:
            """Call, and tell whether the replica has taken over."""
            assert breaker.call(works) == "charged"
            return group.replica_is_primary()

        wait_until(is_promoted, "the replica is promoted")
        wait_until(lambda: breaker.call(works) == "charged" and permits(breaker), "the copy is fresh again")
        fail(breaker, 3)
        view = store.snapshot(NAME)
        assert view is not None
        assert view.state is State.OPEN


@pytest.mark.parametrize("mode", [Mode.FORCED_OPEN, Mode.FORCED_CLOSED])
def test_an_operators_mode_ends_with_its_record(
    start: Start, cli: redis.Redis, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    """Neither calls nor messages tell that the circuit was deleted: it is read again now and then."""
    monkeypatch.setattr("breaker.sync._redis_feed._REREAD_SECONDS", 0.05)
    breaker = start("api-1")
    breaker.call(works)
    wait_until(lambda: permits(breaker), "the copy is there")
    store_of(breaker).control(NAME, Override(mode=mode, reason="works on it", actor="anna"))
    wait_until(lambda: breaker.status.mode is mode, "the mode is known")
    cli.flushall()
    wait_until(lambda: not breaker._circuit.mirror._fresh, "the copy is gone")
    assert breaker.call(works) == "charged"
    assert breaker.status.mode is Mode.AUTO
