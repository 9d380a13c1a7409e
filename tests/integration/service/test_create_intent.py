"""What a payer is answered, for everything that the provider can say."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.providers.base import Declined, Executed, FailureKind, ProviderStatus
from tests.support.fake_provider import TIMED_OUT, UNREACHABLE, FakeProvider, Fault
from tests.support.service import bearer, body, serving, settings_for

NO, UNKNOWN = Executed.NO, Executed.UNKNOWN


async def create(api: httpx.AsyncClient, key: str | None = "key-1", **changes: Any) -> httpx.Response:
    """Ask for an intent."""
    headers = {} if key is None else {"Idempotency-Key": key}
    return await api.post("/payments/intents", json=body(**changes), headers=headers)


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is the problem that is meant, with everything that each problem has."""
    assert response.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = response.json()
    assert (response.status_code, said["status"], said["code"]) == (status, status, code)
    assert said["error"] == {"code": code, "message": said["detail"]}
    assert said["request_id"] == response.headers["x-request-id"]
    assert {"type", "title", "instance"} <= said.keys()
    return said


async def test_created_intent_has_the_contracts_body(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """A created intent is answered with 201, where it is, and exactly the members of the contract."""
    response = await create(api)
    said = response.json()
    (made,) = provider.intents.values()
    assert response.status_code == 201
    assert said == {
        "intentId": said["intentId"],
        "provider": "stripe",
        "providerPaymentIntentId": made.provider_intent_id,
        "clientSecret": made.client_secret,
        "checkoutUrl": made.checkout_url,
        "status": "requires_action",
    }
    assert said["intentId"].startswith("payint_")
    assert response.headers["location"] == f"/payments/intents/{said['intentId']}"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-replica-id"] == "test-1"
    assert "idempotent-replayed" not in response.headers


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (ProviderStatus.REQUIRES_ACTION, "requires_action"),
        (ProviderStatus.PROCESSING, "processing"),
        (ProviderStatus.AUTHORIZED, "locked"),
    ],
)
async def test_status_follows_the_provider(
    api: httpx.AsyncClient, provider: FakeProvider, seen: ProviderStatus, status: str
) -> None:
    """The intent's status is the provider's, in our words."""
    provider.status = seen
    assert (await create(api)).json()["status"] == status


