"""A store for threads on a clock that the test moves."""

from __future__ import annotations

import pytest

from tests.support.stores import ManualClock
from tests.unit.breaker.sync.support import TellingStore


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> TellingStore:
    """A store on that clock."""
    return TellingStore(clock)
