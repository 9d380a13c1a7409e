from __future__ import annotations

import json
import time
from typing import Any

import httpx
import jwt
import pytest

from tests.support.postgres import run_sql
from tests.support.processes import LocalRun
from tests.support.system import System, intent_body

TABLES = ("payment_intents", "psp_operations", "idempotency_keys")


def _json(**changes: Any) -> str:
    return json.dumps(intent_body(**changes))


BAD_BODIES = {
    "unknown currency": (_json(currency="XYZ"), 422),
    "negative amount": (_json(amount=-1), 422),
    "no amount": (_json(amount=0), 422),
    "fractional amount": (_json(amount=12.5), 422),
    "amount in words": (_json(amount="12500"), 422),
    "amount beyond every limit": (_json(amount=10**30), 422),
    "no milestone": (_json(milestoneId=""), 422),
    "return to a script": (_json(returnUrl="javascript:alert(1)"), 422),
    "unknown member": (_json(ammount=1), 422),
    "not an object": ("[]", 422),
    "broken JSON": ('{"projectId": ', 400),
    "huge body": (_json(projectId="x" * 1_000_000), 413),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_body_is_refused_and_changes_nothing(system: System, name: str) -> None:
    """A body that makes no sense gets the right 4xx as a problem; neither our database nor the provider notices."""
    body, status = BAD_BODIES[name]
    before = _rows(system.run)

    answer = httpx.post(
        system.url("/payments/intents"),
        content=body,
        headers=system.headers(**{"Content-Type": "application/json"}),
        trust_env=False,
    )

    _assert_problem(answer, status)
    assert _rows(system.run) == before
    assert system.provider_requests() == 0


@pytest.mark.parametrize("kind", ["missing", "expired", "forged", "garbage", "wrong scheme"])
def test_bad_token_is_refused_and_changes_nothing(system: System, kind: str) -> None:
    """Without a valid token nothing happens, and the answer says that one is needed."""
    before = _rows(system.run)

    answer = httpx.post(
        system.url("/payments/intents"), json=intent_body(), headers=_authorization(system, kind), trust_env=False
    )

    _assert_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert _rows(system.run) == before
    assert system.provider_requests() == 0


def test_token_without_the_scope_is_refused(system: System) -> None:
    """A valid token that may not write payments creates none."""
    token = system.run.values["ADMIN_TOKEN"]

    answer = httpx.post(
        system.url("/payments/intents"),
        json=intent_body(),
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
    )

    _assert_problem(answer, 403)
    assert system.provider_requests() == 0


def _authorization(system: System, kind: str) -> dict[str, str]:
    secret = json.loads((system.run.directory / "secrets.json").read_text())["SWITCHGEAR_JWT_SECRET"]
    claims = jwt.decode(system.token, secret, algorithms=["HS256"])
    past = {"iat": int(time.time()) - 7200, "exp": int(time.time()) - 3600}
    values = {
        "expired": f"Bearer {jwt.encode(claims | past, secret)}",
        "forged": f"Bearer {jwt.encode(claims, 'another secret, and a long one as well')}",
        "garbage": "Bearer garbage",
        "wrong scheme": f"Basic {system.token}",
    }
    return {"Authorization": values[kind]} if kind in values else {}


def _assert_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Replica-Id"]
    assert answer.headers["X-Request-Id"]
    error = answer.json()["error"]
    assert error["code"]
    assert error["message"]


def _rows(run: LocalRun) -> str:
    return run_sql(run.values["DATABASE_URL"], *(f"SELECT count(*) FROM {table}" for table in TABLES))