async def test_same_key_gets_the_same_answer(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """A repeat is answered byte for byte as the first time, says so, and calls nobody."""
    first = await create(api)
    again = await create(api, key='"key-1"')  # the quoted form names the same key
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert provider.count("create") == 1


async def test_replay_shows_the_status_of_then(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """A repeat sees what the first answer said, whatever has happened to the intent since."""
    first = await create(api)
    provider.put(first.json()["providerPaymentIntentId"], status=ProviderStatus.AUTHORIZED, amount_authorized=12_500)
    read = await api.get(first.headers["location"], params={"refresh": "true"})
    assert read.json()["status"] == "locked"
    assert (await create(api)).content == first.content


async def test_same_key_with_another_body_is_refused(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """A key stands for one body."""
    await create(api)
    problem(await create(api, amount=1), 422, "idempotency_key_reused")
    problem(await create(api, milestoneId="ms_2"), 422, "idempotency_key_reused")
    assert provider.count("create") == 1


async def test_key_belongs_to_its_principal(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """Two payers may use the same key, and neither sees the other's intent."""
    first = await create(api)
    other = await api.post(
        "/payments/intents",
        json=body(milestoneId="ms_2"),
        headers={"Idempotency-Key": "key-1", **bearer("payer_2")},
    )
    assert other.status_code == 201
    assert other.json()["intentId"] != first.json()["intentId"]
    assert provider.count("create") == 2


async def test_decline_is_402_and_stays_one(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """A declined payer is told why as coarsely as the provider tells; a repeat of the key does not try again."""
    provider.faults.append(Fault(Declined(code="card_declined", decline_code="insufficient_funds")))
    said = problem(await create(api), 402, "card_declined")
    assert said["reason"] == "insufficient_funds"
    again = await create(api)
    assert problem(again, 402, "card_declined")["reason"] == "insufficient_funds"
    assert again.headers["idempotent-replayed"] == "true"
    assert provider.count("create") == 1


async def test_declined_payer_may_try_again_with_a_new_key(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """A decline frees the milestone, and the new attempt has a key that the provider has not seen."""
    provider.faults.append(Fault(Declined(code="card_declined")))
    await create(api)
    assert (await create(api, key="key-2")).status_code == 201
    assert len({operation for _, operation in provider.calls}) == 2


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (UNREACHABLE, (424, "payment_retry", "not_executed")),
        (TIMED_OUT, (424, "payment_retry", "unknown")),
        ((FailureKind.CONNECTION_LOST, UNKNOWN), (424, "payment_retry", "unknown")),
        ((FailureKind.SERVER_ERROR, UNKNOWN), (424, "payment_retry", "unknown")),
        ((FailureKind.REPLAYED_ERROR, UNKNOWN), (424, "payment_retry", "unknown")),
        ((FailureKind.KEY_IN_USE, UNKNOWN), (424, "payment_retry", "unknown")),
        ((FailureKind.RATE_LIMITED, NO), (424, "payment_retry", "not_executed")),
        ((FailureKind.BAD_RESPONSE, UNKNOWN), (502, "psp_bad_response", "unknown")),
        ((FailureKind.CREDENTIALS_REFUSED, NO), (502, "psp_misconfigured", "not_executed")),
    ],
)
async def test_failed_call_is_told_with_its_outcome(
    api: httpx.AsyncClient,
    provider: FakeProvider,
    failure: tuple[FailureKind, Executed],
    told: tuple[int, str, str],
) -> None:
    """A payer learns whether the provider did nothing or may have done something, and which intent it is about."""
    provider.fail_next(*failure)
    status, code, outcome = told
    said = problem(await create(api), status, code)
    assert said["outcome"] == outcome
    assert said["intent_id"].startswith("payint_")


async def test_rate_limit_hands_the_providers_wait_on(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """When the provider says how long to wait, the payer hears it in whole seconds, rounded up."""
    provider.fail_next(FailureKind.RATE_LIMITED, NO, retry_after_seconds=2.1)
    response = await create(api)
    assert problem(response, 424, "payment_retry")["retry_after"] == 3
    assert response.headers["retry-after"] == "3"


@pytest.mark.parametrize("code", ["amount_too_small", "amount_too_large"])
async def test_refused_amount_is_422_and_frees_the_milestone(
    api: httpx.AsyncClient, provider: FakeProvider, code: str
) -> None:
    """An amount that the provider does not take is the payer's to mend: the key stays used, the milestone is free."""
    provider.fail_next(FailureKind.REQUEST_REFUSED, NO, code=code)
    problem(await create(api), 422, code)
    again = await create(api)
    problem(again, 422, code)
    assert again.headers["idempotent-replayed"] == "true"
    assert (await create(api, key="key-2", amount=99)).status_code == 201


async def test_request_that_the_provider_refuses_is_our_mistake(
    api: httpx.AsyncClient, provider: FakeProvider, logs: list[Any]
) -> None:
    """A refusal that the payer cannot mend is a 500, is logged as an error, and the key works once it is mended."""
    provider.fail_next(FailureKind.REQUEST_REFUSED, NO, code="parameter_unknown")
    problem(await create(api), 500, "internal_error")
    assert [entry["error_code"] for entry in logs if entry["log_level"] == "error"] == ["parameter_unknown"]
    assert (await create(api)).status_code == 201


async def test_refused_credentials_are_logged_loudly(
    api: httpx.AsyncClient, provider: FakeProvider, logs: list[Any]
) -> None:
    """Credentials that the provider refuses are an operator's matter."""
    provider.fail_next(FailureKind.CREDENTIALS_REFUSED, NO)
    await create(api)
    assert [entry["failure_kind"] for entry in logs if entry["log_level"] == "error"] == ["credentials_refused"]


async def test_key_reused_at_the_provider_is_put_under_review(
    api: httpx.AsyncClient, provider: FakeProvider, sql: Any
) -> None:
    """The same key with other parameters is our bug: nobody tries again before a person has looked."""
    provider.fail_next(FailureKind.KEY_REUSED, UNKNOWN)
    problem(await create(api), 500, "internal_error")
    assert sql("SELECT status FROM psp_operations") == ["manual_review"]
    assert sql("SELECT status FROM payment_intents") == ["review"]
    problem(await create(api), 409, "under_review")
    assert provider.count("create") == 1


async def test_overload_is_told_as_ours(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """When our own connections are used up, nothing was sent and a repeat is welcome."""
    provider.fail_next(FailureKind.OVERLOADED, NO)
    response = await create(api)
    problem(response, 503, "overloaded")
    assert response.headers["retry-after"] == "1"
    assert (await create(api)).status_code == 201


async def test_unexpected_exception_is_a_500_and_heals(
    api: httpx.AsyncClient, provider: FakeProvider, sql: Any
) -> None:
    """A bug in an adapter tells nobody its inside, and the operation is found again when its lease has lapsed."""
    provider.faults.append(Fault(ZeroDivisionError("secret inside"), after_effect=True))
    response = await create(api)
    assert "secret inside" not in response.text
    problem(response, 500, "internal_error")
    problem(await create(api), 409, "idempotency_in_progress")
    sql("UPDATE psp_operations SET lease_until = now() - interval '1 second'")
    assert (await create(api)).status_code == 201
    assert (provider.count("create"), provider.count("find"), len(provider.intents)) == (1, 1, 1)


async def test_open_circuit_is_503_and_writes_nothing(
    database_url: str, redis_url: str, provider: FakeProvider, sql: Any
) -> None:
    """After the third failure the provider is not called, a Retry-After says how long, and no row is written."""
    settings = settings_for(database_url, redis_url, breaker_cooldown_seconds=600)
    async with serving(settings, provider) as (api, state):
        done = await create(api, key="done", milestoneId="ms_done")
        for number in range(3):
            provider.fail_next(*TIMED_OUT)
            problem(await create(api, key=f"key-{number}", milestoneId=f"ms_{number}"), 424, "payment_retry")
        called, rows = len(provider.calls), sql("SELECT count(*) FROM payment_intents")
        for key in ("new", None, "key-1"):
            response = await create(api, key=key, milestoneId="ms_1" if key == "key-1" else "ms_new")
            problem(response, 503, "service_unavailable")
            assert 590 <= int(response.headers["retry-after"]) <= 600
        assert (len(provider.calls), sql("SELECT count(*) FROM payment_intents")) == (called, rows)
        # What is known needs no provider.
        again = await create(api, key="done", milestoneId="ms_done")
        assert (again.status_code, again.content) == (201, done.content)
        problem(await create(api, key="done", amount=1), 422, "idempotency_key_reused")
        metrics = state["telemetry"].registry
        assert metrics.get_sample_value("switchgear_payments_total", {"outcome": "service_unavailable"}) == 3
        refused = {"circuit": "stripe:create_intent", "reason": "open"}
        assert metrics.get_sample_value("switchgear_breaker_refusals_total", refused) == 3
        tripped = {"circuit": "stripe:create_intent", "transition": "tripped"}
        assert metrics.get_sample_value("switchgear_breaker_transitions_total", tripped) == 1
        opened = {"circuit": "stripe:create_intent", "state": "open"}
        assert metrics.get_sample_value("switchgear_breaker_state", opened) == 1


async def test_milestone_has_one_payment(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """A second payment for a milestone is refused; the payer is told which one is there, others are not."""
    first = (await create(api)).json()["intentId"]
    for key in ("key-2", None):
        said = problem(await create(api, key=key), 409, "escrow_exists")
        assert said["intent_id"] == first
        assert "Idempotency-Key" in said["detail"]
    other = await api.post("/payments/intents", json=body(), headers=bearer("payer_2"))
    assert first not in other.text
    problem(other, 409, "escrow_exists")
    assert provider.count("create") == 1


async def test_key_of_a_refused_request_is_still_unused(api: httpx.AsyncClient) -> None:
    """A 409 about the milestone uses up no key."""
    await create(api)
    problem(await create(api, key="key-2"), 409, "escrow_exists")
    assert (await create(api, key="key-2", milestoneId="ms_2")).status_code == 201


async def test_missing_key_is_refused_when_required(database_url: str, provider: FakeProvider) -> None:
    """A deployment may insist on keys."""
    async with serving(settings_for(database_url, require_idempotency_key=True), provider) as (api, _):
        problem(await create(api, key=None), 400, "idempotency_key_missing")
        assert (await create(api)).status_code == 201


async def test_secrets_are_neither_logged_nor_stored_readable(
    api: httpx.AsyncClient, provider: FakeProvider, logs: list[Any], sql: Any
) -> None:
    """The payer's client secret and token are in the answer and the request only."""
    secret = (await create(api)).json()["clientSecret"]
    stored = "".join(sql("SELECT i::text, o::text FROM payment_intents i JOIN psp_operations o ON o.intent_id = i.id"))
    for text in (str(logs), stored):
        assert secret not in text
        assert api.headers["authorization"].split()[1] not in text
    assert provider.count("create") == 1
