"""Payment intents through the official SDK: what a merchant's integration sees."""

from __future__ import annotations

import httpx
import pytest
import stripe as sdk
from stripe import PaymentIntent, StripeClient
from stripe.params import PaymentIntentCreateParams, PaymentIntentListParams

from tests.integration.sandbox.talk import FORM, INTENTS, create, sdk_on_httpx
from tests.support.sandbox import Sandbox

pytestmark = sdk_on_httpx

HELD: PaymentIntentCreateParams = {
    "amount": 2500,
    "currency": "EUR",
    "capture_method": "manual",
    "metadata": {"operation_id": "op_1"},
}


async def hold(stripe: StripeClient) -> PaymentIntent:
    """Create an intent and have a good card pay it."""
    intent = await stripe.v1.payment_intents.create_async(HELD)
    return await stripe.v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"})


async def test_new_intent_waits_for_a_payment_method(stripe: StripeClient, sandbox: Sandbox) -> None:
    """A created intent can be read back, has a secret for the payer's page, and moved no money."""
    created = await stripe.v1.payment_intents.create_async(HELD, {"idempotency_key": "op_1"})
    intent = await stripe.v1.payment_intents.retrieve_async(created.id)
    assert intent.id.startswith("pi_")
    assert intent.status == "requires_payment_method"
    assert (intent.amount, intent.currency, intent.amount_capturable) == (2500, "eur", 0)
    assert (intent.client_secret or "").startswith(f"{intent.id}_secret_")
    assert intent.metadata["operation_id"] == "op_1"
    assert created.last_response is not None
    assert (created.last_response.request_id or "").startswith("req_")
    [effect] = sandbox.effects
    told = {"seq": 1, "type": "created", "payment_intent": intent.id, "amount": 2500, "currency": "eur"}
    assert effect.items() >= {**told, "idempotency_key": "op_1"}.items()


async def test_manual_capture_holds_first_and_takes_a_part_later(stripe: StripeClient, sandbox: Sandbox) -> None:
    """With manual capture a confirmation only holds the money; a capture takes what it asks for and frees the rest."""
    held = await hold(stripe)
    assert (held.status, held.amount_capturable, held.amount_received) == ("requires_capture", 2500, 0)
    taken = await stripe.v1.payment_intents.capture_async(held.id, {"amount_to_capture": 1000})
    assert (taken.status, taken.amount_capturable, taken.amount_received) == ("succeeded", 0, 1000)
    log = [(effect["seq"], effect["type"], effect["amount"]) for effect in sandbox.effects]
    assert log == [(1, "created", 2500), (2, "authorized", 2500), (3, "captured", 1000)]


async def test_automatic_capture_takes_the_money_at_once(stripe: StripeClient, sandbox: Sandbox) -> None:
    """Created and confirmed in one request, with automatic capture, an intent is paid."""
    intent = await stripe.v1.payment_intents.create_async(
        {"amount": 700, "currency": "usd", "confirm": True, "payment_method": "pm_card_visa"}
    )
    assert (intent.status, intent.amount_received) == ("succeeded", 700)
    assert str(intent.latest_charge).startswith("ch_")
    assert [effect["type"] for effect in sandbox.effects] == ["created", "authorized", "captured"]


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
    ],
)
async def test_refused_card_leaves_the_intent_open_for_another(
    stripe: StripeClient, sandbox: Sandbox, card: str, code: str, decline_code: str | None
) -> None:
    """A decline is a 402 with its reason; the money stays where it is and the payer may try another card."""
    intent = await stripe.v1.payment_intents.create_async(HELD)
    with pytest.raises(sdk.CardError) as refused:
        await stripe.v1.payment_intents.confirm_async(intent.id, {"payment_method": card})
    assert refused.value.code == code
    assert refused.value.error is not None
    assert refused.value.error.decline_code == decline_code
    after = await stripe.v1.payment_intents.retrieve_async(intent.id)
    assert after.status == "requires_payment_method"
    assert after.last_payment_error is not None
    assert after.last_payment_error.code == code
    assert not sandbox.effects_of("authorized")
    paid = await stripe.v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    assert paid.status == "requires_capture"
    assert paid.last_payment_error is None


