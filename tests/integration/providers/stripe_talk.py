"""What Stripe says and is asked, for the tests that play it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from service.providers.base import CreateIntent
from service.providers.stripe import StripeProvider

CLIENT_SECRET = "pi_1_secret_do_not_log"
REQUEST = CreateIntent(
    operation_id="op_1", intent_id="payint_1", amount=2500, currency="EUR", return_url="https://shop.example/back"
)


def intent(**changes: Any) -> dict[str, Any]:
    """Give a payment intent as Stripe describes it."""
    return {
        "object": "payment_intent",
        "id": "pi_1",
        "status": "requires_payment_method",
        "amount": 2500,
        "amount_capturable": 0,
        "amount_received": 0,
        "currency": "eur",
        "client_secret": CLIENT_SECRET,
        "metadata": {"intent_id": "payint_1", "operation_id": "op_1", "return_url": "https://shop.example/back"},
        "next_action": None,
    } | changes


def error(kind: str, **details: str) -> dict[str, Any]:
    """Give an error body as Stripe writes it."""
    return {"error": {"type": kind, "message": f"a message with {CLIENT_SECRET} in it"} | details}


@contextlib.asynccontextmanager
async def stripe_at(url: str, **options: Any) -> AsyncIterator[StripeProvider]:
    """Give the real adapter for this address, with limits that a busy machine does not reach."""
    defaults: dict[str, Any] = {
        "api_key": "sk_test_do_not_log",
        "connect_timeout_seconds": 10.0,
        "read_timeout_seconds": 10.0,
    }
    provider = StripeProvider(base_url=url, **(defaults | options))
    try:
        yield provider
    finally:
        await provider.aclose()
