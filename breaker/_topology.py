"""The client that an address stands for, and a connection for the subscription."""

from __future__ import annotations

import copy
import random
from typing import Any, TypeAlias

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from breaker._address import Address, Kind
from breaker._deadlines import HeedingCancellation

Client: TypeAlias = Redis | RedisCluster


def connect(address: Address, *, timeout_seconds: float, max_connections: int) -> Client:
    """Make a client that connects when it is first used, and repeats nothing by itself.

    The store's one deadline bounds connecting, queueing and answering together. Where a command may have to ask several
    hosts until one answers, each gets a part of it.

    Args:
        address: Where Redis is.
        timeout_seconds: The store's deadline.
        max_connections: How many connections there may be, to each node of a Cluster.
    """
    options = {**address.options, **_waiting(None), "max_connections": max_connections}
    if address.kind is Kind.SENTINEL:
        # One more part than there are Sentinels, so that even if only the last one answers the primary still can.
        part_seconds = timeout_seconds / (len(address.hosts) + 1)
        asking = {**address.sentinel_options, **_waiting(part_seconds)}
        sentinels = _Sentinels(address.hosts, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
        primary: Redis = sentinels.master_for(address.service, **options)
        return primary
    if address.kind is Kind.CLUSTER:
        # A node that is silent must fail before the deadline cancels the command: the driver takes only a failure for
        # a reason to find out who has the slots now.
        options |= _waiting(timeout_seconds / 2)
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
            # The names in the URL stay right when every node has got a new address, what was discovered does not.
            dynamic_startup_nodes=False,
            # Whether a Cluster that has lost a part goes on with the rest is its operator's choice.
            require_full_coverage=False,
            **options,
        )
    if address.hosts:
        options["host"], options["port"] = address.hosts[0]
    return Redis(**options)


async def close(client: Client) -> None:
    """Close a client that `connect` made."""
    await client.aclose()
    if isinstance(client, RedisCluster):
        # The client itself does nothing while it waits to look at the Cluster anew, but it has connections then.
        await client.nodes_manager.aclose()
        await client.nodes_manager.aclose("startup_nodes")
    elif isinstance(client.connection_pool, SentinelConnectionPool):
        await client.connection_pool.sentinel_manager.aclose()


async def drop_idle_connections(client: Client) -> None:
    """Close what is not in use, so that the next command connects anew; a Cluster's client finds its way by itself."""
    if not isinstance(client, RedisCluster):
        await client.connection_pool.disconnect(inuse_connections=False)


class _Sentinels(Sentinel):
    """Sentinels that several tasks may ask at once."""

    async def discover_master(self, service_name: str) -> Any:
        # The driver moves the one that answers to the front, and a task that is going through the list then misses it.
        # So each goes through a list of its own.
        asking = copy.copy(self)
        asking.sentinels = [*self.sentinels]
        primary = await Sentinel.discover_master(asking, service_name)
        self.sentinels = asking.sentinels
        return primary


class Subscriptions:
    """Opens connections for a subscription: to the server or the primary, or in a Cluster to any of the nodes.

    A Cluster's nodes pass every message on to each other, so one node is enough.

    Args:
        client: The client whose server publishes.

    Attributes:
        may_lose: Whether a message may be lost while the connection stands.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.may_lose = isinstance(client, RedisCluster)
        self._last_node = ""

    async def open(self) -> AbstractConnection:
        """Open one, in a Cluster to another node than the last time if there is one."""
        with HeedingCancellation():
            connection = await self._make()
        try:
            with HeedingCancellation():
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _make(self) -> AbstractConnection:
        client = self._client
        if not isinstance(client, RedisCluster):
            # Not from the pool itself, which lends connections for commands and wants them back.
            made: AbstractConnection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
            return made
        await client.initialize()
        if self._last_node:
            # It broke. While all is well no command is sent that would find out which nodes there are now.
            await client.nodes_manager.initialize()
        nodes = client.get_nodes()
        node = random.choice([node for node in nodes if node.name != self._last_node] or nodes)  # noqa: S311
        self._last_node = node.name
        return node.connection_class(**node.connection_kwargs)


def _waiting(seconds: float | None) -> dict[str, Any]:
    return {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "retry": Retry(NoBackoff(), 0),
        # With these a connection says nothing of its own but AUTH and SELECT. What the driver would say besides (its
        # name, which protocol it likes, what else it understands) costs round trips and needs rights that nothing else
        # here needs.
        "driver_info": None,
        "protocol": 2,
    }
