"""A guarded httpx client, real connections and a real server: what a mock of a transport cannot show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest

from breaker import BreakerConfig, CallNotPermittedError, RedisStore, State, View, sync
from breaker.integrations.httpx import BreakerTransport, PerHost, SyncBreakerTransport, SyncPerHost
from tests.support.replica import until

CONFIG = BreakerConfig(cooldown_seconds=600)
_ANSWERS = {
    "/works": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "/streams": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "/breaks": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
    "/fails": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\ndown",
    "/limits": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n",
    "/hangs": b"",
}


class Host:
    """Answers each path in its own way, and knows how many connections it was given."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode()
                writer.write(_ANSWERS[path])
                await writer.drain()
                if path == "/breaks":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """An HTTP server of a few lines."""
    host = Host()
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    host.port = server.sockets[0].getsockname()[1]
    async with server:
        yield host


@asynccontextmanager
async def replica(redis_url: str, host: Host) -> AsyncIterator[tuple[httpx.AsyncClient, RedisStore, PerHost]]:
    """Yield a guarded client with one connection at most: one that were not given back would block the next request."""
    store = RedisStore.from_url(redis_url, timeout_seconds=5)
    per_host = PerHost(store, CONFIG)
    limits = httpx.Limits(max_connections=1)
    transport = BreakerTransport(httpx.AsyncHTTPTransport(limits=limits), breaker_for=per_host)
    timeout = httpx.Timeout(5, read=0.2)
    async with httpx.AsyncClient(
        transport=transport, base_url=f"http://127.0.0.1:{host.port}", timeout=timeout
    ) as client:
        yield client, store, per_host
    await per_host.aclose()
    await store.aclose()


@contextmanager
def replica_of_threads(redis_url: str, host: Host) -> Iterator[tuple[httpx.Client, SyncPerHost]]:
    """Yield the same for threads."""
    store = sync.RedisStore.from_url(redis_url, timeout_seconds=5)
    per_host = SyncPerHost(store, CONFIG)
    transport = SyncBreakerTransport(httpx.HTTPTransport(limits=httpx.Limits(max_connections=1)), breaker_for=per_host)
    with httpx.Client(
        transport=transport, base_url=f"http://127.0.0.1:{host.port}", timeout=httpx.Timeout(5, read=0.2)
    ) as client:
        yield client, per_host
    per_host.close()
    store.close()


async def until_open(per_host: PerHost | SyncPerHost) -> None:
    """Wait until the message that the host's circuit is open has arrived."""
    await until(lambda: [breaker.status.state for breaker in per_host] == [State.OPEN])


async def seen(store: RedisStore, host: Host) -> View:
    """Read the host's circuit."""
    view = await store.snapshot(f"127.0.0.1:{host.port}")
    assert view is not None
    return view


async def test_the_fleet_shares_what_one_replica_learned_of_a_host(redis_url: str, host: Host) -> None:
    """Failures of two replicas add up, and neither sends another request."""
    async with replica(redis_url, host) as (one, store, _), replica(redis_url, host) as (other, _, others_circuits):
        assert (await one.get("/fails")).text == "down"
        with pytest.raises(httpx.ReadTimeout):
            await other.get("/hangs")
        assert (await one.get("/fails")).status_code == 500
        await until_open(others_circuits)
        for client in (one, other):
            with pytest.raises(CallNotPermittedError) as refused:
                await client.get("/works")
            assert refused.value.retry_after_seconds > 590
        assert (await seen(store, host)).failures == 3


async def test_a_body_that_breaks_off_is_a_failure(redis_url: str, host: Host) -> None:
    """The caller sees the broken connection as without a breaker."""
    async with replica(redis_url, host) as (client, store, _):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/breaks")
        view = await seen(store, host)
    assert (view.failures, view.last_error) == (1, "RemoteProtocolError")


async def test_a_rate_limit_opens_the_circuit_for_the_time_that_it_names(redis_url: str, host: Host) -> None:
    """One answer is enough for the whole fleet."""
    async with replica(redis_url, host) as (client, store, _):
        assert (await client.get("/limits")).status_code == 429
        view = await seen(store, host)
    assert (view.state, view.last_error) == (State.OPEN, "HTTP 429")
    assert 110 < view.retry_after_seconds <= 120


async def test_every_connection_goes_back_to_the_pool(redis_url: str, host: Host) -> None:
    """Read, streamed, left at once or failed: the next request finds the only connection free."""
    async with replica(redis_url, host) as (client, store, _):
        assert (await client.get("/works")).text == "hello"
        assert (await client.get("/streams")).text == "hello"
        assert host.connections == 1
        async with client.stream("GET", "/streams"):
            pass
        async with client.stream("GET", "/fails"):
            pass
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/hangs")
        assert (await client.get("/works")).text == "hello"
        assert (await seen(store, host)).state is State.CLOSED


async def test_threads_and_tasks_share_what_they_learned_of_a_host(redis_url: str, host: Host) -> None:
    """Failures of a client in threads and of one in tasks add up, and neither sends another request."""

    def refused_in_a_thread() -> float:
        with pytest.raises(CallNotPermittedError) as refused:
            in_threads.get("/works")
        return refused.value.retry_after_seconds

    with replica_of_threads(redis_url, host) as (in_threads, circuits):
        async with replica(redis_url, host) as (in_tasks, store, _):
            assert (await asyncio.to_thread(in_threads.get, "/fails")).text == "down"
            with pytest.raises(httpx.ReadTimeout):
                await asyncio.to_thread(in_threads.get, "/hangs")
            assert (await in_tasks.get("/fails")).status_code == 500
            with pytest.raises(CallNotPermittedError):
                await in_tasks.get("/works")
            await until_open(circuits)
            assert await asyncio.to_thread(refused_in_a_thread) > 590
            assert (await seen(store, host)).failures == 3


async def test_every_connection_of_threads_goes_back_to_the_pool(redis_url: str, host: Host) -> None:
    """Read, streamed, left at once, broken off or failed: the next request finds the only connection free."""

    def use() -> None:
        assert client.get("/works").text == "hello"
        assert client.get("/streams").text == "hello"
        assert host.connections == 1
        with client.stream("GET", "/streams"):
            pass
        with client.stream("GET", "/fails"):
            pass
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/breaks")
        assert client.get("/works").text == "hello"

    with replica_of_threads(redis_url, host) as (client, _):
        await asyncio.to_thread(use)
