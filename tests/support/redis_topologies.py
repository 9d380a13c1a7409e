"""More than one server: a primary that a Sentinel watches, and a Cluster. Both are made for one who will break them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from redis.crc import key_slot

from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.redis_servers import RedisServer, running

SERVICE = "circuits"
_SLOTS = 16384
# Short enough for a test, long enough for a busy machine.
_DOWN_AFTER_MS = 500


def is_replicating(server: RedisServer) -> bool:
    """Tell whether a replica has all that its primary has."""
    with server.client() as client:
        told: dict[str, Any] = client.info("replication")
    return told.get("master_link_status") == "up"


def runs(server: RedisServer, command: str) -> int:
    """Count how often a server has run a command."""
    with server.client() as client:
        told: dict[str, Any] = client.info("commandstats")
    return int(told.get(f"cmdstat_{command}", {}).get("calls", 0))


@dataclass(frozen=True)
class Watched:
    """A primary and a replica, and the Sentinel that promotes the replica when the primary is gone."""

    primary: RedisServer
    replica: RedisServer
    sentinel: RedisServer

    @property
    def url(self) -> str:
        """The first Sentinel that it names is away."""
        return f"redis+sentinel://127.0.0.1:{free_port()},{self.sentinel.address}/{SERVICE}"

    def replica_is_primary(self) -> bool:
        """Tell whether the Sentinel has promoted the replica."""
        with self.sentinel.client() as client:
            primary: dict[str, Any] = client.sentinel_masters()[SERVICE]
        return primary["port"] == self.replica.port and not primary["is_sdown"]


@contextmanager
def watched(kind: str) -> Iterator[Watched]:
    """Start a primary, a replica and a Sentinel, which alone is a quorum."""
    with running(kind) as primary, running(kind, replicaof=f"127.0.0.1 {primary.port}") as replica:
        wait_until(lambda: is_replicating(replica), "the replica has all that the primary has")
        lines = (
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1",
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}",
        )
        with running(kind, mode="--sentinel", ready="Sentinel ID", lines=lines) as sentinel:

            def knows_the_replica() -> bool:
                with sentinel.client() as client:
                    return bool(client.sentinel_masters()[SERVICE]["num-slaves"] == 1)

            wait_until(knows_the_replica, "the Sentinel knows the replica")
            yield Watched(primary, replica, sentinel)


@dataclass(frozen=True)
class Cluster:
    """Three primaries, and a replica of the first."""

    primaries: tuple[RedisServer, ...]
    replica: RedisServer

    @property
    def url(self) -> str:
        """All nodes."""
        return "redis+cluster://" + ",".join(node.address for node in (*self.primaries, self.replica))

    def owner_of(self, circuit: str) -> RedisServer:
        """Say which primary had a circuit in the beginning."""
        return self.primaries[key_slot(circuit.encode()) * len(self.primaries) // _SLOTS]

    def circuit_of(self, node: RedisServer, number: int = 0) -> str:
        """Find a name whose circuit lies on a node."""
        names = (f"provider-{letter}" for letter in range(1000))
        return [name for name in names if self.owner_of(name) is node][number]

    def replica_is_primary(self) -> bool:
        """Tell whether every node that lives takes the replica for a primary, and the Cluster for whole."""
        slots = _ask(self.primaries[1], "CLUSTER SLOTS")
        return self.replica.port in {primary[1] for _, _, primary, *_ in slots} and _is_whole(self.primaries[1])


def _ask(server: RedisServer, *command: str | int) -> Any:
    with server.client() as client:
        return client.execute_command(*command)


def _is_whole(node: RedisServer) -> bool:
    told: dict[str, str] = _ask(node, "CLUSTER INFO")
    return told["cluster_state"] == "ok" and told["cluster_slots_ok"] == str(_SLOTS)


@contextmanager
def cluster(kind: str, **settings: str) -> Iterator[Cluster]:
    """Start a Cluster whose nodes all know each other."""
    with ExitStack() as exits:
        nodes = tuple(
            exits.enter_context(
                running(
                    kind,
                    cluster_enabled="yes",
                    # Not the port and ten thousand, which there may not be.
                    cluster_port=free_port(),
                    cluster_node_timeout=_DOWN_AFTER_MS,
                    cluster_replica_validity_factor=0,
                    **settings,
                )
            )
            for _ in range(4)
        )
        *primaries, replica = nodes
        for number, node in enumerate(primaries):
            first, end = (-(-_SLOTS * which // len(primaries)) for which in (number, number + 1))
            _ask(node, "CLUSTER ADDSLOTSRANGE", first, end - 1)
        for number, node in enumerate(nodes):
            # Nodes with the same epoch would have to find out first who has the higher name.
            _ask(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node, other in combinations(nodes, 2):
            bus = _ask(other, "CONFIG GET", "cluster-port")["cluster-port"]
            _ask(node, "CLUSTER MEET", "127.0.0.1", other.port, bus)
        first_id = _ask(primaries[0], "CLUSTER MYID")
        wait_until(lambda: first_id in str(_ask(replica, "CLUSTER NODES")), "the replica knows its primary")
        _ask(replica, "CLUSTER REPLICATE", first_id)
        wait_until(lambda: is_replicating(replica), "the replica has all that its primary has")
        wait_until(lambda: all(map(_is_whole, nodes)), "every node knows every other")
        yield Cluster(tuple(primaries), replica)
