"""Circuits in Redis: keys, script calls, and what a driver's errors mean."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources.abc import Traversable
from typing import Any, Self

from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from breaker import _wire
from breaker._address import parse
from breaker._errors import ConfigError, ScriptError, StoreUnavailableError
from breaker._limits import Limits
from breaker._record import MAX_EVENTS
from breaker._redis_feed import RedisFeed
from breaker._scripts import Script
from breaker._store_guard import StoreGuard
from breaker._topology import Client, close, connect, drop_idle_connections
from breaker._types import Adjust, LogEntry, Override, Permitted, Recorded, Refused, Report, View

# Scripts take microseconds, so a few connections carry thousands of calls a second, and the first burst after a start
# does not open a connection for each call.
_MAX_CONNECTIONS = 16


class RedisStore:
    """Circuits in Redis 7.0 or newer, or Valkey.

    Each method makes one round trip, and none while the store is known to be away, but for one attempt a second. What
    may have been carried out is never sent again: a report that got no answer may have arrived, and the lease heals one
    that did not. Every method that asks Redis raises
    `StoreUnavailableError` when there is no answer in time; a breaker deals with that, an operator's program has to.

    Args:
        client: An asyncio client, of a server or a Cluster, with short timeouts and no retries of its own, for one
            event loop; or use `from_url`.
        prefix: What every key begins with, with a colon at its end and no braces; the set of all names is the prefix
            with an `s` for its colon.
        timeout_seconds: The longest that a command may wait for Redis, connecting and queueing included; above 0.
        heartbeat_seconds: How often the subscription that keeps views fresh is asked for a sign of life; above 0.
        script_path: Folders with scripts to use before the library's own; for tests.

    Raises:
        ConfigError: The prefix, the timeout or the heartbeat makes no sense.
    """

    def __init__(
        self,
        client: Client,
        *,
        prefix: str = "breaker:",
        timeout_seconds: float = 0.25,
        heartbeat_seconds: float = 1.0,
        script_path: Sequence[Traversable] = (),
    ) -> None:
        if timeout_seconds <= 0:
            raise ConfigError("timeout_seconds must be above 0")
        if heartbeat_seconds <= 0:
            raise ConfigError("heartbeat_seconds must be above 0")
        # Makes a client, where it is this store's own.
        self._connect: Callable[[], Client] | None = None
        self._is_cluster = isinstance(client, RedisCluster)
        self._keys = _wire.KeySpace(prefix)
        self._timeout_seconds = timeout_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._scripts = _wire.Scripts(script_path)
        self._registered: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begin(client)

    @classmethod
    def from_url(
        cls, url: str, *, prefix: str = "breaker:", timeout_seconds: float = 0.25, heartbeat_seconds: float = 1.0
    ) -> Self:
        """Make a store with a client of its own; connects when first used, and anew in each event loop that follows.

        Args:
            url: `redis://`, `rediss://` or `unix://` for a server, `redis+sentinel://HOST:PORT,…/SERVICE` for a primary
                that Sentinels watch, `redis+cluster://HOST:PORT,…` for a Cluster; with `rediss` for `redis` by TLS.
            prefix: What every key begins with, with a colon at its end and no braces.
            timeout_seconds: The longest that a command may wait for Redis; above 0.
            heartbeat_seconds: How often the subscription that keeps views fresh is asked for a sign of life; above 0.

        Raises:
            ConfigError: The URL cannot work; the message says what to do.
        """
        # The semaphore is the limit; a pool that raised before it would look like an absent Redis.
        make = functools.partial(
            connect, parse(url), timeout_seconds=timeout_seconds, max_connections=2 * _MAX_CONNECTIONS
        )
        store = cls(make(), prefix=prefix, timeout_seconds=timeout_seconds, heartbeat_seconds=heartbeat_seconds)
        store._connect = make
        return store

    @property
    def degraded(self) -> bool:
        """True from the first call that Redis failed to answer until the first that it answers again."""
        return bool(self._guard.away)

    async def acquire(
        self, name: str, permit_id: str, limits: Limits, replica_id: str, *, may_probe: bool = True
    ) -> Permitted | Refused:
        """Ask for leave to make one call; one round trip, and one more when this replica first uses the name."""
        arguments = _wire.acquire_arguments(permit_id, limits, replica_id, may_probe=may_probe)
        return _wire.acquired(await self._run_registered(name, self._scripts.acquire, arguments))

    async def record(self, name: str, report: Report, limits: Limits) -> Recorded:
        """Settle permits; one round trip, never repeated."""
        arguments = _wire.record_arguments(report, limits)
        return _wire.recorded(await self._run(name, self._scripts.record, self._keys.of(name), arguments))

    async def snapshot(self, name: str) -> View | None:
        """Read a circuit; one round trip, no write."""
        return _wire.shown(await self._run(name, self._scripts.snapshot, self._keys.of(name)[:2], (), reads=True))

    async def control(self, name: str, action: Override | Adjust) -> View:
        """Carry out an operator's action and return the circuit as it is afterwards; one round trip.

        Raises:
            ConfigError: There is no such setting, or its value makes no sense; nothing was changed.
            StoreUnavailableError: Redis did not answer in time; the action may have been carried out or not.
        """
        reply = await self._run_registered(name, self._scripts.control, _wire.control_arguments(action))
        view = _wire.shown(reply)
        assert view is not None  # noqa: S101 - the script has just written it
        return view

    async def events(self, name: str, limit: int = 100) -> list[LogEntry]:
        """List a circuit's newest events, newest first; one XREVRANGE."""
        events = self._keys.of(name).events
        if limit < 1:
            return []  # The driver refuses to ask for that, which would look like an absent Redis.
        limit = min(limit, 10 * MAX_EVENTS)  # And the server what is no number to it; there are never as many.
        return _wire.logged(await self._read(lambda: self._client.xrevrange(events, count=limit), self._part_of(name)))

    def follow(self, name: str, see: Callable[[View | None], None]) -> None:
        """Tell of a circuit's views from now on, one at each change, and of None when the subscription is lost.

        One connection serves every circuit, with one PING in a heartbeat; must be called in the store's event loop.
        """
        self._enter_loop()
        self._feed.follow(self._keys.of(name).changes, name, see)

    async def names(self) -> list[str]:
        """List every circuit that was ever asked for, sorted; one SMEMBERS, never KEYS or SCAN."""
        members = await self._read(lambda: self._client.smembers(self._keys.registry))
        return sorted(_wire.text(member) for member in members)

    async def aclose(self) -> None:
        """End the subscription, and close the client if `from_url` made it."""
        self._enter_loop()
        await self._feed.aclose()
        if self._connect is not None:
            await close(self._client)

    def _begin(self, client: Client) -> None:
        self._client = client
        self._feed = RedisFeed(
            client,
            snapshot=self.snapshot,
            recover=self._recover,
            timeout_seconds=self._timeout_seconds,
            heartbeat_seconds=self._heartbeat_seconds,
        )
        self._guard = StoreGuard(self._timeout_seconds, _MAX_CONNECTIONS)

    def _enter_loop(self) -> None:
        """Begin anew after an event loop that has ended: the connections and what waited for them were of that one."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is None:
            self._loop = loop
        elif self._loop.is_closed() and self._connect is not None:
            self._loop = loop
            self._begin(self._connect())

    async def _recover(self) -> None:
        """Find out whether Redis is back, where healthy circuits with fresh copies would never ask it anything."""
        name = next(iter(self._registered), "")
        for part in self._guard.away if name else ():
            with contextlib.suppress(StoreUnavailableError):
                await self._guard.run(functools.partial(self._change_nothing, part, name), part)

    async def _change_nothing(self, part: str, name: str) -> None:
        # A write, so that a server that can be read but not written to stays away.
        if part:
            await self._heard(lambda: self._client.zadd(self._keys.of(part).probes, {"": 0}, xx=True))
        else:
            await self._register(name)

    def _part_of(self, name: str) -> str:
        """Name what a circuit is away with: the whole server, or in a Cluster, whose nodes fail alone, only itself."""
        return name if self._is_cluster else ""

    async def _run_registered(self, name: str, script: Script, arguments: _wire.Arguments) -> list[Any]:
        """Run a script that may create the record, whose reply ends with whether it did."""
        self._enter_loop()
        known, keys = name in self._registered, self._keys.of(name)

        async def register_and_evaluate() -> Any:
            # The set of names lies in another hash slot than the circuit, so no script may touch both.
            if not known:
                await self._register(name)
                self._registered.add(name)
            reply = await self._evaluate(script, keys, arguments)
            if known and reply[-1] == 1:
                # The record was gone: it idled out, or its data were lost, and then the set may have been lost as well.
                await self._register(name)
            return reply

        return await self._guard.run(register_and_evaluate, self._part_of(name))

    async def _register(self, name: str) -> None:
        # Where something else lies in the place of the set, circuits cannot be listed, and go on all the same.
        with contextlib.suppress(ScriptError):
            await self._heard(lambda: self._client.sadd(self._keys.registry, name))

    async def _read(self, command: Callable[[], Awaitable[Any]], part: str = "") -> Any:
        self._enter_loop()
        return await self._guard.run(lambda: self._heard(command), part, reads=True)

    async def _run(
        self, name: str, script: Script, keys: Sequence[str], arguments: _wire.Arguments, *, reads: bool = False
    ) -> list[Any]:
        self._enter_loop()
        return await self._guard.run(lambda: self._evaluate(script, keys, arguments), self._part_of(name), reads=reads)

    async def _evaluate(self, script: Script, keys: Sequence[str], arguments: _wire.Arguments) -> Any:
        try:
            try:
                return await self._client.evalsha(script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                # The cache was flushed, or a replica that never saw the script was promoted.
                return await self._client.eval(script.text, len(keys), *keys, *arguments)
        except ResponseError as error:
            await self._explain(error)
            raise

    async def _heard(self, command: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await command()
        except ResponseError as error:
            await self._explain(error)
            raise

    async def _explain(self, error: ResponseError) -> None:
        """Tell what is wrong with one circuit's keys, by a `ScriptError`, from what is wrong with the server."""
        if isinstance(error, ReadOnlyError):
            # The primary has become a replica, and its connections have stayed. A new one may lead to its successor.
            await drop_idle_connections(self._client)
            self._feed.reconnect()
        elif _wire.concerns_one_circuit(error):
            raise ScriptError(str(error)) from error
