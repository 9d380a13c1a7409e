"""Circuits for hosts."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Generic, TypeVar

import httpx

from breaker import BreakerConfig, CircuitBreaker, ConfigError, Listener, Store, sync
from breaker.integrations.httpx._answers import classify_error, describe_error

_B = TypeVar("_B")

_log = logging.getLogger("breaker")

_DEFAULT_PORTS = {"http": 80, "https": 443}


class _Hosts(Generic[_B]):
    """The breakers of hosts, made when they are first asked for."""

    def __init__(self, make: Callable[[str], _B], *, prefix: str, hosts: Container[str] | None, limit: int) -> None:
        if limit < 1:
            raise ConfigError("limit must be 1 or more")
        self._make = make
        self._prefix = prefix
        self._hosts = hosts
        self._limit = limit
        self._breakers: dict[str, _B] = {}
        self._told = False
        make(f"{prefix}host:80")  # So that a prefix which can begin no name is refused here, not at the first request.

    def __call__(self, request: httpx.Request) -> _B | None:
        url = request.url
        port = _DEFAULT_PORTS.get(url.scheme)
        if port is None:
            return None
        address = url.netloc.decode("ascii")
        if url.port is None:
            address = f"{address}:{port}"
        breaker = self._breakers.get(address)
        if breaker is not None or (self._hosts is not None and url.host not in self._hosts):
            return breaker
        if len(self._breakers) >= self._limit:
            if not self._told:
                self._told = True
                _log.warning("%d hosts have a circuit; requests to further ones are not guarded", self._limit)
            return None
        try:
            breaker = self._make(self._prefix + address)
        except ConfigError:
            return None  # Hosts may have longer names than circuits.
        # Threads that come here at once agree on one breaker; they can exceed the limit by no more than their number.
        return self._breakers.setdefault(address, breaker)

    def __iter__(self) -> Iterator[_B]:
        # A copy, since metrics may be scraped in another thread.
        return iter(tuple(self._breakers.values()))


class PerHost(_Hosts[CircuitBreaker]):
    """Gives each host a circuit of its own, made when the host is first asked for; for `BreakerTransport`.

    The circuit of `https://api.example.com/v1` is named `api.example.com:443`, with the prefix before it. Only `http`
    and `https` are guarded.

    There is a limit, since a circuit is for ever: it holds a name in the store and a subscription here. Requests to
    hosts beyond it are not guarded, and one line in the log says so. Where others choose whom you call (webhooks,
    redirects), name the `hosts` that you depend on, or strangers take the places.

    Called with a request it returns the breaker of its host, or None when the request is not to be guarded. It can be
    iterated over, for `BreakerCollector`: these are the breakers made so far.

    Args:
        store: Where the circuits live.
        config: How each of them behaves. httpx has timeouts of its own, so `call_timeout_seconds` is not used; make it
            None where the lease is to be shorter than 10.5 seconds. `lease_seconds` must cover the longest that a
            request and the reading of its answer may take, or a second probe begins beside the first.
            `max_cooldown_seconds` is the most of a `Retry-After` that is believed.
        prefix: What each name begins with.
        hosts: The hosts to guard; anything that supports `in`. None guards every host.
        limit: How many hosts get a circuit; 1 or more.
        replica_id: Who this process is, in the records.
        listeners: Called with each event.

    Raises:
        ConfigError: The prefix cannot begin a name, or the limit makes no sense.
    """

    def __init__(
        self,
        store: Store,
        config: BreakerConfig,
        *,
        prefix: str = "",
        hosts: Container[str] | None = None,
        limit: int = 100,
        replica_id: str | None = None,
        listeners: Iterable[Listener] = (),
    ) -> None:
        make = functools.partial(
            CircuitBreaker,
            store=store,
            config=config,
            classify_error=classify_error,
            describe_error=describe_error,
            replica_id=replica_id,
            listeners=tuple(listeners),
        )
        super().__init__(make, prefix=prefix, hosts=hosts, limit=limit)

    async def aclose(self) -> None:
        """Close the breakers; before the store is closed."""
        for breaker in self:
            await breaker.aclose()


class SyncPerHost(_Hosts[sync.CircuitBreaker]):
    """The same for threads and `SyncBreakerTransport`: gives each host a circuit of its own, of `breaker.sync`.

    Names, limit and everything else are as with `PerHost`, so that both kinds of a fleet share the circuits. Any thread
    may use it.

    Args:
        store: Where the circuits live.
        config: How each of them behaves, as with `PerHost`.
        prefix: What each name begins with.
        hosts: The hosts to guard; anything that supports `in`. None guards every host.
        limit: How many hosts get a circuit; 1 or more. Threads that ask for new hosts at once may exceed it a little.
        replica_id: Who this process is, in the records.
        listeners: Called with each event.

    Raises:
        ConfigError: The prefix cannot begin a name, or the limit makes no sense.
    """

    def __init__(
        self,
        store: sync.RedisStore | sync.MemoryStore,
        config: BreakerConfig,
        *,
        prefix: str = "",
        hosts: Container[str] | None = None,
        limit: int = 100,
        replica_id: str | None = None,
        listeners: Iterable[Listener] = (),
    ) -> None:
        make = functools.partial(
            sync.CircuitBreaker,
            store=store,
            config=config,
            classify_error=classify_error,
            describe_error=describe_error,
            replica_id=replica_id,
            listeners=tuple(listeners),
        )
        super().__init__(make, prefix=prefix, hosts=hosts, limit=limit)

    def close(self) -> None:
        """Close the breakers; before the store is closed."""
        for breaker in self:
            breaker.close()
