"""What a faulty edge does to a connection: refuse, babble, hang, drip, close, reset."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service.sandbox.faults import Fault, Mode
from service.sandbox.wire import json_answer

_TRANSPORT = "sandbox.transport"


class TransportAwareApp(FastAPI):
    """FastAPI that remembers the transport below each request, because a connection breaks below HTTP.

    ASGI has no word for it, so it is taken from uvicorn, whose `send` belongs to an object that holds the transport.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or the lifespan."""
        scope[_TRANSPORT] = getattr(getattr(send, "__self__", None), "transport", None)
        await super().__call__(scope, receive, send)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Silence(Response):
    """No answer at all, until the caller gives up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Wait for the caller to go."""
        await _until_disconnected(receive)


class BrokenConnection(Response):
    """No answer, and the connection is gone: reset (RST) or closed (FIN), which callers see as different errors."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Break the connection."""
        transport: asyncio.Transport | None = scope[_TRANSPORT]
        if transport is None:
            msg = "this server gives no way to break a connection; run the sandbox under uvicorn without trace logging"
            raise RuntimeError(msg)
        if self._reset:
            # Without lingering, the kernel drops the connection with a RST instead of taking leave with a FIN.
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
        else:
            transport.close()
        await _until_disconnected(receive)


def dripping(response: Response, gap_seconds: float) -> Response:
    """Send a response a byte at a time, so that no read ever times out and the whole takes minutes."""

    async def drip() -> AsyncIterator[bytes]:
        for byte in bytes(response.body):
            yield bytes((byte,))
            await asyncio.sleep(gap_seconds)

    return StreamingResponse(drip(), response.status_code, dict(response.headers))


async def answer_at_edge(fault: Fault, request: Request) -> Response | None:
    """Answer for a fault that strikes before anything is looked at; None if this one does not."""
    match fault.mode:
        case Mode.HANG:
            return Silence()
        case Mode.RESET:
            response: Response = BrokenConnection(reset=True)
        case Mode.ERROR_503:
            response = HTMLResponse("<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>\n", 503)
        case Mode.RATE_LIMITED:
            message = (
                "Request rate limit exceeded. Learn more about rate limits at https://docs.stripe.com/rate-limits."
            )
            error = {"message": message, "type": "invalid_request_error", "code": "rate_limit"}
            body = json_answer(429, {"error": error}).body
            response = Response(body, 429, {"Retry-After": "1"}, "application/json")
        case Mode.GARBAGE:
            response = HTMLResponse("<html><body><h1>It works!</h1></body></html>\n")
        case _:
            return None
    # A caller that is still sending when the connection goes sees something else, by chance, than one that has sent.
    with suppress(ClientDisconnect):
        async for _ in request.stream():
            pass
    await asyncio.sleep(fault.delay_seconds)
    return response
