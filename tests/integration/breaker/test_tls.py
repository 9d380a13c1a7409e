"""What the library promises over TLS, with Debian's Redis: Valkey's wheel is built without it."""

from __future__ import annotations

import logging
import select
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from breaker import BreakerConfig, Consistency, sync
from tests.support.certificates import Authority
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.redis_servers import RedisServer, running
from tests.support.replica import NAME, replicas, until, works

STRICT = BreakerConfig(consistency=Consistency.STRICT)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who signs everything in a test."""
    return Authority(tmp_path, "authority")


@pytest.fixture
def secured(authority: Authority) -> Callable[..., AbstractContextManager[RedisServer]]:
    """Starts servers that speak TLS only."""
    certificate, key = authority.sign("server")

    def start(**options: Any) -> AbstractContextManager[RedisServer]:
        defaults = {"tls_auth_clients": "no", "tls_replication": "yes"}
        files = {"tls_cert_file": certificate, "tls_key_file": key, "tls_ca_cert_file": authority.file}
        return running("redis7", **{**files, **defaults, **options})

    return start


Start = Callable[..., AbstractContextManager[RedisServer]]


@pytest.fixture
def server(secured: Start) -> Iterator[RedisServer]:
    """A server that speaks TLS only."""
    with secured() as started:
        yield started


async def test_commands_and_messages_go_through_tls(server: RedisServer, authority: Authority) -> None:
    """With the right authority two replicas share a circuit, messages included."""
    url = f"rediss://{server.address}?ssl_ca_certs={authority.file}"
    async with replicas() as start:
        first, second = start(url, "api-1"), start(url, "api-2")
        await first.warm()
        await second.warm()
        await first.fail(3)
        await until(lambda: second.refuses)


async def test_threads_go_through_tls_as_well(server: RedisServer, authority: Authority) -> None:
    """A trip by tasks reaches them, heartbeats keep their copy fresh, and no authority is an absent store."""
    without = f"rediss://{server.address}"
    url = f"{without}?ssl_ca_certs={authority.file}"
    with (
        closing(sync.RedisStore.from_url(url, timeout_seconds=5, heartbeat_seconds=0.02)) as store,
        closing(sync.RedisStore.from_url(without, timeout_seconds=5)) as unknown,
    ):
        threads = sync.CircuitBreaker(NAME, store)
        assert threads.call(lambda: "charged") == "charged"
        await until(lambda: threads._circuit.permit is not None)
        async with replicas() as start:
            tasks = start(url, "api-1")
            await tasks.warm()
            await tasks.fail(3)
            await until(lambda: threads._circuit.mirror.refusing_seconds() > 0)
        with server.client(ssl=True, ssl_ca_certs=str(authority.file)) as client:
            client.config_resetstat()
            await until(lambda: client.info("commandstats").get("cmdstat_ping", {}).get("calls", 0) >= 3)
        assert threads._circuit.mirror.refusing_seconds() > 0
        assert not store.degraded
        assert sync.CircuitBreaker(NAME, unknown, STRICT).call(lambda: "charged") == "charged"
        assert unknown.degraded


def test_the_tickets_of_a_server_are_no_answer_that_nobody_asked_for(server: RedisServer, authority: Authority) -> None:
    """They follow the handshake of TLS 1.3; a driver that counts them as data finds no connection that is ready."""
    url = f"rediss://{server.address}?ssl_ca_certs={authority.file}"
    with closing(sync.RedisStore.from_url(url, timeout_seconds=5)) as store:
        connection: Any = store._client.connection_pool.make_connection()
        connection.connect()
        assert select.select([connection._sock], [], [], 20)[0], "the tickets are there"
        assert not connection.can_read()
        connection.send_command("PING")
        assert select.select([connection._sock], [], [], 20)[0]
        assert [connection.can_read(), connection.can_read()] == [True, True], "read, and not taken out"
        assert connection.read_response() == b"PONG"
        assert not connection.can_read()
        connection.disconnect()


@pytest.mark.parametrize("wrong", ["authority", "host", "none", "no TLS"])
async def test_whoever_cannot_prove_who_he_is_is_an_absent_store(
    server: RedisServer, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    """A wrong authority, a wrong host name, no authority and no TLS: no command is sent, and the log says why."""
    other = Authority(tmp_path, "other")
    url, said = {
        "authority": (f"rediss://{server.address}?ssl_ca_certs={other.file}", "certificate verify failed"),
        "host": (f"rediss://localhost:{server.port}?ssl_ca_certs={authority.file}", "Hostname mismatch"),
        "none": (f"rediss://{server.address}", "certificate verify failed"),
        "no TLS": (f"redis://{server.address}", "the store is away"),
    }[wrong]
    async with replicas() as start:
        replica = start(url, "api-1", STRICT)
        with caplog.at_level(logging.WARNING, logger="breaker"):
            assert await replica.breaker.call(works) == "charged"
        assert replica.store.degraded
        assert said in caplog.text


async def test_a_client_shows_its_own_certificate_where_it_has_to(secured: Start, authority: Authority) -> None:
    """Where the server wants a certificate, one that was given in the URL opens the door, and none does not."""
    certificate, key = authority.sign("client")
    with secured(tls_auth_clients="yes") as server:
        without = f"rediss://{server.address}?ssl_ca_certs={authority.file}"
        async with replicas() as start:
            known = start(f"{without}&ssl_certfile={certificate}&ssl_keyfile={key}", "api-1", STRICT)
            assert await known.store.names() == []
            unknown = start(without, "api-2", STRICT)
            await unknown.breaker.call(works)
            assert unknown.store.degraded


async def test_sentinels_and_their_primary_by_tls(secured: Start, server: RedisServer, authority: Authority) -> None:
    """Both are asked by TLS, and both must prove who they are."""
    lines = (f"sentinel monitor circuits 127.0.0.1 {server.port} 1",)
    with secured(mode="--sentinel", ready="Sentinel ID", lines=lines) as sentinel:
        url = f"rediss+sentinel://{sentinel.address}/circuits"
        async with replicas() as start:
            known = start(f"{url}?ssl_ca_certs={authority.file}", "api-1")
            await known.warm()
            unknown = start(url, "api-2", STRICT)
            await unknown.breaker.call(works)
            assert unknown.store.degraded


async def test_a_cluster_by_tls(secured: Start, authority: Authority) -> None:
    """The nodes that the Cluster tells of are asked by TLS as well, and so is the subscription's."""
    with secured(tls_cluster="yes", cluster_enabled="yes", cluster_port=free_port()) as node:
        with node.client(ssl=True, ssl_ca_certs=str(authority.file)) as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "the Cluster serves")
        async with replicas() as start:
            replica = start(f"rediss+cluster://{node.address}?ssl_ca_certs={authority.file}", "api-1")
            await replica.warm()
            await replica.fail(3)
            await until(lambda: replica.refuses)
