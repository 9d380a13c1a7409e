"""What each endpoint does to a payment intent, and the effects that it leaves in the log.

Parameters that Stripe knows and the sandbox has no use for (transfers, mandates, shipping, ...) are accepted and mean
nothing here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from service.sandbox import parameters
from service.sandbox.cards import REFUSED_CARDS, Decline
from service.sandbox.intent_object import (
    CAPTURE_METHODS,
    ECHOED,
    Intent,
    chosen_card,
    new_intent,
    no_payment_method,
    unexpected_state,
    unpaid_status,
)
from service.sandbox.listing import list_intents
from service.sandbox.store import Cause, Store
from service.sandbox.wire import Params, invalid, new_id

PAYABLE = ("requires_payment_method", "requires_confirmation")
_CANCELABLE = (*PAYABLE, "requires_capture")
_CANCELLATION_REASONS = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")


@dataclass(frozen=True, slots=True)
class Call:
    """One request to an endpoint: its parameters, who caused what comes of it, and the intent that its path names."""

    params: Params
    cause: Cause
    intent_id: str = ""


class PaymentIntents:
    """The endpoints, as functions of a call. Whoever calls one that changes something opens the transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, call: Call) -> Intent:
        """Create an intent, and confirm it at once if asked to."""
        confirm = parameters.boolean(call.params, "confirm", default=False)
        if "return_url" in call.params and not confirm:
            message = "The parameter `return_url` cannot be passed unless `confirm` is set to true."
            raise invalid(message, param="return_url")
        intent = new_intent(call.params)
        if confirm and intent["payment_method"] is None:
            raise no_payment_method()
        self._save(intent, call.cause, created=intent["amount"])
        return self._charge(intent, call.cause) if confirm else intent

    def retrieve(self, call: Call) -> Intent:
        """Read one intent."""
        intent = self._store.intent(call.intent_id)
        if intent is None:
            message = f"No such payment_intent: '{call.intent_id}'"
            raise invalid(message, param="intent", code="resource_missing", status=404)
        return intent

    def list(self, call: Call) -> dict[str, Any]:
        """Read a page of intents."""
        return list_intents(self._store, call.params)

    def update(self, call: Call) -> Intent:
        """Change what may still be changed: what is paid, and with what, only as long as nobody has paid."""
        intent, params = self.retrieve(call), call.params
        for name in ("amount", "currency", "capture_method", "payment_method"):
            if name in params and intent["status"] not in PAYABLE:
                raise unexpected_state(intent, f"The {name} of this PaymentIntent could not be updated", PAYABLE)
        currency = parameters.currency(params) or intent["currency"]
        amount = parameters.integer(params, "amount")
        intent |= {"currency": currency, "metadata": parameters.merged_metadata(params, intent["metadata"])}
        intent["amount"] = parameters.check_amount(intent["amount"] if amount is None else amount, currency)
        intent["capture_method"] = (
            parameters.one_of(params, "capture_method", CAPTURE_METHODS) or intent["capture_method"]
        )
        if "payment_method" in params:
            card = chosen_card(params)
            intent |= {"payment_method": card, "status": unpaid_status(card)}
        intent |= {name: parameters.text(params, name) for name in ECHOED if name in params}
        return self._save(intent, call.cause)

    def confirm(self, call: Call) -> Intent:
        """Charge the card: hold the money with manual capture, take it otherwise."""
        intent = self.retrieve(call)
        if intent["status"] not in PAYABLE:
            raise unexpected_state(intent, "You cannot confirm this PaymentIntent", PAYABLE)
        intent["payment_method"] = chosen_card(call.params) or intent["payment_method"]
        if intent["payment_method"] is None:
            raise no_payment_method()
        return self._charge(intent, call.cause)

    def capture(self, call: Call) -> Intent:
        """Take the money that is held, or a part of it; the rest goes back to the payer."""
        intent = self.retrieve(call)
        if intent["status"] != "requires_capture":
            raise unexpected_state(intent, "This PaymentIntent could not be captured", ("requires_capture",))
        capturable = intent["amount_capturable"]
        given = parameters.integer(call.params, "amount_to_capture")
        amount = capturable if given is None else given
        if amount < 1:
            message = "This value must be greater than or equal to 1."
            raise invalid(message, param="amount_to_capture", code="parameter_invalid_integer")
        if amount > capturable:
            message = f"The amount to capture ({amount}) is larger than the amount that can be captured ({capturable})."
            raise invalid(message, param="amount_to_capture", code="amount_too_large")
        if not parameters.boolean(call.params, "final_capture", default=True):
            raise invalid("This PaymentIntent is not eligible for multiple captures.", param="final_capture")
        intent["metadata"] = parameters.merged_metadata(call.params, intent["metadata"])
        intent |= {"status": "succeeded", "amount_capturable": 0, "amount_received": amount}
        return self._save(intent, call.cause, captured=amount)

    def cancel(self, call: Call) -> Intent:
        """Give up an intent; the effect's amount is the held money that goes back to the payer, often none."""
        intent = self.retrieve(call)
        if intent["status"] not in _CANCELABLE:
            raise unexpected_state(intent, "You cannot cancel this PaymentIntent", _CANCELABLE)
        reason = parameters.one_of(call.params, "cancellation_reason", _CANCELLATION_REASONS)
        held = intent["amount_capturable"]
        intent |= {"status": "canceled", "canceled_at": int(time.time()), "cancellation_reason": reason}
        return self._save(intent | {"amount_capturable": 0}, call.cause, canceled=held)

    def decline(self, intent: Intent, decline: Decline, cause: Cause) -> Intent:
        """Note that a card was refused; the payer may try another one."""
        charge = new_id("ch_")
        error = decline.refusal(charge=charge).members()
        intent |= {"last_payment_error": error, "latest_charge": charge, "payment_method": None}
        return self._save(intent | {"status": unpaid_status(None)}, cause)

    def _charge(self, intent: Intent, cause: Cause) -> Intent:
        refused = REFUSED_CARDS.get(intent["payment_method"])
        if refused is not None:
            intent = self.decline(intent, refused, cause)
            raise refused.refusal(charge=intent["latest_charge"], payment_intent=intent)
        amount = intent["amount"]
        intent |= {"latest_charge": new_id("ch_"), "last_payment_error": None}
        if intent["capture_method"] == "manual":
            intent |= {"status": "requires_capture", "amount_capturable": amount}
            return self._save(intent, cause, authorized=amount)
        intent |= {"status": "succeeded", "amount_received": amount}
        return self._save(intent, cause, authorized=amount, captured=amount)

    def _save(self, intent: Intent, cause: Cause, **effects: int) -> Intent:
        """Store an intent with what happened to it, in that order."""
        self._store.save_intent(intent)
        for kind, amount in effects.items():
            self._store.add_effect(kind, intent, amount, cause)
        return intent
