"""Every error as `application/problem+json` (RFC 9457), the framework's own errors included."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from service.database import DatabaseUnavailableError
from service.errors import (
    InvalidRequestError,
    MalformedJsonError,
    ServiceError,
    UnavailableError,
    UnsupportedMediaTypeError,
)

# The framework refuses these itself, before any code of ours runs.
_CODES = {
    HTTPStatus.BAD_REQUEST: "malformed_json",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "content_too_large",
}


class ProblemResponse(JSONResponse):
    """A problem's answer."""

    media_type = "application/problem+json"


def problem_of(error: ServiceError, *, instance: str, request_id: str) -> ProblemResponse:
    """Describe an error."""
    headers, members = dict(error.headers), dict(error.members)
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
        members["retry_after"] = error.retry_after_seconds
    body = {
        "type": f"urn:switchgear:problem:{error.code}",
        "title": error.title,
        "status": error.status_code,
        "detail": error.detail,
        "instance": instance,
        "code": error.code,
        "request_id": request_id,
        **members,
        "error": {"code": error.code, "message": error.detail},
    }
    return ProblemResponse(body, status_code=error.status_code, headers=headers)


def add_problem_handlers(app: FastAPI) -> None:
    """Make the application answer every error as a problem."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(DatabaseUnavailableError, _on_database_away)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_service_error(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, ServiceError)  # noqa: S101 - registered for nothing else
    return problem_of(error, instance=request.url.path, request_id=request.state.request_id)


async def _on_database_away(request: Request, _: Exception) -> ProblemResponse:
    return await _on_service_error(request, UnavailableError(retry_after_seconds=1))


async def _on_invalid_request(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the same
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return await _on_service_error(request, MalformedJsonError())
    if found[0]["loc"] == ("body",) and isinstance(error.body, bytes):
        # Without the right content type the framework does not even try to read the body.
        return await _on_service_error(request, UnsupportedMediaTypeError())
    # What was given is left out: it may be a secret, and whoever sent it knows it.
    errors = [
        {"field": ".".join(map(str, each["loc"])), "message": each["msg"].removeprefix("Value error, ")}
        for each in found
    ]
    detail = "; ".join(f"{each['field']}: {each['message']}" for each in errors)
    return await _on_service_error(request, InvalidRequestError(detail, errors=errors))


async def _on_http_exception(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - the same
    status = HTTPStatus(error.status_code)
    said = ServiceError(error.detail, headers=dict(error.headers or {}))
    said.status_code, said.title = status.value, status.phrase
    said.code = _CODES.get(status, status.name.lower())
    return await _on_service_error(request, said)