async def test_cancel_gives_held_money_back_once(stripe: StripeClient, sandbox: Sandbox) -> None:
    """A canceled hold goes back to the payer; a second cancel and a late capture are refused and change nothing."""
    held = await hold(stripe)
    canceled = await stripe.v1.payment_intents.cancel_async(held.id, {"cancellation_reason": "abandoned"})
    assert (canceled.status, canceled.amount_capturable, canceled.cancellation_reason) == ("canceled", 0, "abandoned")
    for again in (stripe.v1.payment_intents.cancel_async, stripe.v1.payment_intents.capture_async):
        with pytest.raises(sdk.InvalidRequestError) as refused:
            await again(held.id)
        assert refused.value.code == "payment_intent_unexpected_state"
        assert refused.value.error is not None
        assert refused.value.error.payment_intent is not None
        assert refused.value.error.payment_intent.status == "canceled"
    assert [(e["type"], e["amount"]) for e in sandbox.effects][2:] == [("canceled", 2500)]


async def test_more_than_what_is_held_cannot_be_captured(stripe: StripeClient, sandbox: Sandbox) -> None:
    """A capture above the hold is refused by name, and the hold stays."""
    held = await hold(stripe)
    with pytest.raises(sdk.InvalidRequestError) as refused:
        await stripe.v1.payment_intents.capture_async(held.id, {"amount_to_capture": 2501})
    assert (refused.value.code, refused.value.param) == ("amount_too_large", "amount_to_capture")
    assert not sandbox.effects_of("captured")
    assert (await stripe.v1.payment_intents.retrieve_async(held.id)).amount_capturable == 2500


async def test_amount_can_change_until_somebody_pays(stripe: StripeClient) -> None:
    """An update merges metadata and changes the amount of an unpaid intent, but not of a paid one."""
    intent = await stripe.v1.payment_intents.create_async(HELD)
    changed = await stripe.v1.payment_intents.update_async(
        intent.id, {"amount": 900, "metadata": {"operation_id": "", "order": "6"}, "payment_method": "pm_card_visa"}
    )
    assert (changed.amount, changed.metadata.to_dict()) == (900, {"order": "6"})
    assert changed.status == "requires_confirmation"
    paid = await stripe.v1.payment_intents.confirm_async(intent.id)
    assert paid.amount_capturable == 900
    with pytest.raises(sdk.InvalidRequestError) as refused:
        await stripe.v1.payment_intents.update_async(intent.id, {"amount": 901})
    assert refused.value.code == "payment_intent_unexpected_state"


async def test_list_pages_through_all_intents_newest_first(stripe: StripeClient) -> None:
    """The SDK's own paging, forwards and backwards, meets every intent once."""
    created = [(await stripe.v1.payment_intents.create_async(HELD)).id for _ in range(5)]
    first = await stripe.v1.payment_intents.list_async({"limit": 2})
    assert ([intent.id for intent in first.data], first.has_more) == (created[:2:-1], True)
    assert [intent.id async for intent in first.auto_paging_iter()] == created[::-1]
    newer = await stripe.v1.payment_intents.list_async({"limit": 2, "ending_before": created[0]})
    assert [intent.id for intent in newer.data] == [created[2], created[1]]


