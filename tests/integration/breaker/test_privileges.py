"""The users that docs/operations.md describes may do what the library does, and nothing else."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from breaker import BreakerConfig, Consecutive, Mode, Outcome, Override, RedisStore, StoreUnavailableError, sync
from breaker._scripts import load_script
from breaker._types import Report
from tests.support.redis_servers import KINDS, RedisServer, running
from tests.support.redis_topologies import cluster, watched
from tests.support.replica import ProviderDownError, replicas, until, works

_DOCS = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
SERVER, CLUSTER, SENTINEL = re.findall(r"^ACL SETUSER (breaker .*)$", _DOCS, re.MULTILINE)
_OPERATIONS = ("acquire", "record", "snapshot", "control")
IN_SCRIPTS = {
    "|".join(filter(None, words)).lower()
    for operation in _OPERATIONS
    for words in re.findall(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?", load_script(operation).text)
}


def allow(server: RedisServer, *lines: str) -> None:
    """Make the user, as an operator does with redis-cli, and count from here on what is run and what is denied."""
    with server.client() as client:
        for line in lines:
            assert client.execute_command("ACL SETUSER", *line.split())
        client.acl_log_reset()
        client.config_resetstat()


def denied(server: RedisServer) -> list[Any]:
    """List what the user was not allowed to do."""
    with server.client() as client:
        return [(entry["object"], entry["reason"]) for entry in client.acl_log()]


def granted(line: str) -> set[str]:
    """List the commands that a line grants."""
    return {word[1:] for word in line.split() if word.startswith("+")}


async def use_everything(url: str, *, circuit: str) -> None:
    """Let two replicas do what the library can do: each script with each turn, the names, and the messages."""
    config = BreakerConfig(cooldown_seconds=0.1)
    async with replicas() as start:
        first, second = (
            start(url, name, config, circuit=circuit, heartbeat_seconds=0.02) for name in ("api-1", "api-2")
        )
        await first.warm()
        await second.warm()
        await first.fail(1)
        await first.fail(2)
        await until(lambda: second.refuses)
        await until(lambda: not second.refuses)
        assert await second.breaker.call(works) == "charged"  # the probe that closes
        await until(lambda: first.permits and second.permits)
        for mode in (Mode.FORCED_OPEN, Mode.AUTO):
            view = await first.store.control(circuit, Override(mode=mode, reason="maintenance", actor="anna"))
            assert view.mode is mode
        assert await second.store.snapshot(circuit) is not None
        assert await second.store.events(circuit)
        await first.store.control(circuit, Override(mode=None, reason="done", actor="anna"))
        assert circuit in await second.store.names()
        assert not first.store.degraded
        assert not second.store.degraded


def test_every_command_of_the_scripts_is_granted() -> None:
    """What a script runs, its caller must be allowed to run."""
    assert granted(SERVER) >= IN_SCRIPTS


@pytest.mark.parametrize("kind", KINDS)
async def test_the_user_can_do_everything_and_nothing_is_granted_that_is_not_used(kind: str) -> None:
    """Nothing is denied while everything is used; each command that is granted was run or stands in a script."""
    with running(kind) as server:
        allow(server, SERVER)
        await use_everything(f"redis://breaker:SECRET@{server.address}", circuit="c")
        assert denied(server) == []
        with server.client() as client:
            run = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
        assert granted(SERVER) <= run | IN_SCRIPTS


@pytest.mark.parametrize("kind", KINDS)
async def test_the_user_can_do_everything_in_threads(kind: str) -> None:
    """Their driver sends nothing that the same line does not grant."""

    def fails() -> None:
        raise ProviderDownError

    with running(kind) as server:
        allow(server, SERVER)
        url = f"redis://breaker:SECRET@{server.address}"
        with closing(sync.RedisStore.from_url(url, timeout_seconds=5, heartbeat_seconds=0.02)) as store:
            breaker = sync.CircuitBreaker("c", store)
            assert breaker.call(lambda: "charged") == "charged"
            await until(lambda: breaker._circuit.permit is not None)
            for _ in range(3):
                with pytest.raises(ProviderDownError):
                    breaker.call(fails)
            await until(lambda: breaker._circuit.mirror.refusing_seconds() > 0)
            store.control("c", Override(mode=None, reason="done", actor="anna"))
            await until(lambda: breaker._circuit.permit is not None)
            assert store.snapshot("c") is not None
            assert store.events("c")
            assert store.names() == ["c"]
            with server.client() as client:
                await until(lambda: client.info("commandstats").get("cmdstat_ping", {}).get("calls", 0) >= 3)
        assert denied(server) == []


async def test_the_user_with_a_database_and_a_name() -> None:
    """What the page says to add for these two is enough."""
    with running("redis7") as server:
        allow(server, SERVER, "breaker +select +client|setname")
        await use_everything(f"redis://breaker:SECRET@{server.address}/3?client_name=api", circuit="c")
        assert denied(server) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_else_is_open_to_the_user(kind: str) -> None:
    """Other keys, other channels and other commands are closed, and so is everything without the password."""
    with running(kind) as server:
        allow(server, SERVER)
        with server.client() as client:
            for command in (
                ("SET", "breaker:{c}", "1"),
                ("HSET", "payments", "state", "paid"),
                ("SADD", "breaker", "c"),
                ("SUBSCRIBE", "payments"),
                ("PUBLISH", "payments", "1"),
                ("FLUSHALL",),
                ("KEYS", "*"),
                ("SCRIPT", "FLUSH"),
                ("CONFIG", "GET", "*"),
            ):
                assert "no permissions" in client.execute_command("ACL DRYRUN", "breaker", *command), command
            assert client.execute_command("ACL DRYRUN", "breaker", "SADD", "breakers", "c") == "OK"
        store = RedisStore.from_url(f"redis://breaker:wrong@{server.address}")
        with pytest.raises(StoreUnavailableError, match="AuthenticationError"):
            await store.names()
        await store.aclose()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lacking", ["publish", "xadd"])
async def test_a_user_who_may_not_tell_of_a_change_changes_nothing(kind: str, lacking: str) -> None:
    """A right that was forgotten leaves no circuit half tripped, and no copy of it that is wrong."""
    with running(kind) as server, server.client() as client:
        allow(server, SERVER)
        store = RedisStore.from_url(f"redis://breaker:SECRET@{server.address}")
        limits = BreakerConfig(policy=Consecutive(1)).limits()
        await store.acquire("known", "p", limits, "api-1")
        before = client.hgetall("breaker:{known}")
        allow(server, f"breaker -{lacking}")
        told = Report(permit_id="p", generation=int(before["generation"]), outcome=Outcome.FAILURE)
        with pytest.raises(StoreUnavailableError, match=r"permissions|can.t run this command"):
            await store.record("known", told, limits)
        assert client.hgetall("breaker:{known}") == before
        await store.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_user_who_may_not_tell_makes_no_circuit(kind: str) -> None:
    """The first call finds out, and not the first outage."""
    with running(kind) as server, server.client() as client:
        allow(server, SERVER, "breaker -publish")
        store = RedisStore.from_url(f"redis://breaker:SECRET@{server.address}")
        with pytest.raises(StoreUnavailableError, match=r"permissions|can.t run this command"):
            await store.acquire("c", "p", BreakerConfig().limits(), "api-1")
        assert not client.exists("breaker:{c}")
        await store.aclose()


async def test_the_user_in_a_cluster() -> None:
    """With what a Cluster needs besides, nothing is denied on any node; without it nothing works."""
    with cluster("redis7") as nodes:
        everywhere = (*nodes.primaries, nodes.replica)
        url = nodes.url.replace("://", "://breaker:SECRET@")
        for node in everywhere:
            allow(node, SERVER, CLUSTER)
        for node in nodes.primaries:
            await use_everything(url, circuit=nodes.circuit_of(node))
        assert [denied(node) for node in everywhere] == [[], [], [], []]
        for command in granted(CLUSTER):
            for node in everywhere:
                allow(node, f"breaker -{command}")
            store = RedisStore.from_url(url)
            with pytest.raises(StoreUnavailableError):
                await store.names()
            await store.aclose()
            for node in everywhere:
                allow(node, CLUSTER)


async def test_the_user_at_the_sentinels() -> None:
    """Sentinels that want credentials get their own; without the one right that is granted they tell nothing."""
    with watched("redis7") as group:
        allow(group.primary, SERVER)
        with group.sentinel.client() as client:
            assert client.execute_command("ACL SETUSER", *SENTINEL.replace("SECRET", "OTHER").split())
        url = group.url.replace("://", "://breaker:SECRET@") + "?sentinel_username=breaker&sentinel_password=OTHER"
        await use_everything(url, circuit="c")
        assert denied(group.primary) == []
        assert denied(group.sentinel) == []
        with group.sentinel.client() as client:
            client.execute_command("ACL SETUSER", "breaker", "-sentinel|masters")
        store = RedisStore.from_url(url)
        with pytest.raises(StoreUnavailableError):
            await store.names()
        await store.aclose()
