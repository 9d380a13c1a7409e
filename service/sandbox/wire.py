"""Stripe's way of putting things on the wire: bracketed forms, API keys, answers and errors."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import Request

Params: TypeAlias = "dict[str, str | Params]"

LARGEST_BODY_BYTES = 256 * 1024  # far above any real payment intent, far below what hurts
MOST_FIELDS = 1_000

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as it is stored under an idempotency key: replays must be the same to the byte."""

    status: int
    body: bytes


@dataclass(eq=False)
class WireError(Exception):
    """An answer in Stripe's error shape.

    Attributes:
        began: Whether the endpoint had begun to execute. Only then is the answer stored under the idempotency key.
        detail: Further members of the error object.
    """

    status: int
    type: str
    message: str
    code: str | None = None
    param: str | None = None
    began: bool = False
    detail: Mapping[str, Any] = field(default_factory=dict)

    def members(self) -> dict[str, Any]:
        """List the members of the error object."""
        error: dict[str, Any] = {"message": self.message, "type": self.type}
        if self.param is not None:
            error["param"] = self.param
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = f"https://docs.stripe.com/error-codes/{self.code.replace('_', '-')}"
        return {**error, **self.detail}

    def answer(self) -> Answer:
        """Write the error as Stripe would."""
        return json_answer(self.status, {"error": self.members()})


def invalid(message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> WireError:
    """Refuse a request for what it says, before anything was done."""
    return WireError(status, "invalid_request_error", message, code=code, param=param)


def json_answer(status: int, content: object) -> Answer:
    """Write JSON the way Stripe does, indented."""
    return Answer(status, json.dumps(content, indent=2).encode() + b"\n")


def new_id(prefix: str, length: int = 24) -> str:
    """Make an id in Stripe's style, such as `pi_` and 24 letters and digits."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(length))


async def read_params(request: Request) -> Params:
    """Read the parameters of a request: the query of a GET, the form in the body of a POST.

    Raises:
        WireError: The body is too large, not a form, or its brackets contradict each other.
    """
    if request.method == "GET":
        return parse_form(request.url.query)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY_BYTES:
            raise invalid(f"The request body is larger than {LARGEST_BODY_BYTES} bytes.", status=413)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != "application/x-www-form-urlencoded":
        raise invalid("Invalid request (check that your POST content type is application/x-www-form-urlencoded).")
    try:
        return parse_form(body.decode())
    except UnicodeDecodeError as error:
        raise invalid("Invalid request (the body is not UTF-8).") from error


def parse_form(text: str) -> Params:
    """Parse `metadata[order]=6&expand[]=a` into nested dictionaries; a list is one with the keys "0", "1", ...

    Raises:
        WireError: The form cannot be parsed, or one name is used both as a value and as a container.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError as error:  # a UnicodeDecodeError is one too
        raise invalid(f"Invalid request ({error}).") from error
    params: Params = {}
    for name, value in pairs:
        match = _NAME.fullmatch(name)
        if match is None:
            raise invalid(f"Invalid parameter name: {name}", param=name)
        container = params
        *path, last = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        for step in path:
            inner = container.setdefault(step or str(len(container)), {})
            if isinstance(inner, str):
                raise invalid(f"Invalid {match[1]}: it is given both as a value and as an object.", param=name)
            container = inner
        last = last or str(len(container))
        if isinstance(container.get(last), dict):
            raise invalid(f"Invalid {match[1]}: it is given both as a value and as an object.", param=name)
        container[last] = value
    return params


def authenticate(headers: Headers) -> str:
    """Return the API key of a request, given as a bearer token or as the user of basic auth.

    Raises:
        WireError: 401, there is no key, or one that the sandbox does not take. Any secret test key is taken; a live key
            is refused, because it has no business on a machine that only plays.
    """
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    key = credentials.strip()
    if scheme.lower() == "basic":
        try:
            key = base64.b64decode(key, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            key = ""
    elif scheme.lower() != "bearer":
        key = ""
    if not key:
        message = (
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
        )
        raise invalid(message, status=401)
    if key.startswith("sk_live_"):
        raise invalid("A live API key was sent to the sandbox, which takes test keys only. Roll that key.", status=401)
    if key.startswith("pk_"):
        message = "This API call cannot be made with a publishable API key. Please use a secret API key."
        raise invalid(message, code="secret_key_required", status=401)
    if not key.startswith("sk_") or len(key) == len("sk_"):
        raise invalid(f"Invalid API Key provided: {key[:3]}{'*' * 8}{key[-4:]}", status=401)
    return key
