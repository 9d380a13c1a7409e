"""Each promise of this folder is kept by every store: in memory, in fakeredis and in both real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from breaker import Store
from tests.contract.circuit import Circuit
from tests.support.redis_servers import KINDS
from tests.support.stores import ManualClock, open_store


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest_asyncio.fixture(params=["memory", "fake", *KINDS])
async def store(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Store]:
    """One of the stores, empty, on the test's clock."""
    url = request.getfixturevalue(f"{request.param}_url") if request.param in KINDS else None
    async with open_store(request.param, clock, url) as opened:
        yield opened


@pytest.fixture
def circuit(store: Store, clock: ManualClock) -> Circuit:
    """A circuit with threshold 3, cooldown 30 s, one probe, lease 5 s."""
    return Circuit(store, clock)
