"""Every promise of this folder is kept in one process and by three, in both consistencies, on both kinds of server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from breaker import Consistency
from tests.conformance.fleet import Fleet
from tests.conformance.worker import Pool
from tests.support.redis_servers import KINDS, RedisServer


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Processes that wait to be replicas."""
    waiting = Pool()
    yield waiting
    waiting.close()


@pytest.fixture(params=["one_process", "processes"])
def shape(request: pytest.FixtureRequest) -> Pool | None:
    """Where the replicas run: all in the test's own process, or each in one of its own."""
    chosen: Pool | None = None if request.param == "one_process" else request.getfixturevalue("pool")
    return chosen


@pytest.fixture(params=list(Consistency), ids=str)
def consistency(request: pytest.FixtureRequest) -> Consistency:
    """How far replicas rely on their own copies."""
    chosen: Consistency = request.param
    return chosen


@pytest_asyncio.fixture
async def fleet(empty_server_url: str, consistency: Consistency, shape: Pool | None) -> AsyncIterator[Fleet]:
    """A fleet on an empty server."""
    started = Fleet(empty_server_url, consistency, shape)
    yield started
    await started.close()


@pytest.fixture(params=KINDS)
def server_kind(request: pytest.FixtureRequest) -> str:
    """What kind of server the test has for itself."""
    kind: str = request.param
    return kind


@pytest.fixture
def own_server(server_kind: str) -> Iterator[RedisServer]:
    """A server that the test starts, and may freeze or kill."""
    server = RedisServer(server_kind)
    yield server
    server.close()


@pytest_asyncio.fixture
async def fleet_of_its_own(
    own_server: RedisServer, consistency: Consistency, shape: Pool | None
) -> AsyncIterator[Fleet]:
    """A fleet on that server."""
    started = Fleet(own_server.url, consistency, shape)
    yield started
    await started.close()
