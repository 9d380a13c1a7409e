"""Reading an intent, and asking the provider how it is."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.payments.use_cases import Payments
from service.providers.base import CallRefusedError, Executed, FailureKind, ProviderStatus
from tests.support.fake_provider import TIMED_OUT, FakeProvider, failed
from tests.support.service import bearer, body


async def created(api: httpx.AsyncClient) -> dict[str, Any]:
    """Create an intent."""
    said: dict[str, Any] = (await api.post("/payments/intents", json=body())).json()
    return said


async def read(api: httpx.AsyncClient, intent_id: str, *, refresh: bool = False, **headers: str) -> httpx.Response:
    """Read an intent."""
    params = {"refresh": "true"} if refresh else {}
    return await api.get(f"/payments/intents/{intent_id}", params=params, headers=headers)


async def test_reads_back_what_was_created(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """A payer reads the created intent with what was asked for, and the provider is not bothered."""
    said = await created(api)
    response = await read(api, said["intentId"])
    assert response.status_code == 200
    assert response.json().items() >= {**said, "amount": 12_500, "currency": "EUR", "projectId": "proj_1"}.items()
    assert provider.count("retrieve") == 0


@pytest.mark.parametrize("intent_id", ["payint_0", "payint_" + "0" * 32, "%00", "..", "x" * 5000])
async def test_unknown_intent_is_404(api: httpx.AsyncClient, intent_id: str) -> None:
    """What does not exist is not found, whatever the name looks like."""
    response = await read(api, intent_id)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_foreign_intent_is_404(api: httpx.AsyncClient) -> None:
    """Somebody else's intent looks as if it did not exist, refreshed or not."""
    intent_id = (await created(api))["intentId"]
    for refresh in (False, True):
        response = await read(api, intent_id, refresh=refresh, **bearer("payer_2"))
        absent = await read(api, "payint_0", refresh=refresh, **bearer("payer_2"))
        assert response.status_code == absent.status_code == 404
        assert response.json()["detail"] == absent.json()["detail"]


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (ProviderStatus.PROCESSING, "processing"),
        (ProviderStatus.AUTHORIZED, "locked"),
        (ProviderStatus.CANCELED, "voided"),
        (ProviderStatus.CAPTURED, "released"),
    ],
)
async def test_refresh_stores_what_the_provider_says(
    api: httpx.AsyncClient, provider: FakeProvider, sql: Any, seen: ProviderStatus, status: str
) -> None:
    """A refresh shows the provider's status, and so do later reads."""
    said = await created(api)
    provider.put(said["providerPaymentIntentId"], status=seen, amount_authorized=12_500)
    assert (await read(api, said["intentId"], refresh=True)).json()["status"] == status
    assert (await read(api, said["intentId"])).json()["status"] == status
    assert sql("SELECT seq, type, to_status FROM intent_events ORDER BY seq")[-1] == f"3|refreshed|{status}"


async def test_refresh_without_news_changes_nothing(api: httpx.AsyncClient, sql: Any) -> None:
    """When the provider says what is known, no event is written."""
    said = await created(api)
    await read(api, said["intentId"], refresh=True)
    assert sql("SELECT count(*) FROM intent_events") == ["2"]


async def test_impossible_news_put_the_intent_under_review(
    api: httpx.AsyncClient, provider: FakeProvider, sql: Any
) -> None:
    """Money that was held cannot go back to waiting for the payer, and an amount cannot change."""
    said = await created(api)
    name = said["providerPaymentIntentId"]
    provider.put(name, amount=99_999, amount_authorized=99_999)
    assert (await read(api, said["intentId"], refresh=True)).json()["status"] == "review"
    assert sql("SELECT amount, amount_authorized FROM payment_intents") == ["12500|0"]
    sql("UPDATE payment_intents SET status = 'locked'")
    provider.put(name, amount=12_500, amount_authorized=0)
    assert (await read(api, said["intentId"], refresh=True)).json()["status"] == "review"


async def test_final_and_unsent_intents_are_not_refreshed(
    api: httpx.AsyncClient, provider: FakeProvider, sql: Any
) -> None:
    """Nothing new can come of an intent that has ended, or that the provider does not know."""
    said = await created(api)
    sql("UPDATE payment_intents SET status = 'voided'")
    assert (await read(api, said["intentId"], refresh=True)).json()["status"] == "voided"
    provider.fail_next(*TIMED_OUT)
    waiting = (await api.post("/payments/intents", json=body(milestoneId="ms_2"))).json()["intent_id"]
    assert (await read(api, waiting, refresh=True)).json()["status"] == "submitting"
    assert provider.count("retrieve") == 0


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (failed(FailureKind.TIMED_OUT), 424, "payment_retry"),
        (failed(FailureKind.BAD_RESPONSE), 502, "psp_bad_response"),
        (failed(FailureKind.CREDENTIALS_REFUSED, Executed.NO), 502, "psp_misconfigured"),
    ],
)
async def test_failed_refresh_is_told_and_changes_nothing(
    api: httpx.AsyncClient, provider: FakeProvider, fault: Exception, status: int, code: str
) -> None:
    """When the provider cannot be read, the payer hears so, and can still read what is known."""
    said = await created(api)
    provider.retrieve_fault = fault
    response = await read(api, said["intentId"], refresh=True)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert (await read(api, said["intentId"])).json()["status"] == "requires_action"


async def test_refused_refresh_is_503(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """A circuit that is open for reads says when to come back."""
    said = await created(api)
    provider.retrieve_fault = CallRefusedError("stripe:retrieve_intent", 3.4)
    response = await read(api, said["intentId"], refresh=True)
    assert (response.status_code, response.headers["retry-after"]) == (503, "4")


async def test_news_that_came_meanwhile_are_kept(
    api: httpx.AsyncClient, payments: Payments, provider: FakeProvider, sql: Any
) -> None:
    """A refresh does not overwrite what was stored while it was asking."""
    said = await created(api)
    provider.put(said["providerPaymentIntentId"], status=ProviderStatus.PROCESSING)
    provider.during_call = lambda: sql("UPDATE payment_intents SET status = 'locked', version = version + 1")
    intent = await payments.read("payer_1", said["intentId"], refresh=True)
    assert intent.status == "locked"
    assert sql("SELECT count(*) FROM intent_events WHERE type = 'refreshed'") == ["0"]
