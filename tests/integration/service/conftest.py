"""The use cases on a real database, and the whole service around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from service.database import Database
from service.payments.use_cases import Payments
from tests.support.fake_provider import FakeProvider
from tests.support.postgres import run_sql
from tests.support.service import open_database, serving, settings_for


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    """What was logged during the test."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def provider() -> FakeProvider:
    """A provider in memory."""
    return FakeProvider()


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The test's database."""
    database = open_database(database_url)
    yield database
    await database.aclose()


@pytest.fixture
def payments(database: Database, provider: FakeProvider) -> Payments:
    """The use cases of one replica, with no circuit in between."""
    return Payments(database, provider, deadline_seconds=5.0)


@pytest_asyncio.fixture
async def api(database_url: str, provider: FakeProvider) -> AsyncIterator[httpx.AsyncClient]:
    """A payer's client of the whole service."""
    async with serving(settings_for(database_url), provider) as (client, _):
        yield client


@pytest.fixture
def sql(database_url: str) -> Any:
    """Run SQL on the test's database, and give what it prints as lines."""

    def run(statement: str) -> list[str]:
        return run_sql(database_url, statement).splitlines()

    return run