async def test_list_filters_by_time_of_creation(stripe: StripeClient) -> None:
    """`created[gte]` and its like draw the line where they say."""
    intent = await stripe.v1.payment_intents.create_async(HELD)
    found = await stripe.v1.payment_intents.list_async({"created": {"gte": intent.created, "lt": intent.created + 1}})
    assert [found.id for found in found.data] == [intent.id]
    later: PaymentIntentListParams = {"created": {"gt": intent.created}}
    earlier: PaymentIntentListParams = {"created": {"lte": intent.created - 1}}
    for nothing in (later, earlier):
        assert not (await stripe.v1.payment_intents.list_async(nothing)).data


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("starting_after=pi_nobody", "starting_after"),
        ("created[since]=1", "created[since]"),
        ("created[gte]=yesterday", "created[gte]"),
        ("status=succeeded", "status"),
        ("expand[]=data.latest_charge", "expand"),
    ],
)
async def test_bad_filter_is_refused_by_name(http: httpx.AsyncClient, query: str, param: str) -> None:
    """A list never answers a question that was not asked."""
    answer = await http.get(f"{INTENTS}?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"amount": "0"}, "amount", "parameter_invalid_integer"),
        ({"amount": "-5"}, "amount", "parameter_invalid_integer"),
        ({"amount": "12.50"}, "amount", "parameter_invalid_integer"),
        ({"amount": "9" * 40}, "amount", "parameter_invalid_integer"),
        ({"amount": "49"}, "amount", "amount_too_small"),
        ({"amount": "100000000"}, "amount", "amount_too_large"),
        ({"amount": ""}, "amount", "parameter_missing"),
        ({"currency": "euro"}, "currency", None),
        ({"capture_method": "later"}, "capture_method", None),
        ({"confirm": "yes"}, "confirm", None),
        ({"return_url": "https://shop.example"}, "return_url", None),
        ({"payment_method": "pm_card_nobody"}, "payment_method", "resource_missing"),
        ({"metadata[key]": "x" * 501}, "metadata[key]", None),
        ({"milestone": "1"}, "milestone", "parameter_unknown"),
        ({"idempotency_key": "1"}, "idempotency_key", "parameter_unknown"),
        ({"amount[value]": "1"}, "amount[value]", None),
    ],
)
async def test_bad_parameter_is_refused_by_name(
    http: httpx.AsyncClient, sandbox: Sandbox, changes: dict[str, str], param: str, code: str | None
) -> None:
    """A wrong, missing or unknown parameter is a 400 that names it, in Stripe's shape, and nothing happens."""
    answer = await create(http, "key", **changes)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["type"], error["param"], error.get("code")) == ("invalid_request_error", param, code)
    assert answer.headers["Request-Id"].startswith("req_")
    assert not sandbox.effects


async def test_json_body_is_refused(http: httpx.AsyncClient) -> None:
    """Stripe takes forms; a JSON body is refused with a hint instead of being read as an empty form."""
    answer = await http.post(INTENTS, json=FORM)
    assert answer.status_code == 400
    assert "application/x-www-form-urlencoded" in answer.json()["error"]["message"]


async def test_huge_body_is_refused(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """A body of a megabyte is not read to its end."""
    answer = await create(http, description="x" * 1_000_000)
    assert answer.status_code == 413
    assert not sandbox.effects


@pytest.mark.parametrize("path", ["/v1/payment_intents/pi_nobody", "/v1/charges", "/v1/payment_intents/pi_1/refund"])
async def test_what_does_not_exist_is_404_in_the_shape_of_stripe(http: httpx.AsyncClient, path: str) -> None:
    """Unknown intents and routes that the sandbox does not play are Stripe errors, not web server pages."""
    answer = await http.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer", "Bearer nonsense", "Bearer sk_", "Bearer pk_test_1", "Bearer sk_live_1", "Basic %"],
)
async def test_without_a_secret_test_key_nothing_is_done(sandbox: Sandbox, authorization: str | None) -> None:
    """Missing, malformed, publishable and live keys are 401 in Stripe's shape; a live one never counts as a test."""
    headers = {} if authorization is None else {"Authorization": authorization}
    async with httpx.AsyncClient(base_url=sandbox.url, trust_env=False, verify=False) as http:
        answer = await http.post(INTENTS, data=FORM, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert not sandbox.effects
