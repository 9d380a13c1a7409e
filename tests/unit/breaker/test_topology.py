"""What a URL of Redis may say, and what the client that it stands for does by itself: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis, RedisCluster

from breaker import ConfigError, RedisStore
from breaker._address import Kind, parse
from breaker._topology import Subscriptions, close, connect, drop_idle_connections

DOOR = [
    ("http://h", "begins with redis://"),
    ("redis:/h", "begins with redis://"),
    ("redis+shards://h", "begins with redis://"),
    ("unix+sentinel:///s", "begins with redis://"),
    ("redis://:planted#secret@h", "begins with redis://"),
    ("redis://:planted/secret@h", "/ is spelled %2F"),
    ("redis://h:no", "percent-encoded in a password"),
    ("redis://h:0", "HOST:PORT"),
    ("redis://h:65536", "HOST:PORT"),
    ("redis://::1", "HOST:PORT"),
    ("redis://h,i", "redis+sentinel"),
    ("redis://h/one", "number"),
    ("redis://h/0/0", "number of a database"),
    ("redis://h?db=one", "number"),
    ("redis://h?max_connections=1", "no parameter max_connections"),
    ("redis://h?sentinel_password=planted", "no parameter sentinel_password"),
    ("redis://h?ssl_ca_certs=planted.pem", "begin it with rediss"),
    ("rediss://h?ssl_check_hostname=perhaps", "true or false"),
    ("rediss://h?ssl_cert_reqs=perhaps", "required, optional or none"),
    ("rediss://h?ssl_ca_certs=/missing/ca.pem", "TLS file"),
    ("rediss://h?ssl_keyfile=/missing/key.pem", "needs ssl_certfile"),
    ("rediss://h?ssl_certfile=/missing/cert.pem", "TLS file"),
    ("redis+sentinel://h", "names the service"),
    ("redis+sentinel://h/", "names the service"),
    ("redis+sentinel://h/s/0/0", "names the service"),
    ("redis+sentinel://h/s/one", "number"),
    ("redis+sentinel:///s", "HOST:PORT"),
    ("redis+sentinel://h,/s", "HOST:PORT"),
    ("redis+cluster://", "HOST:PORT"),
    ("redis+cluster://h/1", "database 0 only"),
    ("redis+cluster://h?db=1", "database 0 only"),
    ("unix://h/socket", "unix:///PATH"),
    ("unix://", "unix:///PATH"),
    *(
        (url, "white space and control characters")
        for url in (
            *(
                "redis://localhost\n",
                "\nredis://localhost",
                "redis://ho st",
                "redis://:planted secret@h",
                "redis://h/0 ",
            ),
            *("redis://h\x00", "redis://h\x7f", "redis://h\x9b", "redis://h\u2003", "redis://h?client_name=a\tb"),
            *("unix:///run/redis socket", "redis+cluster://a, b", "redis+sentinel://h/my service"),
        )
    ),
]


@pytest.mark.parametrize(("url", "said"), DOOR)
def test_nonsense_is_refused_at_the_door(url: str, said: str) -> None:
    """A URL that cannot work is refused with a sentence that says what to do and repeats no secret."""
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        RedisStore.from_url(url)
    assert "planted" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "hosts", "options"),
    [
        ("redis://", [("localhost", 6379)], {}),
        ("redis://h", [("h", 6379)], {}),
        ("redis://h:1/", [("h", 1)], {}),
        ("redis://h:1/2", [("h", 1)], {"db": 2}),
        ("redis://h?db=2&client_name=api", [("h", 6379)], {"db": 2, "client_name": "api"}),
        ("redis://[::1]:1", [("::1", 1)], {}),
        ("redis://u:p%2F%40@h", [("h", 6379)], {"username": "u", "password": "p/@"}),
        ("redis://:p:p@p@h", [("h", 6379)], {"password": "p:p@p"}),
        ("redis://h?username=u&password=p%2Bp", [("h", 6379)], {"username": "u", "password": "p+p"}),
        ("unix:///run/redis%20socket?db=2", [], {"unix_socket_path": "/run/redis socket", "db": 2}),
        ("unix://u:p@/s", [], {"unix_socket_path": "/s", "username": "u", "password": "p"}),
    ],
)
def test_a_url_of_one_server(url: str, hosts: list[tuple[str, int]], options: dict[str, Any]) -> None:
    """Host, port, database and credentials are where everybody looks for them."""
    address = parse(url)
    assert (address.kind, list(address.hosts), address.options) == (Kind.SERVER, hosts, options)


def test_a_url_of_sentinels() -> None:
    """The credentials before the hosts are the primary's, those of the Sentinels are parameters."""
    address = parse("redis+sentinel://u:p@a:1,b,[::1]:3/my%20service/4?sentinel_username=su&sentinel_password=sp")
    assert address.hosts == (("a", 1), ("b", 26379), ("::1", 3))
    assert (address.kind, address.service) == (Kind.SENTINEL, "my service")
    assert address.options == {"username": "u", "password": "p", "db": 4}
    assert address.sentinel_options == {"username": "su", "password": "sp"}
    assert parse("redis+sentinel://a/s").options == {}


