"""Guards an httpx client: one circuit for each host that it talks to.

    guarded = BreakerTransport(httpx.AsyncHTTPTransport(), breaker_for=PerHost(store, config))
    async with httpx.AsyncClient(transport=guarded) as client:
        ...

A refused request raises `CallNotPermittedError`, which is none of httpx's errors: nothing was sent. Needs the extra
`httpx`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from breaker import BreakerConfig, CircuitBreaker, ConfigError, Listener, OpenFor, Outcome, Permit, Store

_log = logging.getLogger("breaker")

_DEFAULT_PORTS = {"http": 80, "https": 443}
_YEAR_SECONDS = 365 * 24 * 3600.0
# What follows a 101 speaks another protocol, perhaps for days.
_WITHOUT_BODY = {HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
# Faults of this side: nothing was sent, or nothing that the host could have understood. A full pool is one of them,
# since all hosts share it; a host that hangs shows itself in its own timeouts.
_OWN_FAULTS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.PoolTimeout)


def classify_error(error: Exception) -> Outcome | OpenFor:
    """Say what the failure of a request says about the host.

    A timeout, a broken connection and an answer with a 5xx status are failures. A 429 or a 503 whose `Retry-After` says
    how long to stay away opens the circuit for that time; a 429 without one tells nothing of the host's health, so it
    does not close a circuit either. Faults of this side count as nothing: a full connection pool, a request that cannot
    be sent, whatever the body of a request raises.
    """
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            seconds = _retry_after_seconds(error.response.headers)
            if seconds is not None:
                return OpenFor(seconds)
        return Outcome.FAILURE if error.response.is_server_error else Outcome.IGNORED
    if isinstance(error, httpx.TransportError) and not isinstance(error, _OWN_FAULTS):
        return Outcome.FAILURE
    return Outcome.IGNORED


def describe_error(error: BaseException) -> str:
    """Give the word that the record keeps for a failure: `HTTP 503`, or the class of the exception."""
    return str(error) if isinstance(error, httpx.HTTPStatusError) else type(error).__name__


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


class BreakerTransport(httpx.AsyncBaseTransport):
    """A transport that asks a circuit before each request.

    An answer with a 5xx status or a 429 is told to the breaker's `classify_error` at once, as `httpx.HTTPStatusError`,
    and so is what is raised instead of an answer or while its body is read. Any other answer, a 4xx included, shows
    that the host works; `classify_result` is asked about it at the end of its body, or when it is closed before that,
    unread or not: whoever closes it has seen enough. A request that is cancelled while it waits for the host, for the
    answer or for more of its body, counts as nothing, and a probe's place is free again.

    The caller gets the same response or exception as without a breaker, and closes responses as ever: a probe whose
    response is neither read to its end nor closed keeps its place until its lease lapses.

    Args:
        transport: The transport to guard; closed with this one.
        breaker_for: Gives the breaker of a request, or None not to guard it: a `PerHost`, or a function of yours, whose
            breakers want `classify_error=classify_error, describe_error=describe_error` of this module.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        breaker_for: Callable[[httpx.Request], CircuitBreaker | None],
    ) -> None:
        self._transport = transport
        self._breaker_for = breaker_for

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request if its circuit permits it.

        Raises:
            CallNotPermittedError: The circuit lets no request through now; nothing was sent.
        """
        breaker = self._breaker_for(request)
        if breaker is None:
            return await self._transport.handle_async_request(request)
        permit = await breaker.admit()
        try:
            response = await self._transport.handle_async_request(request)
        except BaseException as error:
            await permit.raised(error)
            raise
        try:
            await _take(response, request, permit)
        except BaseException:
            # Cancelled while it was reported: the caller never sees the response, so nobody else can close it.
            await response.aclose()
            raise
        return response

    async def aclose(self) -> None:
        """Close the guarded transport."""
        await self._transport.aclose()


async def _take(response: httpx.Response, request: httpx.Request, permit: Permit) -> None:
    """Settle by the head of an answer if that says enough, or let the end of its body settle."""
    if response.is_server_error or response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        word = f"HTTP {response.status_code}"
        await permit.raised(httpx.HTTPStatusError(word, request=request, response=response))
    elif _is_complete(response, request):
        await permit.returned(response)
    else:
        response.stream = _Body(response, permit)


class _Body(httpx.AsyncByteStream):
    """The body of an answer, whose end settles the permit."""

    def __init__(self, response: httpx.Response, permit: Permit) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - it came from an async transport
        self._stream = response.stream
        self._response = response
        self._permit = permit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except GeneratorExit:
            raise  # Whoever reads no further closes the response, which settles.
        except BaseException as error:
            await self._permit.raised(error)
            raise
        await self._permit.returned(self._response)

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._permit.returned(self._response)


def _is_complete(response: httpx.Response, request: httpx.Request) -> bool:
    """Tell whether no body follows, so that there is no end of one to wait for."""
    return (
        response.is_closed  # Read already, as the answer of a cache or a mock is.
        or request.method == "HEAD"
        or response.status_code in _WITHOUT_BODY
        or response.headers.get("Content-Length") == "0"
    )


def _retry_after_seconds(headers: httpx.Headers) -> float | None:
    """Read how long to stay away, given in seconds or as a moment, a year at most; None when nothing usable is said."""
    value = headers.get("Retry-After", "")
    if value.isdecimal():
        seconds = float(value)
    else:
        until = _moment(value)
        if until is None:
            return None
        # Both moments are on the host's clock if it tells the time, so ours may be wrong.
        seconds = (until - (_moment(headers.get("Date", "")) or datetime.now(UTC))).total_seconds()
    return min(seconds, _YEAR_SECONDS) if seconds > 0 else None


def _moment(value: str) -> datetime | None:
    """Read a moment as HTTP writes it; None when it is none."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    # "-0000" is UTC too, said by someone who keeps his own zone to himself.
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
