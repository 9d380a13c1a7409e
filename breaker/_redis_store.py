"""Circuits in Redis: keys, script calls, and what a driver's errors mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources.abc import Traversable
from typing import Any, Self

from redis.exceptions import NoScriptError, ResponseError

from breaker._config import check_name
from breaker._errors import ConfigError, ScriptError
from breaker._redis_feed import RedisFeed
from breaker._scripts import Script, load_script
from breaker._store_guard import StoreGuard
from breaker._topology import Client, close, connect, parse
from breaker._types import (
    Limits,
    Mode,
    Override,
    Permitted,
    Recorded,
    Refused,
    Report,
    Reporting,
    State,
    Transition,
    View,
)

# Scripts take microseconds, so a few connections carry thousands of calls a second, and the first burst after a start
# does not open a connection for each call.
_MAX_CONNECTIONS = 16


class RedisStore:
    """Circuits in Redis 7.0 or newer, or Valkey.

    A call makes one round trip, and none at all while the store is known to be away. Nothing is ever retried: a report
    that was sent may have arrived, and the lease heals one that was not.

    Args:
        client: An asyncio client, of a server or a Cluster, with short timeouts and no retries of its own; or use
            `from_url`.
        prefix: What every key begins with; the set of all names is the prefix with an `s` for its colon.
        timeout_seconds: The longest that a call may wait for Redis, connecting and queueing included.
        heartbeat_seconds: How often the subscription that keeps views fresh is asked for a sign of life.
        script_path: Folders with scripts to use before the library's own; for tests.
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
        if not prefix.endswith(":") or "{" in prefix or "}" in prefix:
            raise ConfigError(f"prefix must end with a colon and hold no braces: {prefix!r}")
        if timeout_seconds <= 0:
            raise ConfigError("timeout_seconds must be above 0")
        if heartbeat_seconds <= 0:
            raise ConfigError("heartbeat_seconds must be above 0")
        self._client = client
        self._owns_client = False
        self._prefix = prefix
        self._timeout_seconds = timeout_seconds
        self._acquire = load_script("acquire", script_path)
        self._record = load_script("record", script_path)
        self._snapshot = load_script("snapshot", script_path)
        self._control = load_script("control", script_path)
        self._feed = RedisFeed(
            client,
            snapshot=self.snapshot,
            parse=_view,
            timeout_seconds=timeout_seconds,
            heartbeat_seconds=heartbeat_seconds,
        )
        self._guard = StoreGuard(timeout_seconds, _MAX_CONNECTIONS)
        self._registered: set[str] = set()
        self._keys: dict[str, tuple[str, ...]] = {}

    @classmethod
    def from_url(
        cls, url: str, *, prefix: str = "breaker:", timeout_seconds: float = 0.25, heartbeat_seconds: float = 1.0
    ) -> Self:
        """Make a store with a client of its own; connects when first used.

        Args:
            url: `redis://`, `rediss://` or `unix://` for a server, `redis+sentinel://HOST:PORT,…/SERVICE` for a primary
                that Sentinels watch, `redis+cluster://HOST:PORT,…` for a Cluster; with `rediss` for `redis` by TLS.
            prefix: What every key begins with.
            timeout_seconds: The longest that a call may wait for Redis.
            heartbeat_seconds: How often the subscription that keeps views fresh is asked for a sign of life.

        Raises:
            ConfigError: The URL cannot work; the message says what to do.
        """
        # The semaphore is the limit; a pool that raised before it would look like an absent Redis.
        client = connect(parse(url), timeout_seconds=timeout_seconds, max_connections=2 * _MAX_CONNECTIONS)
        store = cls(client, prefix=prefix, timeout_seconds=timeout_seconds, heartbeat_seconds=heartbeat_seconds)
        store._owns_client = True
        return store

    @property
    def degraded(self) -> bool:
        """True from the first call that Redis failed to answer until the first that it answers again."""
        return self._guard.degraded

    async def acquire(self, name: str, permit_id: str, limits: Limits, replica_id: str) -> Permitted | Refused:
        """Ask for leave to make one call; one round trip, and one more when this replica first uses the name."""
        reply = await self._run_registered(
            name,
            self._acquire,
            permit_id,
            replica_id,
            limits.cooldown_ms,
            limits.probe_limit,
            limits.lease_ms,
            limits.idle_ms,
            limits.fingerprint,
        )
        match reply:
            case ["permitted", state, generation, mode, reporting, transition, _]:
                moved = Transition(transition) if transition else None
                return Permitted(State(state), generation, Mode(mode), Reporting(reporting), moved)
            case ["refused", state, generation, mode, reason, retry_after_ms, last_error, _]:
                return Refused(State(state), generation, Mode(mode), reason, retry_after_ms, last_error)
            case _:
                raise _not_understood("acquire", reply)

    async def record(self, name: str, report: Report, limits: Limits) -> Recorded:
        """Settle a permit; one round trip, never repeated."""
        reply = await self._run(
            self._record,
            self._keys_of(name),
            report.permit_id,
            report.replica_id,
            report.generation,
            report.outcome,
            report.error,
            limits.failure_threshold,
            limits.cooldown_ms,
            limits.probe_successes,
            limits.idle_ms,
            limits.fingerprint,
        )
        match reply:
            case [("recorded" | "stale") as word, state, generation, failures, transition]:
                moved = Transition(transition) if transition else None
                return Recorded(word == "recorded", State(state), generation, failures, moved)
            case _:
                raise _not_understood("record", reply)

    async def snapshot(self, name: str) -> View | None:
        """Read a circuit; one round trip, no write."""
        match await self._run(self._snapshot, self._keys_of(name)[:2]):
            case ["absent"]:
                return None
            case ["view", *fields]:
                return _view(_paired(fields))
            case reply:
                raise _not_understood("snapshot", reply)

    async def control(self, name: str, override: Override) -> View:
        """Carry out an operator's action and return the circuit as it is afterwards; one round trip."""
        reply = await self._run_registered(
            name, self._control, override.mode or "reset", override.reason, override.actor, override.duration_ms
        )
        match reply:
            case ["view", *fields, _]:
                return _view(_paired(fields))
            case _:
                raise _not_understood("control", reply)

    def follow(self, name: str, see: Callable[[View | None], None]) -> None:
        """Tell of a circuit's views from now on, one at each change, and of None when the subscription is lost.

        One connection serves every circuit, with one PING in a heartbeat; must be called in the store's event loop.
        """
        self._feed.follow(f"{self._keys_of(name)[0]}:changes", name, see)

    async def names(self) -> list[str]:
        """List every circuit that was ever asked for, sorted; one SMEMBERS, never KEYS or SCAN."""
        members = await self._guard.run(lambda: self._client.smembers(self._registry))
        return sorted(_text(member) for member in members)

    async def aclose(self) -> None:
        """End the subscription, and close the client if `from_url` made it."""
        await self._feed.aclose()
        if self._owns_client:
            await close(self._client)

    @property
    def _registry(self) -> str:
        return self._prefix[:-1] + "s"

    def _keys_of(self, name: str) -> tuple[str, ...]:
        keys = self._keys.get(name)
        if keys is None:
            record = f"{self._prefix}{{{check_name(name)}}}"
            keys = self._keys[name] = (record, f"{record}:probes", f"{record}:window", f"{record}:events")
        return keys

    async def _run_registered(self, name: str, script: Script, *args: str | int) -> list[Any]:
        """Run a script that may create the record, whose reply ends with whether it did."""
        known, keys = name in self._registered, self._keys_of(name)

        async def register_and_evaluate() -> Any:
            # The set of names lies in another hash slot than the circuit, so no script may touch both.
            if not known:
                await self._client.sadd(self._registry, name)
                self._registered.add(name)
            reply = await self._evaluate(script, keys, args)
            if known and reply[-1] == 1:
                # The record was gone: it idled out, or its data were lost, and then the set may have been lost as well.
                await self._client.sadd(self._registry, name)
            return reply

        return [_text(part) for part in await self._guard.run(register_and_evaluate)]

    async def _run(self, script: Script, keys: Sequence[str], *args: str | int) -> list[Any]:
        reply = await self._guard.run(lambda: self._evaluate(script, keys, args))
        return [_text(part) for part in reply]

    async def _evaluate(self, script: Script, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        try:
            try:
                return await self._client.evalsha(script.sha, len(keys), *keys, *args)
            except NoScriptError:
                # The cache was flushed, or a replica that never saw the script was promoted.
                return await self._client.eval(script.text, len(keys), *keys, *args)
        except ResponseError as error:
            if str(error).startswith("BREAKER"):
                raise ScriptError(str(error)) from error
            raise


def _not_understood(script: str, reply: object) -> ScriptError:
    return ScriptError(f"{script} answered {reply!r}")


def _text(part: Any) -> Any:
    # The client may or may not decode replies; both are welcome.
    return part.decode() if isinstance(part, bytes) else part


_NUMBERS = {name for name, kind in View.__annotations__.items() if kind == "int"}
_FIELDS = set(View.__annotations__)


def _paired(fields: Sequence[str]) -> dict[str, str]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _view(fields: dict[str, str]) -> View:
    # Fields of a newer version are left out rather than refused: during a rolling deploy both versions read.
    known: dict[str, Any] = {
        field: int(value) if field in _NUMBERS else value for field, value in fields.items() if field in _FIELDS
    }
    known["state"], known["mode"] = State(known["state"]), Mode(known["mode"])
    return View(**known)
