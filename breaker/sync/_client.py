"""The client that a URL stands for, for threads."""

from __future__ import annotations

import copy
import threading
from typing import Any

from redis import Redis, Sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from breaker._address import Address, Kind
from breaker._errors import ConfigError
from breaker.sync._in_time import bound


def connect(address: Address, *, timeout_seconds: float, max_connections: int) -> Redis:
    """Make a client that connects when it is first used, repeats nothing, and keeps to the deadline of its thread.

    Args:
        address: Where Redis is.
        timeout_seconds: The store's deadline.
        max_connections: How many connections there may be.

    Raises:
        ConfigError: It is a Cluster, which is for tasks only.
    """
    if address.kind is Kind.CLUSTER:
        raise ConfigError("breaker.sync finds no Cluster: use breaker.RedisStore in an event loop, or a single server")
    options: dict[str, Any] = {**address.options, **_waiting(timeout_seconds), "max_connections": max_connections}
    if address.kind is Kind.SENTINEL:
        # One more part than there are Sentinels, so that even if only the last one answers the primary still can.
        asking = {**address.sentinel_options, **_waiting(timeout_seconds / (len(address.hosts) + 1))}
        sentinels = _Sentinels(address.hosts, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
        for sentinel in sentinels.sentinels:
            bound(sentinel.connection_pool)
        client: Redis = sentinels.master_for(address.service, **options)  # type: ignore[no-untyped-call]
    else:
        if address.hosts:
            options["host"], options["port"] = address.hosts[0]
        client = Redis(**options)
    bound(client.connection_pool)
    return client


def close(client: Redis) -> None:
    """Close a client that `connect` made."""
    client.close()
    if isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            sentinel.close()


def free(client: Redis) -> None:
    """Free a client from what other threads of the parent did with it at the moment of the fork.

    The driver itself makes new connections in a child, but to do so it takes locks that it goes on using there, and
    whose holder may not exist in the child.
    """
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            free(sentinel)
    for owner in (pool, getattr(pool, "_event_dispatcher", pool), getattr(client, "_event_dispatcher", pool)):
        owner._lock = threading.RLock()  # noqa: SLF001 - the driver has no other name for it
    pool._fork_lock = threading.RLock()  # noqa: SLF001
    client.single_connection_lock = threading.RLock()


class _Sentinels(Sentinel):
    """Sentinels that several threads may ask at once."""

    def discover_master(self, service_name: str) -> Any:
        # The driver moves the one that answers to the front, and a thread that is going through the list then misses
        # it. So each goes through a list of its own.
        asking = copy.copy(self)
        asking.sentinels = [*self.sentinels]
        primary = Sentinel.discover_master(asking, service_name)  # type: ignore[no-untyped-call]
        self.sentinels = asking.sentinels
        return primary


def _waiting(seconds: float) -> dict[str, Any]:
    return {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "retry": Retry(NoBackoff(), 0),
        # As in `breaker._topology`: a connection says nothing of its own but AUTH and SELECT.
        "driver_info": None,
        "protocol": 2,
    }
