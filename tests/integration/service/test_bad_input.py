"""Whatever is wrong with a request gets the right 4xx as a problem, and leaves no trace."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import jwt
import pytest

from service.auth import mint_token
from tests.support.fake_provider import FakeProvider
from tests.support.service import JWT_SECRET, bearer, body, serving, settings_for

ROWS = "SELECT (SELECT count(*) FROM payment_intents) + (SELECT count(*) FROM idempotency_keys)"
JSON = {"Content-Type": "application/json"}

BAD_BODIES: dict[str, dict[str, Any]] = {
    "unknown currency": {"currency": "XXY"},
    "lower-case currency": {"currency": "eur"},
    "metal": {"currency": "XAU"},
    "withdrawn currency": {"currency": "DEM"},
    "no currency": {"currency": None},
    "zero": {"amount": 0},
    "negative": {"amount": -1},
    "fraction": {"amount": 12.5},
    "whole fraction": {"amount": 12.0},
    "text amount": {"amount": "100"},
    "true amount": {"amount": True},
    "huge amount": {"amount": 100_000_000},
    "astronomic amount": {"amount": 10**300},
    "list amount": {"amount": [1]},
    "empty project": {"projectId": ""},
    "long project": {"projectId": "p" * 129},
    "project with a space": {"projectId": "a b"},
    "project with a newline": {"projectId": "a\n"},
    "project with a zero byte": {"projectId": "a\u0000"},
    "project number": {"projectId": 7},
    "umlaut": {"milestoneId": "ü"},
    "half a character": {"milestoneId": "\ud800"},
    "relative url": {"returnUrl": "/back"},
    "script url": {"returnUrl": "javascript:alert(1)"},
    "url without host": {"returnUrl": "https://"},
    "url with credentials": {"returnUrl": "https://user:pass@shop.example/"},
    "url with a space": {"returnUrl": "https://shop.example/a b"},
    "url with a bad port": {"returnUrl": "https://shop.example:99999/"},
    "url with half a bracket": {"returnUrl": "https://[::1/"},
    "long url": {"returnUrl": "https://shop.example/" + "a" * 500},
    "unknown member": {"captureNow": True},
    "our own name": {"project_id": "proj_1"},
}


def check(response: httpx.Response, status: int, code: str) -> None:
    """Check that an answer is the problem that is meant."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    said = response.json()
    assert (said["status"], said["code"], said["error"]["code"]) == (status, code, code)
    assert response.headers["x-replica-id"] == "test-1"
    assert response.headers["x-request-id"] == said["request_id"]


@pytest.fixture
def database_url(shared_database_url: str) -> str:
    """One database for all of them: none may leave anything in it."""
    return shared_database_url


@pytest.fixture(autouse=True)
def nothing_is_changed(provider: FakeProvider, sql: Any) -> Iterator[None]:
    """Each of these requests leaves no row and calls nobody."""
    yield
    assert sql(ROWS) == ["0"]
    assert provider.calls == []


