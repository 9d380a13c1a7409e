"""Reading Stripe's payment intents: nothing is believed that was not checked."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Literal, Self
from urllib.parse import quote

import stripe
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.providers.base import ProviderIntent, ProviderStatus

_STATUSES = {
    "requires_payment_method": ProviderStatus.REQUIRES_ACTION,
    "requires_confirmation": ProviderStatus.REQUIRES_ACTION,
    "requires_action": ProviderStatus.REQUIRES_ACTION,
    "processing": ProviderStatus.PROCESSING,
    "requires_capture": ProviderStatus.AUTHORIZED,
    "succeeded": ProviderStatus.CAPTURED,
    "canceled": ProviderStatus.CANCELED,
}


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)


class _Redirect(_Wire):
    url: str | None = None


class _NextAction(_Wire):
    redirect_to_url: _Redirect | None = None


class _WireIntent(_Wire):
    object: Literal["payment_intent"]
    id: str = Field(min_length=1, max_length=255)
    status: str
    amount: int = Field(gt=0)
    currency: str = Field(pattern=r"^[a-z]{3}$")
    metadata: dict[str, str] = Field(default_factory=dict)
    client_secret: str | None = None
    amount_capturable: int = Field(default=0, ge=0)
    amount_received: int = Field(default=0, ge=0)
    next_action: _NextAction | None = None

    @model_validator(mode="after")
    def _no_more_than_the_amount(self) -> Self:
        if self.status not in _STATUSES or self.amount_capturable + self.amount_received > self.amount:
            raise ValueError
        return self


class CheckoutUrl:
    """Where a payer confirms an intent for which Stripe names no page of its own.

    Args:
        template: A URL with `{payment_intent}` and `{client_secret}` in it; None when there is no such page.

    Raises:
        ValueError: The template names something else, or its braces do not match.
    """

    def __init__(self, template: str | None) -> None:
        fields = {name for _, name, _, _ in Formatter().parse(template or "") if name is not None}
        if unknown := fields - {"payment_intent", "client_secret"}:
            message = f"a checkout URL is made of {{payment_intent}} and {{client_secret}}, not of {sorted(unknown)}"
            raise ValueError(message)
        self._template = template

    def of(self, intent_id: str, client_secret: str | None) -> str | None:
        """Give the URL for one intent; None without a template, or without the secret that makes the page useful."""
        if self._template is None or client_secret is None:
            return None
        return self._template.format(
            payment_intent=quote(intent_id, safe=""), client_secret=quote(client_secret, safe="")
        )


def read_intent(
    answer: object, metadata: Mapping[str, str], checkout_url: CheckoutUrl, *, request_id: str | None
) -> ProviderIntent | None:
    """Read one payment intent.

    Args:
        answer: What the SDK gave: an object of any kind, a list, a number or nothing.
        metadata: What must be among the intent's metadata.
        checkout_url: Makes the payer's page where Stripe names none.
        request_id: Stripe's name for the request.

    Returns:
        The intent, or None when the answer is not an intent, or not this one.
    """
    if not isinstance(answer, stripe.StripeObject):
        return None
    try:
        wire = _WireIntent.model_validate(answer.to_dict())
    except ValidationError:
        return None
    if not metadata.items() <= wire.metadata.items():
        return None
    status = _STATUSES[wire.status]
    return ProviderIntent(
        provider_intent_id=wire.id,
        status=status,
        amount=wire.amount,
        currency=wire.currency.upper(),
        client_secret=wire.client_secret,
        checkout_url=_page(wire, checkout_url) if status is ProviderStatus.REQUIRES_ACTION else None,
        amount_authorized=wire.amount_capturable + wire.amount_received,
        amount_captured=wire.amount_received,
        provider_request_id=request_id,
    )


def _page(wire: _WireIntent, checkout_url: CheckoutUrl) -> str | None:
    redirect = wire.next_action.redirect_to_url if wire.next_action else None
    return (redirect.url if redirect else None) or checkout_url.of(wire.id, wire.client_secret)
