"""What surrounds every request: its name, the limit of its body, and what every answer carries. Plain ASGI."""

from __future__ import annotations

import re
import time
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ContentTooLargeError, InternalError
from service.problems import problem_of
from service.telemetry import Telemetry

# It is echoed and logged: nothing that could break a header or a log line.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_log = structlog.get_logger(__name__)


class RequestContextMiddleware:
    """Names each request, marks each answer, turns what nobody caught into a problem, and counts.

    Args:
        app: The application inside.
        replica_id: Who answers.
        telemetry: Who counts.
    """

    def __init__(self, app: ASGIApp, *, replica_id: str, telemetry: Telemetry) -> None:
        self._app = app
        self._replica_id = replica_id
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status_code = 0

        async def send_marked(message: Message) -> None:
            nonlocal status_code
            if message["type"] == "http.response.start":
                status_code = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Replica-Id"] = self._replica_id
                headers["Cache-Control"] = "no-store"
            await send(message)

        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id, replica=self._replica_id):
            try:
                await self._app(scope, receive, send_marked)
            except Exception:
                _log.exception("request_failed", method=scope["method"], path=scope["path"])
                if status_code:
                    raise  # The answer is half sent: only the server can break it off.
                answer = problem_of(InternalError(), instance=scope["path"], request_id=request_id)
                await answer(scope, receive, send_marked)
            finally:
                self._count(scope, status_code, time.perf_counter() - began)

    def _count(self, scope: Scope, status_code: int, duration_seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._telemetry.count_request(scope["method"], route, status_code, duration_seconds)
        _log.info(
            "request",
            method=scope["method"],
            route=route,
            status=status_code,
            duration_ms=round(duration_seconds * 1000, 1),
        )


class BodyLimitMiddleware:
    """Reads no more of a body than the limit, whatever its length says.

    Args:
        app: The application inside.
        max_body_bytes: The limit.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body_bytes:
            answer = problem_of(ContentTooLargeError(), instance=scope["path"], request_id=scope["state"]["request_id"])
            await answer(scope, receive, send)
            return
        received_bytes = 0

        async def receive_limited() -> Message:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > self._max_body_bytes:
                # Of all exceptions only this kind passes through the framework's body reader as it is.
                raise HTTPException(ContentTooLargeError.status_code, str(ContentTooLargeError()))
            return message

        await self._app(scope, receive_limited, send)