@pytest.mark.parametrize("changes", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_bad_member_is_422(api: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    """A body that is not valid is refused with what is wrong, but without what was sent."""
    response = await api.post(
        "/payments/intents", content=json.dumps(body(**changes)), headers={**JSON, "Idempotency-Key": "key-1"}
    )
    check(response, 422, "validation_error")
    assert response.json()["errors"]
    assert "pass" not in response.text


@pytest.mark.parametrize("missing", body().keys())
async def test_missing_member_is_422(api: httpx.AsyncClient, missing: str) -> None:
    """Every member is needed."""
    wish = body()
    del wish[missing]
    response = await api.post("/payments/intents", json=wish)
    check(response, 422, "validation_error")
    assert response.json()["errors"][0]["field"] == f"body.{missing}"


@pytest.mark.parametrize(
    "content",
    [b"{", b"", b'{"amount": }', b"\xff\xfe", b"[" * 20_000, b'{"amount": ' + b"9" * 5000 + b"}"],
    ids=["cut", "empty", "hole", "not text", "deep", "too many digits"],
)
async def test_broken_json_is_refused(api: httpx.AsyncClient, content: bytes) -> None:
    """What is not JSON is a 400; nothing at all is a 422."""
    response = await api.post("/payments/intents", content=content, headers=JSON)
    check(response, *((400, "malformed_json") if content else (422, "validation_error")))


@pytest.mark.parametrize("content", [b"null", b"[]", b'"text"', b"7"])
async def test_json_that_is_no_object_is_422(api: httpx.AsyncClient, content: bytes) -> None:
    """JSON of another shape is not valid."""
    check(await api.post("/payments/intents", content=content, headers=JSON), 422, "validation_error")


async def test_wrong_content_type_is_415(api: httpx.AsyncClient) -> None:
    """A body that does not say it is JSON is not guessed at."""
    content = json.dumps(body()).encode()
    for headers in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):
        check(await api.post("/payments/intents", content=content, headers=headers), 415, "unsupported_media_type")


async def test_huge_body_is_413(api: httpx.AsyncClient) -> None:
    """A body beyond the limit is refused by its length, before any of it is read."""
    content = json.dumps(body(projectId="p" * 70_000))
    check(await api.post("/payments/intents", content=content, headers=JSON), 413, "content_too_large")


async def test_huge_body_of_unknown_length_is_413(api: httpx.AsyncClient) -> None:
    """A body that does not say how long it is is read up to the limit, and no further."""
    sent = 0

    async def drip() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1024
            yield b" " * 1024

    check(await api.post("/payments/intents", content=drip(), headers=JSON), 413, "content_too_large")


@pytest.mark.parametrize("key", ["", " ", '"', '"a', '""', "k" * 256, "schlüssel", "\x01"])
async def test_bad_idempotency_key_is_400(api: httpx.AsyncClient, key: str) -> None:
    """A key that is none is refused rather than ignored: the payer relies on it."""
    response = await api.post("/payments/intents", json=body(), headers={b"Idempotency-Key": key.encode()})
    check(response, 400, "idempotency_key_invalid")


async def test_two_idempotency_keys_are_400(api: httpx.AsyncClient) -> None:
    """Two keys name nothing."""
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    check(await api.post("/payments/intents", json=body(), headers=headers), 400, "idempotency_key_invalid")


def forged() -> dict[str, str]:
    """Give tokens that must not pass, by what is wrong with them."""
    now = int(time.time())
    good = {"sub": "payer_1", "exp": now + 600, "scope": "payments:write payments:read"}
    signed = mint_token(JWT_SECRET, "payer_1", ["payments:write"])
    head, claims, _ = signed.split(".")
    return {
        "expired": mint_token(JWT_SECRET, "payer_1", ["payments:write"], lifetime_seconds=-60),
        "another secret": mint_token("x" * 40, "payer_1", ["payments:write"]),
        "no signature": f"{head}.{claims}.",
        "alg none": jwt.encode(good, "", algorithm="none"),
        "another algorithm": jwt.encode(good, JWT_SECRET * 2, algorithm="HS512"),
        "no expiry": jwt.encode({"sub": "payer_1", "scope": "payments:write"}, JWT_SECRET),
        "no subject": jwt.encode({"exp": now + 600, "scope": "payments:write"}, JWT_SECRET),
        "subject with a line break": jwt.encode({**good, "sub": "a\nb"}, JWT_SECRET),
        "scope as list": jwt.encode({**good, "scope": ["payments:write"]}, JWT_SECRET),
        "not yet": jwt.encode({**good, "nbf": now + 600}, JWT_SECRET),
        "for somebody else": jwt.encode({**good, "aud": "another-service"}, JWT_SECRET),
        "no token": "nonsense",
    }


@pytest.mark.parametrize("name", forged().keys())
async def test_bad_token_is_401(api: httpx.AsyncClient, name: str) -> None:
    """Only a token that was signed with our secret, for us, for now, says who is asking."""
    headers = {"Authorization": f"Bearer {forged()[name]}"}
    response = await api.post("/payments/intents", json=body(), headers=headers)
    check(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("given", [None, "Basic cGF5ZXI6cGF5ZXI=", "Bearer"])
async def test_missing_token_is_401(api: httpx.AsyncClient, given: str | None) -> None:
    """Without a bearer token nobody is anybody."""
    del api.headers["authorization"]
    headers = {} if given is None else {"Authorization": given}
    response = await api.post("/payments/intents", json=body(), headers=headers)
    check(response, 401, "unauthorized")
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("POST", "/payments/intents", ("payments:read",)),
        ("GET", "/payments/intents/payint_1", ("payments:write",)),
        ("GET", "/admin/breakers", ("payments:write", "payments:read")),
        ("GET", "/admin/breakers/x", ("admin:operations",)),
    ],
)
async def test_missing_scope_is_403(api: httpx.AsyncClient, method: str, path: str, scopes: tuple[str, ...]) -> None:
    """A token allows what its scopes say, and nothing else."""
    wish = body() if method == "POST" else None
    response = await api.request(method, path, json=wish, headers=bearer(scopes=scopes))
    check(response, 403, "insufficient_scope")
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]


async def test_issuer_and_audience_are_insisted_on(database_url: str, provider: FakeProvider) -> None:
    """Where an issuer and an audience are set, a token must name them."""
    settings = settings_for(database_url, jwt_issuer="https://issuer.example", jwt_audience="switchgear")
    async with serving(settings, provider) as (api, _):
        right = mint_token(JWT_SECRET, "p", ["payments:read"], iss="https://issuer.example", aud="switchgear")
        statuses = []
        for token in (right, mint_token(JWT_SECRET, "p", ["payments:read"])):
            response = await api.get("/payments/intents/x", headers={"Authorization": f"Bearer {token}"})
            statuses.append(response.status_code)
    assert statuses == [404, 401]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nope", 404), ("DELETE", "/payments/intents", 405)])
async def test_wrong_place_is_a_problem_too(api: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    """Also what the framework refuses is a problem."""
    check(await api.request(method, path), status, {404: "not_found", 405: "method_not_allowed"}[status])


@pytest.mark.parametrize("given", ["a b", "x" * 129, "<script>", ""])
async def test_request_id_that_could_harm_is_replaced(api: httpx.AsyncClient, given: str) -> None:
    """A request id is echoed only if it can break neither a header nor a log line."""
    response = await api.get("/livez", headers={"X-Request-Id": given})
    assert response.headers["x-request-id"] not in {given, ""}
    assert (await api.get("/livez", headers={"X-Request-Id": "mine:1"})).headers["x-request-id"] == "mine:1"
