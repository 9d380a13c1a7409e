"""The bodies of the payment endpoints, with the contract's names."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from service.models import PaymentIntent
from service.payments.attempts import NewIntent
from service.payments.currencies import CURRENCIES
from service.payments.states import IntentStatus
from service.payments.submission import Created

# What the provider takes: eight digits, and as much text as it stores with an intent.
MAX_AMOUNT = 99_999_999
MAX_RETURN_URL_LENGTH = 500


def _in_use(currency: str) -> str:
    if currency not in CURRENCIES:
        raise ValueError("must be the code of a currency in use (ISO 4217, upper case)")
    return currency


def _absolute(url: str) -> str:
    parts = urlsplit(url)
    _ = parts.port  # raises ValueError for one that is none
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError("must be an absolute http or https URL without credentials")
    return url


# Ids of other systems: visible ASCII, so that two that look the same are the same.
Identifier = Annotated[str, Field(pattern=r"^[!-~]{1,128}$")]


class _Body(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, hide_input_in_errors=True, serialize_by_alias=True
    )


class CreateIntentBody(_Body):
    """What a payer sends."""

    project_id: Identifier
    milestone_id: Identifier
    amount: Annotated[int, Field(strict=True, ge=1, le=MAX_AMOUNT, description="Integer minor units.")]
    currency: Annotated[str, AfterValidator(_in_use), Field(description="ISO 4217.", examples=["EUR"])]
    return_url: Annotated[str, Field(max_length=MAX_RETURN_URL_LENGTH, pattern=r"^[!-~]+$"), AfterValidator(_absolute)]

    def of(self, payer_id: str) -> NewIntent:
        """Say who asks."""
        return NewIntent(payer_id=payer_id, **self.model_dump(by_alias=False))


class IntentView(_Body):
    """What a payer gets for a created intent."""

    intent_id: str
    provider: str
    provider_payment_intent_id: str | None
    client_secret: str | None
    checkout_url: str | None
    status: IntentStatus

    @staticmethod
    def of_created(created: Created) -> IntentView:
        """Show an intent as it was when it was created."""
        intent = created.intent
        return IntentView.model_construct(
            intent_id=intent.public_id,
            provider=intent.provider,
            provider_payment_intent_id=intent.provider_intent_id,
            client_secret=intent.client_secret,
            checkout_url=intent.checkout_url,
            status=created.status,
        )


class IntentDetails(IntentView):
    """What a payer reads about an intent later."""

    project_id: str
    milestone_id: str
    amount: int
    currency: str
    failure_code: str | None
    created_at: datetime
    updated_at: datetime

    @staticmethod
    def of_intent(intent: PaymentIntent) -> IntentDetails:
        """Show an intent as it is now."""
        return IntentDetails.model_construct(
            **dict(IntentView.of_created(Created(intent, intent.status))),
            project_id=intent.project_id,
            milestone_id=intent.milestone_id,
            amount=intent.amount,
            currency=intent.currency,
            failure_code=intent.failure_code,
            created_at=intent.created_at,
            updated_at=intent.updated_at,
        )
