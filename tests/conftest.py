"""What every test shares: real servers on free ports, started when the first test asks for them."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = [
    "tests.support.valkey",
    "tests.support.redis_servers",
    "tests.support.postgres",
    "tests.support.sandbox",
]


class _AcceptanceInOneWorker(LoadScopeScheduling):  # type: ignore[misc]
    """Shares tests out one by one, but those of the whole system to one worker: each worker would start its own."""

    def _split_scope(self, nodeid: str) -> str:
        return "acceptance" if "/acceptance/" in nodeid else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Choose who runs what when tests run in parallel."""
    return _AcceptanceInOneWorker(config, log)
