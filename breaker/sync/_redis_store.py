"""Circuits in Redis, for threads: keys, script calls, and what a driver's errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from importlib.resources.abc import Traversable
from typing import Any, Self, TypeVar

from redis import Redis
from redis.exceptions import MaxConnectionsError, NoScriptError, ReadOnlyError, ResponseError

from breaker import _wire
from breaker._address import parse
from breaker._errors import ConfigError, ScriptError, StoreUnavailableError
from breaker._fork import in_every_child
from breaker._limits import Limits
from breaker._record import MAX_EVENTS
from breaker._scripts import Script
from breaker._types import Adjust, LogEntry, Override, Permitted, Recorded, Refused, Report, View
from breaker.sync._client import close, connect, free
from breaker.sync._guard import StoreGuard
from breaker.sync._redis_feed import RedisFeed
from breaker.sync._timers import Timers

_T = TypeVar("_T")

# Scripts take microseconds, so a few connections carry thousands of calls a second, and the first burst after a start
# does not open a connection for each call.
_MAX_CONNECTIONS = 16


class RedisStore:
    """Circuits in Redis 7.0 or newer, or Valkey; the same ones that `breaker.RedisStore` uses under the same prefix.

    Each method makes one round trip, and none while the store is known to be away, but for one attempt a second. What
    may have been carried out is never sent again: a report that got no answer may have arrived, and the lease heals one
    that did not. Every method that asks Redis raises
    `StoreUnavailableError` when there is no answer in time; a breaker deals with that, an operator's program has to.

    Args:
        client: A client with short timeouts and no retries of its own, which bound each step of a call, connecting and
            answering each by itself; better use `from_url`, whose client keeps to one deadline for all.
        prefix: What every key begins with, with a colon at its end and no braces; the set of all names is the prefix
            with an `s` for its colon.
        timeout_seconds: The longest that a command may wait for Redis, looking up the name of its host left out; above
            0.
        heartbeat_seconds: How long the subscription that keeps views fresh may be silent before it is asked for a sign
            of life; above 0.
        script_path: Folders with scripts to use before the library's own; for tests.

    Attributes:
        timers: What runs as long as the store is used, and ends with it.
        dispatcher: What tells listeners of events in the store's other threads; ends with it as well.

    Raises:
        ConfigError: A value makes no sense, or the client might wait for ever.
    """

    def __init__(
        self,
        client: Redis,
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
        if client.get_connection_kwargs().get("socket_timeout") is None:
            raise ConfigError("the client needs a socket_timeout, or a frozen Redis would stop every thread")
        self._client = client
        self._owns_client = False
        self._keys = _wire.KeySpace(prefix)
        self._timeout_seconds = timeout_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._scripts = _wire.Scripts(script_path)
        self._begin()
        in_every_child(self, RedisStore._begin_in_child)

    @classmethod
    def from_url(
        cls, url: str, *, prefix: str = "breaker:", timeout_seconds: float = 0.25, heartbeat_seconds: float = 1.0
    ) -> Self:
        """Make a store with a client of its own; connects when first used.

        Args:
            url: `redis://`, `rediss://` or `unix://` for a server, `redis+sentinel://HOST:PORT,…/SERVICE` for a primary
                that Sentinels watch; with `rediss` for `redis` by TLS.
            prefix: What every key begins with, with a colon at its end and no braces.
            timeout_seconds: The longest that a command may wait for Redis, looking up the name of its host left out;
                above 0.
            heartbeat_seconds: How long the subscription may be silent before it is asked for a sign of life; above 0.

        Raises:
            ConfigError: The URL cannot work; the message says what to do.
        """
        # The guard is the limit; a pool that raised before it would look like an absent Redis.
        client = connect(parse(url), timeout_seconds=timeout_seconds, max_connections=2 * _MAX_CONNECTIONS)
        store = cls(client, prefix=prefix, timeout_seconds=timeout_seconds, heartbeat_seconds=heartbeat_seconds)
        store._owns_client = True
        return store

    def _begin(self) -> None:
        self.timers = Timers()
        self.dispatcher = Timers("breaker-listeners")
        self._guard = StoreGuard(self._timeout_seconds, _MAX_CONNECTIONS)
        self._feed = RedisFeed(
            self._client.pubsub,
            snapshot=self.snapshot,
            recover=self._recover,
            timeout_seconds=self._timeout_seconds,
            heartbeat_seconds=self._heartbeat_seconds,
        )
        self._registered: set[str] = set()

    def _begin_in_child(self) -> None:
        free(self._client)
        self._begin()

    @property
    def degraded(self) -> bool:
        """True from the first call that Redis failed to answer until the first that it answers again."""
        return self._guard.degraded

    def acquire(
        self, name: str, permit_id: str, limits: Limits, replica_id: str, *, may_probe: bool = True
    ) -> Permitted | Refused:
        """Ask for leave to make one call; one round trip, and one more when this replica first uses the name."""
        arguments = _wire.acquire_arguments(permit_id, limits, replica_id, may_probe=may_probe)
        return _wire.acquired(self._run_registered(name, self._scripts.acquire, arguments))

    def record(self, name: str, report: Report, limits: Limits) -> Recorded:
        """Settle permits; one round trip, never repeated."""
        arguments = _wire.record_arguments(report, limits)
        return _wire.recorded(self._run(self._scripts.record, self._keys.of(name), arguments))

    def snapshot(self, name: str) -> View | None:
        """Read a circuit; one round trip, no write."""
        return _wire.shown(self._run(self._scripts.snapshot, self._keys.of(name)[:2], (), reads=True))

    def control(self, name: str, action: Override | Adjust) -> View:
        """Carry out an operator's action and return the circuit as it is afterwards; one round trip.

        Raises:
            ConfigError: There is no such setting, or its value makes no sense; nothing was changed.
            StoreUnavailableError: Redis did not answer in time; the action may have been carried out or not.
        """
        view = _wire.shown(self._run_registered(name, self._scripts.control, _wire.control_arguments(action)))
        assert view is not None  # noqa: S101 - the script has just written it
        return view

    def events(self, name: str, limit: int = 100) -> list[LogEntry]:
        """List a circuit's newest events, newest first; one XREVRANGE."""
        events = self._keys.of(name).events
        if limit < 1:
            return []  # The driver refuses to ask for that, which would look like an absent Redis.
        limit = min(limit, 10 * MAX_EVENTS)  # And the server what is no number to it; there are never as many.
        return _wire.logged(self._read(lambda: self._client.xrevrange(events, count=limit)))

    def follow(self, name: str, see: Callable[[View | None], None]) -> None:
        """Tell of a circuit's views from now on, one at each change, and of None when the subscription is lost.

        One connection serves every circuit, with one PING in a heartbeat at most.
        """
        self._feed.follow(self._keys.of(name).changes, name, see)

    def names(self) -> list[str]:
        """List every circuit that was ever asked for, sorted; one SMEMBERS, never KEYS or SCAN."""
        members = self._read(lambda: self._client.smembers(self._keys.registry))
        return sorted(_wire.text(member) for member in members)

    def close(self) -> None:
        """End the threads, and close the client if `from_url` made it; whoever asks later finds the store away."""
        self.timers.close()
        self._feed.close()
        self.dispatcher.close()
        self._guard.close()
        if self._owns_client:
            close(self._client)

    def _recover(self) -> None:
        """Find out whether Redis is back, where healthy circuits with fresh copies would never ask it anything."""
        if self._guard.degraded and self._registered:
            # A write that changes nothing, so that a server that can be read but not written to stays away.
            # A copy, since other threads may add to the set meanwhile.
            name = tuple(self._registered)[0]  # noqa: RUF015
            with contextlib.suppress(StoreUnavailableError):
                self._ask(lambda: self._register(name))

    def _register(self, name: str) -> None:
        # Where something else lies in the place of the set, circuits cannot be listed, and go on all the same.
        with contextlib.suppress(ScriptError):
            self._heard(lambda: self._client.sadd(self._keys.registry, name))

    def _ask(self, command: Callable[[], _T], *, reads: bool = False) -> _T:
        try:
            return self._guard.run(command, reads=reads)
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, ReadOnlyError):
                # The primary was demoted and lives on. What is open leads there for ever; what is opened anew finds the
                # one that took its place.
                self._client.connection_pool.disconnect(inuse_connections=False)
                self._feed.reconnect()
            elif self._owns_client and isinstance(error.__cause__, MaxConnectionsError):
                # There are more than ever are in use: a command that is interrupted as it takes or gives back its
                # connection, the driver keeps that for ever. Those that are in use are closed when they are given back.
                self._client.connection_pool.reset()
            raise

    def _run_registered(self, name: str, script: Script, arguments: _wire.Arguments) -> list[Any]:
        """Run a script that may create the record, whose reply ends with whether it did."""
        known, keys = name in self._registered, self._keys.of(name)

        def register_and_evaluate() -> Any:
            # The set of names lies in another hash slot than the circuit, so no script may touch both.
            if not known:
                self._register(name)
                self._registered.add(name)
            reply = self._evaluate(script, keys, arguments)
            if known and reply[-1] == 1:
                # The record was gone: it idled out, or its data were lost, and then the set may have been lost as well.
                self._register(name)
            return reply

        return self._ask(register_and_evaluate)

    def _read(self, command: Callable[[], Any]) -> Any:
        return self._ask(lambda: self._heard(command), reads=True)

    def _run(
        self, script: Script, keys: Sequence[str], arguments: _wire.Arguments, *, reads: bool = False
    ) -> list[Any]:
        return self._ask(lambda: self._evaluate(script, keys, arguments), reads=reads)

    def _evaluate(self, script: Script, keys: Sequence[str], arguments: _wire.Arguments) -> Any:
        # As text: packing a number, the driver's extension would take the process with it if a signal handler raised.
        words = [str(word) for word in (len(keys), *keys, *arguments)]

        def evaluate() -> Any:
            try:
                return self._client.evalsha(script.sha, *words)  # type: ignore[arg-type] # the number of keys is text
            except NoScriptError:
                # The cache was flushed, or a replica that never saw the script was promoted.
                return self._client.eval(script.text, *words)  # type: ignore[arg-type]

        return self._heard(evaluate)

    def _heard(self, command: Callable[[], Any]) -> Any:
        """Carry out a command, and tell what is wrong with one circuit's keys from what is wrong with the server."""
        try:
            return command()
        except ResponseError as error:
            if _wire.concerns_one_circuit(error):
                raise ScriptError(str(error)) from error
            raise
