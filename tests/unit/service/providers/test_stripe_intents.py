from __future__ import annotations

from typing import Any

import pytest
import stripe

from service.providers.base import ProviderIntent, ProviderStatus
from service.providers.stripe_intents import CheckoutUrl, read_intent

TEMPLATE = "https://pay.example/{payment_intent}?secret={client_secret}"


def read(template: str | None = None, **changes: Any) -> ProviderIntent | None:
    """Read an intent that is proper but for these changes."""
    values = {
        "object": "payment_intent",
        "id": "pi_1",
        "status": "requires_payment_method",
        "amount": 2500,
        "currency": "eur",
        "client_secret": "pi_1_secret_x",
    } | changes
    answer = stripe.PaymentIntent.construct_from(values, "sk_test")
    return read_intent(answer, {}, CheckoutUrl(template), request_id=None)


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ("requires_payment_method", ProviderStatus.REQUIRES_ACTION),
        ("requires_confirmation", ProviderStatus.REQUIRES_ACTION),
        ("requires_action", ProviderStatus.REQUIRES_ACTION),
        ("processing", ProviderStatus.PROCESSING),
        ("requires_capture", ProviderStatus.AUTHORIZED),
        ("succeeded", ProviderStatus.CAPTURED),
        ("canceled", ProviderStatus.CANCELED),
    ],
)
def test_every_status_of_stripe_has_a_word_here(told: str, status: ProviderStatus) -> None:
    """The known statuses are mapped, each to one."""
    intent = read(status=told)
    assert intent is not None
    assert intent.status is status


def test_partly_captured_intent_says_how_much() -> None:
    """What was captured counts as authorised too."""
    intent = read(status="succeeded", amount_capturable=0, amount_received=1000)
    assert intent is not None
    assert (intent.amount_authorized, intent.amount_captured) == (1000, 1000)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"amount": True},
        {"amount": 0},
        {"amount": -1},
        {"amount": 25.0},
        {"currency": "EUR"},
        {"currency": "euro"},
        {"id": ""},
        {"id": 7},
        {"client_secret": 7},
        {"amount_capturable": -1},
        {"amount_capturable": 2000, "amount_received": 501},
        {"metadata": []},
        {"next_action": "go"},
    ],
)
def test_nonsense_is_not_read(nonsense: dict[str, Any]) -> None:
    """A field of the wrong kind or beyond its range makes the whole answer unbelievable."""
    assert read(**nonsense) is None


def test_page_that_stripe_names_goes_first() -> None:
    """A redirect in the intent's next action is where the payer goes."""
    action = {"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank.example/3ds"}}
    intent = read(TEMPLATE, status="requires_action", next_action=action)
    assert intent is not None
    assert intent.checkout_url == "https://bank.example/3ds"


@pytest.mark.parametrize(
    "action", [None, {"type": "use_stripe_sdk"}, {"type": "redirect_to_url", "redirect_to_url": {"url": None}}]
)
def test_page_is_made_of_the_template_otherwise(action: object) -> None:
    """Without a redirect the template gives the page, with the values quoted."""
    intent = read(TEMPLATE, next_action=action, client_secret="a&b/c")
    assert intent is not None
    assert intent.checkout_url == "https://pay.example/pi_1?secret=a%26b%2Fc"


@pytest.mark.parametrize(
    ("template", "changes"),
    [(None, {}), (TEMPLATE, {"client_secret": None}), (TEMPLATE, {"status": "requires_capture"})],
    ids=["no template", "no secret", "nothing to confirm"],
)
def test_no_page_where_there_is_none(template: str | None, changes: dict[str, Any]) -> None:
    """A page is given only when it exists and the payer has something to do there."""
    intent = read(template, **changes)
    assert intent is not None
    assert intent.checkout_url is None


@pytest.mark.parametrize("template", ["https://x/{intent}", "https://x/{}", "https://x/{payment_intent.real}"])
def test_template_that_names_something_else_is_refused(template: str) -> None:
    """A misspelt name is found at the start, not at the first payment."""
    with pytest.raises(ValueError, match="made of"):
        CheckoutUrl(template)


def test_template_with_an_open_brace_is_refused() -> None:
    """So is a template that is no template."""
    with pytest.raises(ValueError, match="expected '}'"):
        CheckoutUrl("https://x/{payment_intent")
