"""Two ways to talk to the sandbox: the official SDK, and plain HTTP for what the SDK hides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import stripe
from stripe import HTTPXClient, StripeClient

KEY = "sk_test_merchant"
INTENTS = "/v1/payment_intents"
FORM = {"amount": "2500", "currency": "eur", "capture_method": "manual"}

# The SDK's client for httpx passes a body in a way that httpx would rather not see any more.
sdk_on_httpx = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@contextlib.asynccontextmanager
async def stripe_at(url: str, *, api_key: str = KEY, read_timeout_seconds: float = 10) -> AsyncIterator[StripeClient]:
    """Give the official SDK for this address, with its own retries off."""
    stripe.enable_telemetry = False  # it writes into the home directory
    http = HTTPXClient(timeout=httpx.Timeout(10, read=read_timeout_seconds))
    try:
        yield StripeClient(api_key, base_addresses={"api": url}, max_network_retries=0, http_client=http)
    finally:
        await http.close_async()  # type: ignore[no-untyped-call]


def http_at(url: str) -> httpx.AsyncClient:
    """Give a plain client with the merchant's key as the user of basic auth, as curl sends it."""
    return httpx.AsyncClient(base_url=url, trust_env=False, verify=False, timeout=10, auth=(KEY, ""))


async def create(http: httpx.AsyncClient, key: str | None = None, **changes: str) -> httpx.Response:
    """Ask for an intent and return the answer as it came."""
    return await http.post(INTENTS, data=FORM | changes, headers={} if key is None else {"Idempotency-Key": key})


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens on the other side; the test's own timeout ends a wait in vain."""
    while not condition():  # noqa: ASYNC110 - the event is in another process
        await asyncio.sleep(0.01)
