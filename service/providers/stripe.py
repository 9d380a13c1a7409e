"""Stripe behind the provider port, through its official SDK."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from datetime import datetime
from typing import TypeVar

import stripe

from service.providers.base import (
    CallRefusedError,
    CreateIntent,
    Declined,
    Executed,
    FailureKind,
    Health,
    ProviderError,
    ProviderIntent,
    ProviderOperation,
)
from service.providers.stripe_errors import classify, nonsense
from service.providers.stripe_http import StripeTransport, forget_answer, last_answer
from service.providers.stripe_intents import CheckoutUrl, read_intent

_T = TypeVar("_T")

_KEY = re.compile(r"[!-~]+")
_PAGE_SIZE = 100  # Stripe's largest
# Ten pages take about as long as one attempt may: a longer search would count as a sick provider.
_MAX_SEARCHED = 10 * _PAGE_SIZE


class StripeProvider:
    """Stripe's payment intents with manual capture.

    Args:
        api_key: The secret key.
        base_url: Stripe's API, or what speaks its wire protocol; without a path.
        connect_timeout_seconds: How long connecting may take.
        read_timeout_seconds: How long Stripe may stay silent. Shorter than the time of a whole attempt, so that a hung
            connection is told from an answer that comes too slowly.
        max_connections: How many requests may be out at once; one more waits as long as for connecting.
        checkout_url_template: Where a payer confirms, with `{payment_intent}` and `{client_secret}` in it.

    Raises:
        ValueError: The template names something else, or the key cannot be a key.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        connect_timeout_seconds: float = 1.0,
        read_timeout_seconds: float = 3.0,
        max_connections: int = 100,
        checkout_url_template: str | None = None,
    ) -> None:
        if not _KEY.fullmatch(api_key):
            # Found out only when sending, it would be quoted in the error. A line end is the usual case.
            message = "the Stripe API key must be printable and without blanks or line ends"
            raise ValueError(message)
        self._checkout_url = CheckoutUrl(checkout_url_template)
        self._transport = StripeTransport(
            connect_timeout_seconds=connect_timeout_seconds,
            read_timeout_seconds=read_timeout_seconds,
            max_connections=max_connections,
        )
        self._intents = stripe.StripeClient(
            api_key,
            base_addresses={"api": base_url},
            http_client=self._transport,
            # Repeats are the guard's: each one has to pass the circuit and to fit into the deadline.
            max_network_retries=0,
        ).v1.payment_intents

    @property
    def name(self) -> str:
        """`stripe`."""
        return "stripe"

    async def peek(self, operation: ProviderOperation) -> CallRefusedError | None:  # noqa: ARG002
        """Refuse nothing: there is no circuit here."""
        return None

    async def create_intent(self, request: CreateIntent) -> ProviderIntent | Declined:
        """Create an intent with manual capture; the same `operation_id` never creates a second one."""
        metadata = {"intent_id": request.intent_id, "operation_id": request.operation_id}
        made = await self._ask(
            self._intents.create_async(
                params={
                    "amount": request.amount,
                    "currency": request.currency.lower(),
                    "capture_method": "manual",
                    "metadata": metadata | {"return_url": request.return_url},
                },
                options={"idempotency_key": request.operation_id},
            )
        )
        if isinstance(made, Declined):
            return made
        intent = self._read(made, metadata)
        if (intent.amount, intent.currency) != (request.amount, request.currency):
            raise nonsense(last_answer())
        return intent

    async def retrieve_intent(self, provider_intent_id: str) -> ProviderIntent:
        """Read one intent."""
        intent = self._read(await self._ask(self._intents.retrieve_async(provider_intent_id)), {})
        if intent.provider_intent_id != provider_intent_id:
            raise nonsense(last_answer())
        return intent

    async def find_intent(self, operation_id: str, *, created_after: datetime) -> ProviderIntent | None:
        """Look for the intent that an operation created, newest first.

        It lists rather than searches: Stripe's search lags behind by a minute, and in an outage by an hour.

        Raises:
            ProviderError: Also when there are more intents since then than can be looked through.
        """
        found = await self._ask(self._find(operation_id, int(created_after.timestamp())))
        return None if found is None else self._read(found, {"operation_id": operation_id})

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.close_async()

    async def _find(self, operation_id: str, created_after_seconds: int) -> stripe.PaymentIntent | None:
        page = await self._intents.list_async(params={"created": {"gte": created_after_seconds}, "limit": _PAGE_SIZE})
        searched = 0
        async for intent in page.auto_paging_iter():
            if getattr(intent.metadata, "operation_id", None) == operation_id:
                return intent
            searched += 1
            if searched == _MAX_SEARCHED:
                # Not found here is no "there is none": the operation stays unknown.
                raise ProviderError(FailureKind.BAD_RESPONSE, executed=Executed.UNKNOWN, health=Health.HEALTHY)
        return None

    async def _ask(self, call: Awaitable[_T]) -> _T | Declined:
        forget_answer()
        try:
            return await call
        except ProviderError:
            raise
        except Exception as error:
            meaning = classify(error, last_answer())
            if meaning is None:
                raise
            cause = error.__cause__
        if isinstance(meaning, Declined):
            return meaning
        # The SDK's own error is left behind: its text holds the answer's body, with the client secret in it. What it
        # was caused by, if the answer never came, is httpx's error and holds nothing.
        raise meaning from cause

    def _read(self, answer: object, metadata: dict[str, str]) -> ProviderIntent:
        came = last_answer()
        request_id = came.headers.get("request-id") if came else None
        intent = read_intent(answer, metadata, self._checkout_url, request_id=request_id)
        if intent is None:
            raise nonsense(came)
        return intent
