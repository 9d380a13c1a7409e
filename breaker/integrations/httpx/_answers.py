"""What a host's answers and failures say about it."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from breaker import OpenFor, Outcome

# Faults of this side: nothing was sent, or nothing that the host could have understood. A full pool is one of them,
# since all hosts share it; a host that hangs shows itself in its own timeouts.
_OWN_FAULTS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.PoolTimeout)
# What follows a 101 speaks another protocol, perhaps for days.
_WITHOUT_BODY = {HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
_YEAR_SECONDS = 365 * 24 * 3600.0


def classify_error(error: Exception) -> Outcome | OpenFor:
    """Say what the failure of a request says about the host.

    A timeout, a broken connection and an answer with a 5xx status are failures. A 429 or a 503 whose `Retry-After` says
    how long to stay away opens the circuit for that time, a year at most; a 429 without one tells nothing of the host's
    health, so it does not close a circuit either. Faults of this side count as nothing: a full connection pool, a
    request that cannot be sent, whatever the body of a request raises.

    Args:
        error: What httpx raised, or an answer as `httpx.HTTPStatusError`.
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
    """Give the word that the record keeps for a failure: `HTTP 503`, or the class of the exception.

    Args:
        error: What httpx raised, or an answer as `httpx.HTTPStatusError`.
    """
    return _word(error.response) if isinstance(error, httpx.HTTPStatusError) else type(error).__name__


def failure_of(response: httpx.Response, request: httpx.Request) -> httpx.HTTPStatusError | None:
    """Give the error that the head of an answer is to a breaker; None when it shows that the host works."""
    if response.is_server_error or response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return httpx.HTTPStatusError(_word(response), request=request, response=response)
    return None


def is_complete(response: httpx.Response, request: httpx.Request) -> bool:
    """Tell whether no body follows, so that there is no end of one to wait for."""
    return (
        response.is_closed  # Read already, as the answer of a cache or a mock is.
        or request.method == "HEAD"
        or response.status_code in _WITHOUT_BODY
        or response.headers.get("Content-Length") == "0"
    )


def _word(response: httpx.Response) -> str:
    return f"HTTP {response.status_code}"


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