@pytest.mark.parametrize("end", ["", "/", "/0", "?db=0"])
def test_a_url_of_a_cluster(end: str) -> None:
    """Nodes to begin with, and the one database that there is."""
    address = parse(f"redis+cluster://u:p@a:1,b{end}")
    assert (address.kind, address.hosts) == (Kind.CLUSTER, (("a", 1), ("b", 6379)))
    assert address.options == {"username": "u", "password": "p"}


@pytest.mark.parametrize("url", ["rediss://h", "rediss+sentinel://h/s", "rediss+cluster://h"])
def test_tls_verifies_unless_it_is_told_not_to(url: str) -> None:
    """Certificate and host name are verified by default, of the Sentinels as well."""
    strict = {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
    address = parse(url)
    assert address.options == strict
    assert address.sentinel_options == strict
    assert parse(f"{url}?ssl_check_hostname=False").options == strict | {"ssl_check_hostname": False}
    assert parse(f"{url}?ssl_cert_reqs=none").options == strict | {"ssl_cert_reqs": "none"}


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    """What is found at the door does not look like an absent Redis later."""
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(ConfigError, match="TLS file"):
        parse(f"rediss://h?ssl_ca_certs={file}")


def test_no_password_shows() -> None:
    """Neither an address in a traceback nor one in a log tells a password."""
    assert "planted" not in repr(parse("redis+sentinel://:planted@h/s?sentinel_password=planted"))


async def test_no_client_repeats_anything_by_itself() -> None:
    """Retries are off everywhere, the timeouts of what may be asked in turn fit into the deadline together."""
    clients = [
        connect(parse(url), timeout_seconds=0.3, max_connections=7)
        for url in ("redis://h", "unix:///s", "redis+sentinel://a,b/s", "redis+cluster://a,b")
    ]
    server, local, primary, cluster = clients
    assert isinstance(server, Redis)
    assert isinstance(local, Redis)
    assert isinstance(primary, Redis)
    assert isinstance(cluster, RedisCluster)
    pool: Any = primary.connection_pool
    waiting = []
    for client in (server, local, primary, *pool.sentinel_manager.sentinels):
        connection = client.connection_pool.make_connection()
        assert connection.retry.get_retries() == 0
        waiting.append((connection.socket_connect_timeout, connection.socket_timeout))
    # The driver has a mind of its own about connecting to a Unix socket, which is longer than the deadline.
    assert waiting == [(None, None), (5, None), (None, None), *[(pytest.approx(0.1), pytest.approx(0.1))] * 2]
    assert cluster.retry.get_retries() == 0
    for node in cluster.startup_nodes:
        assert node.max_connections == 7
        connection = node.acquire_connection()
        assert connection.retry.get_retries() == 0
        assert (connection.socket_connect_timeout, connection.socket_timeout) == (0.15, 0.15)
    for client in clients:
        await close(client)


async def test_a_clusters_client_finds_its_way_by_itself() -> None:
    """Its connections are not given up for new ones; those of a server's client are."""
    client = connect(parse("redis+cluster://127.0.0.1:1"), timeout_seconds=1, max_connections=2)
    await drop_idle_connections(client)
    await close(client)


async def test_tasks_that_ask_the_sentinels_at_once_all_find_the_primary() -> None:
    """Who is asked first may change while another task goes through the list."""
    address = parse("redis+sentinel://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3/primary")
    client = connect(address, timeout_seconds=1, max_connections=2)
    assert isinstance(client, Redis)
    pool: Any = client.connection_pool
    sentinels = pool.sentinel_manager
    *away, last = sentinels.sentinels
    state = {"ip": "127.0.0.1", "port": 4, "is_master": True, "is_sdown": False, "is_odown": False}

    async def knows() -> Any:
        return {"primary": state | {"num-other-sentinels": 2}}

    async def absent() -> Any:
        """Be away."""
        raise redis.ConnectionError

    async def absent_for_long() -> Any:
        """Be away, and meanwhile another task finds the last one."""
        away[0].sentinel_masters = absent
        assert await sentinels.discover_master("primary") == ("127.0.0.1", 4)
        return await absent()

    last.sentinel_masters, away[0].sentinel_masters, away[1].sentinel_masters = knows, absent_for_long, absent
    assert await sentinels.discover_master("primary") == ("127.0.0.1", 4)
    assert sentinels.sentinels[0] is last
    await close(client)


async def test_a_subscription_that_is_cancelled_while_the_driver_connects_is_no_connection() -> None:
    """Even where the driver loses the cancellation; whoever cancelled waits, and the socket is nobody's."""

    class Losing:
        is_open = False

        async def connect(self) -> None:
            self.is_open = True
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        async def disconnect(self, *, nowait: bool) -> None:
            assert nowait
            self.is_open = False

    client, connection = Redis(), Losing()
    pool: Any = client.connection_pool
    pool.make_connection = lambda: connection
    opening = asyncio.create_task(Subscriptions(client).open())
    while not connection.is_open:  # noqa: ASYNC110 - a few turns
        await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not connection.is_open
