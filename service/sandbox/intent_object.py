"""The payment intent as an object on the wire: how a new one looks, and the errors that speak about its state."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any, TypeAlias

from service.sandbox import parameters
from service.sandbox.cards import GOOD_CARDS, REFUSED_CARDS
from service.sandbox.wire import Params, WireError, invalid, new_id

Intent: TypeAlias = dict[str, Any]

CAPTURE_METHODS = ("automatic", "automatic_async", "manual")
ECHOED = (
    *("customer", "description", "on_behalf_of", "receipt_email", "setup_future_usage", "statement_descriptor"),
    *("statement_descriptor_suffix", "transfer_group"),
)


def new_intent(params: Params) -> Intent:
    """Make a new intent out of the parameters of a creation.

    Raises:
        WireError: A parameter is wrong.
    """
    currency = parameters.currency(params) or ""
    intent_id = new_id("pi_")
    payment_method = chosen_card(params)
    return {
        "id": intent_id,
        "object": "payment_intent",
        "amount": parameters.check_amount(parameters.integer(params, "amount") or 0, currency),
        "amount_capturable": 0,
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": parameters.one_of(params, "capture_method", CAPTURE_METHODS) or "automatic_async",
        "client_secret": f"{intent_id}_secret_{new_id('', 25)}",
        "confirmation_method": parameters.one_of(params, "confirmation_method", ("automatic", "manual")) or "automatic",
        "created": int(time.time()),
        "currency": currency,
        **{name: parameters.text(params, name) for name in ECHOED},
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": parameters.merged_metadata(params, {}),
        "next_action": None,
        "payment_method": payment_method,
        "payment_method_options": {},
        "payment_method_types": parameters.listed(params, "payment_method_types") or ["card"],
        "processing": None,
        "review": None,
        "shipping": None,
        "source": None,
        "status": unpaid_status(payment_method),
        "transfer_data": None,
    }


def unpaid_status(payment_method: str | None) -> str:
    """Say what an intent that nobody has paid waits for."""
    return "requires_payment_method" if payment_method is None else "requires_confirmation"


def chosen_card(params: Params) -> str | None:
    """Read the payment method, which must be one of Stripe's test cards.

    Raises:
        WireError: There is no such card.
    """
    card = parameters.text(params, "payment_method")
    if card is not None and card not in GOOD_CARDS and card not in REFUSED_CARDS:
        raise invalid(f"No such PaymentMethod: '{card}'", param="payment_method", code="resource_missing")
    return card


def unexpected_state(intent: Intent, what: str, allowed: Collection[str]) -> WireError:
    """Refuse a change that the intent's status does not allow; the endpoint had begun, so this is stored."""
    only = f"Only a PaymentIntent with one of the following statuses may be: {', '.join(allowed)}."
    return WireError(
        400,
        "invalid_request_error",
        f"{what} because it has a status of {intent['status']}. {only}",
        code="payment_intent_unexpected_state",
        began=True,
        detail={"payment_intent": intent},
    )


def no_payment_method() -> WireError:
    """Refuse to charge an intent that has no card."""
    message = (
        "You cannot confirm this PaymentIntent because it's missing a payment method. Update the PaymentIntent with a "
        "payment method, such as `pm_card_visa`, or pass one when confirming."
    )
    return invalid(message, code="payment_intent_unexpected_state")
