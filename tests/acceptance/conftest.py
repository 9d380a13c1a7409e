from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import LocalRun, local_run
from tests.support.system import System

SETTINGS = {
    "SWITCHGEAR_BREAKER_COOLDOWN_SECONDS": "2",
    # A provider that answers slowly on purpose must not fail for want of a processor.
    "SWITCHGEAR_PROVIDER_TIMEOUT_SECONDS": "8",
    "SWITCHGEAR_REQUEST_DEADLINE_SECONDS": "20",
}


@pytest.fixture(scope="session")
def fleet() -> Iterator[LocalRun]:
    """One whole system for all tests of a run; whoever only looks at it may share it as it is."""
    with local_run(**SETTINGS) as run:
        yield run


@pytest.fixture
def system(fleet: LocalRun) -> System:
    """The whole system with a healthy provider and no circuit that remembers anything."""
    system = System(fleet)
    system.start_over()
    return system
