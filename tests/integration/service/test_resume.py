"""How a repeat of a request goes on with what the first one began, however that one ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from service.errors import InternalError, ServiceError
from service.payments.attempts import NewIntent
from service.payments.errors import (
    EscrowExistsError,
    IdempotencyInProgressError,
    PaymentRetryError,
    ServiceUnavailableError,
    UnderReviewError,
)
from service.payments.idempotency import KeyClaim
from service.payments.use_cases import Payments
from service.providers.base import CallRefusedError, Declined, Executed, FailureKind, ProviderStatus
from tests.support.fake_provider import TIMED_OUT, UNREACHABLE, FakeProvider, Fault, failed

NEW = NewIntent(
    payer_id="payer_1",
    project_id="proj_1",
    milestone_id="ms_1",
    amount=12_500,
    currency="EUR",
    return_url="https://shop.example/return",
)
KEY = KeyClaim("payer_1", "POST /payments/intents", "key-1", "fingerprint-1")


@pytest.fixture(params=[KEY, None], ids=["with key", "without key"])
def key(request: pytest.FixtureRequest) -> KeyClaim | None:
    """Both kinds of request are resumed alike: by the key, or by payer, milestone and body."""
    claim: KeyClaim | None = request.param
    return claim


async def begin(payments: Payments, key: KeyClaim | None, error: type[ServiceError] = PaymentRetryError) -> None:
    """Send a request that fails."""
    with pytest.raises(error):
        await payments.create(NEW, key)


async def test_found_intent_is_adopted(payments: Payments, provider: FakeProvider, key: KeyClaim | None) -> None:
    """When the answer was lost, the repeat finds what the provider made and sends nothing again."""
    provider.fail_next(*TIMED_OUT, after_effect=True)
    await begin(payments, key)
    created = await payments.create(NEW, key)
    (made,) = provider.intents.values()
    assert created.intent.provider_intent_id == made.provider_intent_id
    assert created.intent.client_secret == made.client_secret
    assert not created.replayed
    assert (provider.count("create"), provider.count("find")) == (1, 1)


async def test_not_found_is_sent_again_with_the_same_key(
    payments: Payments, provider: FakeProvider, key: KeyClaim | None, sql: Any
) -> None:
    """While the first send may still arrive, only the same provider key is safe."""
    provider.fail_next(*TIMED_OUT)
    await begin(payments, key)
    await payments.create(NEW, key)
    first, found, second = provider.calls
    assert first == second
    assert found == ("find", first[1])
    assert sql("SELECT seq, status, attempts FROM psp_operations") == ["1|succeeded|2"]


async def test_not_found_after_settling_is_begun_anew(
    payments: Payments, provider: FakeProvider, key: KeyClaim | None, sql: Any
) -> None:
    """Long after the last send, what is not there never arrived: it is rejected, and the next has a new key."""
    provider.fail_next(*TIMED_OUT)
    await begin(payments, key)
    sql("UPDATE psp_operations SET last_sent_at = now() - interval '61 seconds'")
    await payments.create(NEW, key)
    (_, first), _, (_, second) = provider.calls
    assert first != second
    rows = sql("SELECT seq, status, failure_kind FROM psp_operations ORDER BY seq")
    assert rows == ["1|rejected|never_arrived", "2|succeeded|"]


async def test_settling_is_measured_from_the_last_send(payments: Payments, provider: FakeProvider, sql: Any) -> None:
    """A second send begins the time to settle anew."""
    provider.fail_next(*TIMED_OUT)
    provider.fail_next(*TIMED_OUT)
    await begin(payments, KEY)
    sql("UPDATE psp_operations SET last_sent_at = now() - interval '50 seconds'")
    await begin(payments, KEY)
    sql("UPDATE psp_operations SET last_sent_at = last_sent_at - interval '20 seconds'")
    await payments.create(NEW, KEY)
    assert len({operation for method, operation in provider.calls if method == "create"}) == 1


async def test_rejected_is_begun_anew_at_once(
    payments: Payments, provider: FakeProvider, key: KeyClaim | None, sql: Any
) -> None:
    """When nothing happened for sure, nobody is asked: the next operation is sent with a new key."""
    provider.fail_next(*UNREACHABLE)
    await begin(payments, key)
    await payments.create(NEW, key)
    assert (provider.count("find"), provider.count("create")) == (0, 2)
    assert sql("SELECT seq, status FROM psp_operations ORDER BY seq") == ["1|rejected", "2|succeeded"]


async def test_lapsed_lease_is_taken_over(
    payments: Payments, provider: FakeProvider, key: KeyClaim | None, sql: Any
) -> None:
    """What a dead replica left behind is found out about, and only after its lease."""
    provider.faults.append(Fault(ZeroDivisionError(), after_effect=True))
    with pytest.raises(ZeroDivisionError):
        await payments.create(NEW, key)
    await begin(payments, key, IdempotencyInProgressError)
    sql("UPDATE psp_operations SET lease_until = now() - interval '1 millisecond'")
    await payments.create(NEW, key)
    assert (provider.count("create"), provider.count("find"), len(provider.intents)) == (1, 1, 1)


async def test_not_executed_says_nothing_about_an_earlier_send(
    payments: Payments, provider: FakeProvider, sql: Any
) -> None:
    """A repeat that cannot connect does not prove that the first send did nothing."""
    provider.fail_next(*TIMED_OUT)
    provider.fail_next(*UNREACHABLE)
    await begin(payments, KEY)
    with pytest.raises(PaymentRetryError) as told:
        await payments.create(NEW, KEY)
    assert told.value.members["outcome"] == "unknown"
    assert sql("SELECT seq, status FROM psp_operations") == ["1|unknown"]


async def test_refused_repeat_says_nothing_about_an_earlier_send(
    payments: Payments, provider: FakeProvider, sql: Any
) -> None:
    """A circuit that opens between the send and the repeat leaves the operation unknown."""
    provider.fail_next(*TIMED_OUT)
    await begin(payments, KEY)
    provider.refuses_calls = True
    await begin(payments, KEY, ServiceUnavailableError)
    assert sql("SELECT status FROM psp_operations") == ["unknown"]


async def test_refused_first_call_did_nothing(payments: Payments, provider: FakeProvider, sql: Any) -> None:
    """A circuit that opens between the look and the call: nothing was sent, and the next operation may follow."""
    provider.refuses_calls = True
    with pytest.raises(ServiceUnavailableError) as told:
        await payments.create(NEW, KEY)
    assert told.value.retry_after_seconds == 8
    assert sql("SELECT status FROM psp_operations") == ["rejected"]
    provider.refuses_calls = False
    await payments.create(NEW, KEY)
    assert len(provider.intents) == 1


@pytest.mark.parametrize(
    "error", [failed(FailureKind.UNREACHABLE, Executed.NO), failed(FailureKind.SERVER_ERROR), CallRefusedError("c", 1)]
)
async def test_failed_search_changes_nothing(
    payments: Payments, provider: FakeProvider, sql: Any, error: Exception
) -> None:
    """When the provider cannot even be asked, the operation stays unknown and nothing is sent."""
    provider.fail_next(*TIMED_OUT)
    await begin(payments, KEY)
    provider.find_faults.append(error)
    with pytest.raises(ServiceError) as told:
        await payments.create(NEW, KEY)
    assert told.value.members.get("outcome", "unknown") == "unknown"
    assert sql("SELECT status FROM psp_operations") == ["unknown"]
    assert provider.count("create") == 1


async def test_decline_of_a_repeat_is_final(payments: Payments, provider: FakeProvider, sql: Any) -> None:
    """A decline is a definite answer, whichever send it answers."""
    provider.fail_next(*TIMED_OUT)
    await begin(payments, KEY)
    provider.faults.append(Fault(Declined(code="card_declined")))
    with pytest.raises(ServiceError, match="declined"):
        await payments.create(NEW, KEY)
    assert sql("SELECT status, failure_code FROM payment_intents") == ["failed|card_declined"]


async def test_found_intent_with_another_amount_is_put_under_review(
    payments: Payments, provider: FakeProvider, sql: Any
) -> None:
    """An intent that carries our operation's id and another amount is nobody's to adopt."""
    provider.fail_next(*TIMED_OUT, after_effect=True)
    await begin(payments, KEY)
    provider.put(next(iter(provider.intents.values())).provider_intent_id, amount=1)
    await begin(payments, KEY, InternalError)
    await begin(payments, KEY, UnderReviewError)
    assert sql("SELECT status, error_code FROM psp_operations") == ["manual_review|amount_mismatch"]


async def test_other_wish_without_key_does_not_resume(payments: Payments, provider: FakeProvider) -> None:
    """Without a key, only the same payer with the same body goes on with a live intent."""
    provider.fail_next(*TIMED_OUT)
    await begin(payments, None)
    others: list[dict[str, Any]] = [
        {"amount": 1},
        {"currency": "USD"},
        {"return_url": "https://other.example"},
        {"payer_id": "payer_2"},
    ]
    for change in others:
        with pytest.raises(EscrowExistsError):
            await payments.create(replace(NEW, **change), None)
    assert len(provider.calls) == 1


async def test_new_key_does_not_resume(payments: Payments, provider: FakeProvider) -> None:
    """A fresh key is a fresh wish: it does not take over what another key began."""
    provider.fail_next(*TIMED_OUT)
    await begin(payments, KEY)
    with pytest.raises(EscrowExistsError):
        await payments.create(NEW, KeyClaim(KEY.principal, KEY.route, "key-2", KEY.fingerprint))
    assert len(provider.calls) == 1


async def test_provider_without_an_end_is_given_up(database: Any, provider: FakeProvider, sql: Any) -> None:
    """A provider that does not keep its own deadline is cut off; what it did is unknown."""
    payments = Payments(database, provider, deadline_seconds=-0.95)  # leaves a twentieth of the grace
    provider.hold = asyncio.Event()
    await begin(payments, KEY)
    assert sql("SELECT status, failure_kind FROM psp_operations") == ["unknown|timed_out"]


async def test_history_tells_every_step(payments: Payments, provider: FakeProvider, sql: Any) -> None:
    """Each change of an intent has one event, numbered without a gap like the intent's own version."""
    provider.status = ProviderStatus.AUTHORIZED
    provider.fail_next(*UNREACHABLE)
    provider.fail_next(*TIMED_OUT)
    await begin(payments, KEY)
    await begin(payments, KEY)
    await payments.create(NEW, KEY)
    assert sql("SELECT seq, type, from_status, to_status, actor FROM intent_events ORDER BY seq") == [
        "1|created||submitting|payer_1",
        "2|operation_rejected|submitting|submitting|payer_1",
        "3|operation_started|submitting|submitting|payer_1",
        "4|operation_unknown|submitting|submitting|payer_1",
        "5|operation_succeeded|submitting|locked|payer_1",
    ]
    assert sql("SELECT version FROM payment_intents") == ["5"]
