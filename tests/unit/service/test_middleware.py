from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from service.middleware import BodyLimitMiddleware, RequestContextMiddleware
from service.telemetry import Telemetry

SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/x", "headers": []}


async def receive() -> dict[str, Any]:
    """Give an empty body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def test_answer_that_breaks_off_is_not_dressed_up() -> None:
    """Once an answer has begun, an error cannot become a problem: the server must break the connection off."""
    sent: list[Any] = []

    async def half(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("half way")

    async def send(message: Any) -> None:
        sent.append(message)

    wrapped = RequestContextMiddleware(half, replica_id="r", telemetry=Telemetry())
    with capture_logs(), pytest.raises(ValueError, match="half way"):
        await wrapped(dict(SCOPE), receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert (b"x-replica-id", b"r") in sent[0]["headers"]


async def test_what_is_no_request_passes_untouched() -> None:
    """The server's own messages are none of a request's business."""
    seen: list[str] = []

    async def application(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    inner = BodyLimitMiddleware(application, max_body_bytes=1)
    await RequestContextMiddleware(inner, replica_id="r", telemetry=Telemetry())({"type": "lifespan"}, receive, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
