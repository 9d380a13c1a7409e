from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from stripe import StripeClient

from tests.integration.sandbox.talk import http_at, stripe_at
from tests.support.sandbox import Sandbox


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's proxy out of it: everything here is on the loopback interface."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest_asyncio.fixture
async def stripe(sandbox: Sandbox) -> AsyncIterator[StripeClient]:
    """Give the official SDK, pointed at the sandbox."""
    async with stripe_at(sandbox.url) as client:
        yield client


@pytest_asyncio.fixture
async def http(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    """Give plain HTTP, for what the SDK hides."""
    async with http_at(sandbox.url) as client:
        yield client
