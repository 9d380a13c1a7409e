"""The transport that guards on asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx

from breaker import CircuitBreaker, Permit
from breaker.integrations.httpx._answers import failure_of, is_complete


class BreakerTransport(httpx.AsyncBaseTransport):
    """A transport that asks a circuit before each request; for `httpx.AsyncClient` on asyncio.

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

        Args:
            request: The request.

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
    failure = failure_of(response, request)
    if failure is not None:
        await permit.raised(failure)
    elif is_complete(response, request):
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
