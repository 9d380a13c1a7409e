"""Circuits for hosts."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Iterator

import httpx

from breaker import BreakerConfig, CircuitBreaker, ConfigError, Listener, Store
from breaker.integrations.httpx._answers import classify_error, describe_error

_log = logging.getLogger("breaker")

_DEFAULT_PORTS = {"http": 80, "https": 443}


class PerHost:
    """Gives each host a circuit of its own, made when the host is first asked for.

    The circuit of `https://api.example.com/v1` is named `api.example.com:443`, with the prefix before it. Only `http`
    and `https` are guarded.

    There is a limit, since a circuit is for ever: it holds a name in the store and a subscription here. Requests to
    hosts beyond it are not guarded, and one line in the log says so. Where others choose whom you call (webhooks,
    redirects), name the `hosts` that you depend on, or strangers take the places.

    It can be iterated over, for `BreakerCollector`: these are the breakers made so far.

    Args:
        store: Where the circuits live.
        config: How each of them behaves. httpx has timeouts of its own, so `call_timeout_seconds` is not used;
            `lease_seconds` must cover the longest that a request and the reading of its answer may take, or a second
            probe begins beside the first. `max_cooldown_seconds` is the most of a `Retry-After` that is believed.
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
        if limit < 1:
            raise ConfigError("limit must be 1 or more")
        self._store = store
        self._config = config
        self._prefix = prefix
        self._hosts = hosts
        self._limit = limit
        self._replica_id = replica_id
        self._listeners = tuple(listeners)
        self._breakers: dict[str, CircuitBreaker] = {}
        self._told = False
        self._make("host:80")  # So that a prefix which can begin no name is refused here, not at the first request.

    def __call__(self, request: httpx.Request) -> CircuitBreaker | None:
        """Return the breaker of the host that a request goes to; None when it is not to be guarded."""
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
            breaker = self._breakers[address] = self._make(address)
        except ConfigError:
            return None  # Hosts may have longer names than circuits.
        return breaker

    def __iter__(self) -> Iterator[CircuitBreaker]:
        """Iterate over the breakers made so far."""
        # A copy, since metrics may be scraped in another thread.
        return iter(tuple(self._breakers.values()))

    async def aclose(self) -> None:
        """Close the breakers; before the store is closed."""
        for breaker in self:
            await breaker.aclose()

    def _make(self, address: str) -> CircuitBreaker:
        return CircuitBreaker(
            self._prefix + address,
            self._store,
            self._config,
            classify_error=classify_error,
            describe_error=describe_error,
            replica_id=self._replica_id,
            listeners=self._listeners,
        )
