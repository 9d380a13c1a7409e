"""The service's errors: each knows the status and the code that a client sees. Every feature adds its own."""

from __future__ import annotations

from math import ceil
from typing import Any, Self


class ServiceError(Exception):
    """Something that a client is told as a problem.

    The class's docstring is the default message.

    Attributes:
        status_code: The HTTP status.
        code: The word that clients branch on.
        title: What kind of problem it is, the same for every occurrence.
        detail: What happened this time and what to do about it.
        retry_after_seconds: When a repeat makes sense, if it does; whole seconds, at least one.
        headers: Further headers of the answer.
        members: Further members of the problem.
    """

    status_code: int = 500
    code: str = "internal_error"
    title: str = "Something went wrong here"

    def __init__(
        self,
        detail: str | None = None,
        *,
        retry_after_seconds: float | None = None,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        self.detail = detail or (type(self).__doc__ or self.title).partition("\n")[0]
        super().__init__(self.detail)
        # Rounded up: a client that comes back a moment too early is refused again.
        self.retry_after_seconds = None if retry_after_seconds is None else max(1, ceil(retry_after_seconds))
        self.headers = headers or {}
        self.members = members

    def replayed(self) -> Self:
        """Mark the answer as one that was given before."""
        self.headers["Idempotent-Replayed"] = "true"
        return self


class InternalError(ServiceError):
    """The service failed; the request id names the occurrence in the logs."""


class MalformedJsonError(ServiceError):
    """The body is not JSON."""

    status_code = 400
    code = "malformed_json"
    title = "Malformed JSON"


class ContentTooLargeError(ServiceError):
    """The body is too large."""

    status_code = 413
    code = "content_too_large"
    title = "Content too large"


class UnsupportedMediaTypeError(ServiceError):
    """Send the body as application/json, and say so in Content-Type."""

    status_code = 415
    code = "unsupported_media_type"
    title = "Not JSON"


class InvalidRequestError(ServiceError):
    """The request is not valid."""

    status_code = 422
    code = "validation_error"
    title = "Not valid"


class UnauthorizedError(ServiceError):
    """A valid bearer token is needed."""

    status_code = 401
    code = "unauthorized"
    title = "Not authenticated"


class InsufficientScopeError(ServiceError):
    """The token does not allow this."""

    status_code = 403
    code = "insufficient_scope"
    title = "Not allowed"


class NotFoundError(ServiceError):
    """There is no such thing, or it is not yours."""

    status_code = 404
    code = "not_found"
    title = "Not found"


class UnavailableError(ServiceError):
    """A part of the service is away; nothing was done, and a repeat is safe."""

    status_code = 503
    code = "dependency_unavailable"
    title = "Temporarily unavailable"
