"""The `_sandbox` interface: which requests a fault meets, what is counted, what is refused."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.integration.sandbox.talk import INTENTS, create, until
from tests.support.sandbox import Sandbox


async def test_requests_are_counted_by_route_as_they_arrive(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Every request to the API counts, also refused and broken ones; ids do not make routes of their own."""
    intent = (await create(http)).json()["id"]
    await create(http, amount="0")
    await http.get(f"{INTENTS}/{intent}")
    await http.get(f"{INTENTS}/pi_nobody")
    await http.post(f"{INTENTS}/{intent}/cancel")
    await http.get("/v1/charges")
    sandbox.fault("error_503")
    await create(http)
    await http.get(INTENTS, auth=("", ""))
    assert sandbox.requests == {
        "POST /v1/payment_intents": 3,
        "GET /v1/payment_intents/{id}": 2,
        "POST /v1/payment_intents/{id}/cancel": 1,
        "GET /v1/{path}": 1,
        "GET /v1/payment_intents": 1,
    }


async def test_fault_without_path_meets_every_api_request(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """It holds until changed, for the API only: the pages and the controls go on."""
    sandbox.fault("error_503")
    answers = [await create(http), await create(http), await http.get(INTENTS), await http.get(f"{INTENTS}/pi_1")]
    assert [answer.status_code for answer in answers] == [503] * 4
    assert (await http.get("/")).status_code == 200
    sandbox.heal()
    assert (await create(http)).status_code == 200
    assert sandbox.faults == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/payment_intents", (503, 503, 404)),
        ("POST /v1/payment_intents", (503, 200, 404)),
        ("/v1/payment_intents/{id}", (200, 200, 503)),
    ],
)
async def test_path_limits_a_fault_to_a_route(
    http: httpx.AsyncClient, sandbox: Sandbox, path: str, expected: tuple[int, int, int]
) -> None:
    """A path is one route, with all methods or with the one before it."""
    sandbox.fault("error_503", path=path)
    answers = [await create(http), await http.get(INTENTS), await http.get(f"{INTENTS}/pi_1")]
    assert tuple(answer.status_code for answer in answers) == expected


async def test_times_limits_a_fault_to_a_number_of_requests(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """After that many requests it is gone; what is left can be seen."""
    sandbox.fault("error_503", times=2)
    assert (await create(http)).status_code == 503
    assert sandbox.faults == [{"mode": "error_503", "times": 1}]
    assert (await create(http)).status_code == 503
    assert sandbox.faults == []
    assert (await create(http)).status_code == 200


async def test_narrower_fault_wins_and_none_shields_a_route(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Faults of different reach live side by side, and a route can be healthy while the rest is not."""
    sandbox.fault("error_503")
    sandbox.fault("rate_limited", path="/v1/payment_intents")
    sandbox.fault("none", path="GET /v1/payment_intents")
    answers = [await create(http), await http.get(INTENTS), await http.get(f"{INTENTS}/pi_1")]
    assert [answer.status_code for answer in answers] == [429, 200, 503]
    sandbox.fault("declined", path="/v1/payment_intents")
    assert (await create(http)).status_code == 402
    assert len(sandbox.faults) == 3


async def test_fault_without_path_replaces_all(sandbox: Sandbox) -> None:
    """The last word without a path is the only one."""
    sandbox.fault("error_503", path="/v1/payment_intents")
    sandbox.fault("slow", delay_ms=5)
    assert sandbox.faults == [{"mode": "slow", "delay_ms": 5}]
    sandbox.fault("none", path="/v1/payment_intents/{id}")
    sandbox.heal()
    assert sandbox.faults == []


async def test_healing_a_route_that_has_no_other_fault_leaves_none(sandbox: Sandbox) -> None:
    """Switching a path's fault off does not leave a healthy entry behind."""
    sandbox.fault("error_503", path="/v1/payment_intents")
    sandbox.fault("none", path="/v1/payment_intents")
    assert sandbox.faults == []


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[]", "object"),
        ("{}", "mode: Field required"),
        ('{"mode": "explode"}', "error_after_effect"),
        ('{"mode": "slow", "delay_ms": -1}', "delay_ms"),
        ('{"mode": "slow", "delay_ms": "10"}', "delay_ms"),
        ('{"mode": "reset", "times": 0}', "times"),
        ('{"mode": "reset", "times": true}', "times"),
        ('{"mode": "reset", "path": "/v1/payment_intent"}', "/v1/payment_intents"),
        ('{"mode": "reset", "route": "/v1/payment_intents"}', "route"),
    ],
)
async def test_bad_fault_is_refused_with_a_hint_and_changes_nothing(
    http: httpx.AsyncClient, sandbox: Sandbox, body: str, hint: str
) -> None:
    """A typing error is a 422 that says what would be right, and what was switched on stays."""
    sandbox.fault("error_503")
    answer = await http.put("/_sandbox/faults", content=body)
    assert answer.status_code == 422
    assert hint in answer.json()["detail"]
    assert sandbox.faults == [{"mode": "error_503"}]


async def test_start_over_forgets_everything(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """After DELETE there are no faults, counts, effects, intents or keys."""
    intent = (await create(http, "key")).json()["id"]
    sandbox.fault("error_503", path="POST /v1/payment_intents/{id}")
    sandbox.start_over()
    assert (sandbox.faults, sandbox.requests, sandbox.effects) == ([], {}, [])
    assert (await http.get(f"{INTENTS}/{intent}")).status_code == 404
    assert "Idempotent-Replayed" not in (await create(http, "key")).headers
    assert [effect["seq"] for effect in sandbox.effects] == [1]


async def test_request_that_was_running_at_the_start_over_has_no_effect(
    http: httpx.AsyncClient, sandbox: Sandbox
) -> None:
    """A slow request of the old world reaches nothing in the new one, where its key is free."""
    sandbox.fault("slow", delay_ms=500)
    running = asyncio.create_task(create(http, "key"))
    await until(lambda: bool(sandbox.requests))
    sandbox.start_over()
    created = await create(http, "key")
    assert created.status_code == 200
    assert (await running).status_code == 503
    assert [effect["payment_intent"] for effect in sandbox.effects] == [created.json()["id"]]


async def test_front_page_says_how_to_break_it(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Whoever opens the printed address finds commands that name this very server."""
    page = (await http.get("/")).text
    assert f"curl -X PUT {sandbox.url}/_sandbox/faults" in page
