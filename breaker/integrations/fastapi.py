"""Lets a FastAPI application say "not now" as HTTP does: 503 with `Retry-After` for what a circuit refused.

    app = FastAPI()
    install(app)

    @app.post("/orders", dependencies=[requires(warehouse)])
    async def order() -> None:
        await warehouse.call(reserve)

For breakers of `breaker` and of `breaker.sync`. While Redis is away a look is answered by what guards this replica
meanwhile, and its refusals become 503 like any other. Needs the extra `fastapi`.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from math import ceil
from typing import Any

from fastapi import APIRouter, FastAPI, WebSocket, params, status
from fastapi.responses import JSONResponse
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketState

from breaker import CallNotPermittedError, CallTimeoutError, CircuitBreaker, Status, sync


def install(app: FastAPI) -> None:
    """Make an application answer what its circuits raise.

    A refused call becomes 503 with `Retry-After` in whole seconds, rounded up and at least 1; a call that exceeded the
    breaker's timeout becomes 504. Both bodies are `application/problem+json` (RFC 9457). They name neither the circuit
    nor its last error, which are the operator's business rather than the client's.

    What is raised inside a `StreamingResponse` comes too late: the head of the answer has been sent, so Starlette
    raises `RuntimeError` and the client sees an answer that breaks off. Refuse before that: by `requires`, or by
    fetching the first item of a guarded stream before the response is built.

    A WebSocket that has been accepted is closed instead: with the code 1013 (try again later) for a refusal, with 1011
    for a timeout.

    Args:
        app: The application.
    """
    app.add_exception_handler(CallNotPermittedError, _on_refusal)
    app.add_exception_handler(CallTimeoutError, _on_timeout)


def requires(breaker: CircuitBreaker | sync.CircuitBreaker) -> params.Depends:
    """Return a dependency that refuses a request early while its circuit would refuse the call.

    For routes with much to do before the call. It looks and changes nothing: it takes no permit and counts nothing, so
    the call itself still needs its guard. When the cooldown is over it lets every request through to compete for the
    probe; where the breaker probes in the background, it refuses until the circuit has closed.

    Args:
        breaker: The breaker whose call the request is for. One of `breaker.sync` is looked at in a thread.

    Raises:
        CallNotPermittedError: At the request, if a call would be refused now; `install` makes the answer of it.
    """
    if isinstance(breaker, sync.CircuitBreaker):
        return params.Depends(lambda: _raise(breaker.peek()))

    async def look() -> None:
        _raise(await breaker.peek())

    return params.Depends(look)


def circuits(breakers: Iterable[CircuitBreaker | sync.CircuitBreaker]) -> APIRouter:
    """Return a router with `GET /circuits`, which shows what this replica knows of its circuits; it asks nobody.

    Args:
        breakers: The breakers, iterated over at each request.
    """
    router = APIRouter(tags=["operations"])

    @router.get("/circuits")
    async def read() -> list[Status]:
        """Show what this replica knows of its circuits."""
        return [breaker.status for breaker in breakers]

    return router


def _raise(refusal: CallNotPermittedError | None) -> None:
    if refusal is not None:
        raise refusal


async def _on_refusal(asked: HTTPConnection, error: Exception) -> Any:
    assert isinstance(error, CallNotPermittedError)  # noqa: S101 - registered for nothing else
    # Rounded up: a client that comes back a moment too early is refused again.
    seconds = max(1, ceil(error.retry_after_seconds))
    if await _was_accepted(asked, status.WS_1013_TRY_AGAIN_LATER, f"try again in {seconds} s"):
        return None
    detail = f"A service that this one depends on is not available. It was not called; try again in {seconds} s."
    return _problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": str(seconds)}, retry_after=seconds)


async def _on_timeout(asked: HTTPConnection, _: Exception) -> Any:
    if await _was_accepted(asked, status.WS_1011_INTERNAL_ERROR):
        return None
    return _problem(HTTPStatus.GATEWAY_TIMEOUT, "A service that this one depends on did not answer in time.")


async def _was_accepted(asked: HTTPConnection, code: int, reason: str = "") -> bool:
    """Close a WebSocket that speaks already, so that no answer of HTTP may follow; False where one may."""
    if not isinstance(asked, WebSocket) or asked.application_state is WebSocketState.CONNECTING:
        return False
    if asked.application_state is WebSocketState.CONNECTED:
        await asked.close(code, reason)
    return True


def _problem(code: HTTPStatus, detail: str, headers: dict[str, str] | None = None, **members: int) -> JSONResponse:
    # With the type "about:blank", the default, the title is to be that of the status.
    body = {"type": "about:blank", "title": code.phrase, "status": code.value, "detail": detail, **members}
    return JSONResponse(body, code, headers, media_type="application/problem+json")
