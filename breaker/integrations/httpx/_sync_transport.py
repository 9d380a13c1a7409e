"""The transport that guards in threads; the other one with plain calls for awaited ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx

from breaker.integrations.httpx._answers import failure_of, is_complete
from breaker.sync import CircuitBreaker, Permit


class SyncBreakerTransport(httpx.BaseTransport):
    """The same for threads and `httpx.Client`: a transport that asks a circuit of `breaker.sync` before each request.

    What counts, and when, is as with `BreakerTransport`. A thread cannot be cancelled; a request that is interrupted,
    by `KeyboardInterrupt` or another exception that is no `Exception`, counts as nothing.

    Args:
        transport: The transport to guard; closed with this one.
        breaker_for: Gives the breaker of a request, or None not to guard it: a `SyncPerHost`, or a function of yours,
            whose breakers want `classify_error=classify_error, describe_error=describe_error` of this module. Called by
            the threads that send.
    """

    def __init__(
        self,
        transport: httpx.BaseTransport,
        *,
        breaker_for: Callable[[httpx.Request], CircuitBreaker | None],
    ) -> None:
        self._transport = transport
        self._breaker_for = breaker_for

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request if its circuit permits it.

        Args:
            request: The request.

        Raises:
            CallNotPermittedError: The circuit lets no request through now; nothing was sent.
        """
        breaker = self._breaker_for(request)
        if breaker is None:
            return self._transport.handle_request(request)
        permit = breaker.admit()
        try:
            response = self._transport.handle_request(request)
        except BaseException as error:
            permit.raised(error)
            raise
        try:
            _take(response, request, permit)
        except BaseException:
            # Interrupted while it was reported: the caller never sees the response, so nobody else can close it.
            response.close()
            raise
        return response

    def close(self) -> None:
        """Close the guarded transport."""
        self._transport.close()


def _take(response: httpx.Response, request: httpx.Request, permit: Permit) -> None:
    """Settle by the head of an answer if that says enough, or let the end of its body settle."""
    failure = failure_of(response, request)
    if failure is not None:
        permit.raised(failure)
    elif is_complete(response, request):
        permit.returned(response)
    else:
        response.stream = _Body(response, permit)


class _Body(httpx.SyncByteStream):
    """The body of an answer, whose end settles the permit."""

    def __init__(self, response: httpx.Response, permit: Permit) -> None:
        assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 - it came from a transport for threads
        self._stream = response.stream
        self._response = response
        self._permit = permit

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except GeneratorExit:
            raise  # Whoever reads no further closes the response, which settles.
        except BaseException as error:
            self._permit.raised(error)
            raise
        self._permit.returned(self._response)

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._permit.returned(self._response)
