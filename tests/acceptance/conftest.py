from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import LocalRun, local_run
from tests.support.system import System

COOLDOWN_SECONDS = "2"


@pytest.fixture(scope="session")
def fleet() -> Iterator[LocalRun]:
    """One whole system for all tests of a run; whoever only looks at it may share it as it is."""
    with local_run(SWITCHGEAR_BREAKER_COOLDOWN_SECONDS=COOLDOWN_SECONDS) as run:
        yield run


@pytest.fixture
def system(fleet: LocalRun) -> System:
    """The whole system with a healthy provider and no circuit that remembers anything."""
    system = System(fleet)
    system.start_over()
    return system
