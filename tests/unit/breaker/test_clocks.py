"""Which clock a replica goes by."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The time of day is replaced before anybody can take hold of it.
_SET = """
import asyncio, sys, time
read, ahead_seconds = time.time, 0
time.time = lambda: read() + ahead_seconds
from breaker import CallNotPermittedError, CircuitBreaker
from tests.support.replica import ProviderDownError, fails, works
from tests.support.stores import ManualClock
from tests.support.telling_store import TellingStore

async def main():
    global ahead_seconds
    store = TellingStore(ManualClock())
    breaker = CircuitBreaker("c", store)
    await breaker.call(works)
    store.is_away = sys.argv[1] == "away"
    for _ in range(3):
        try:
            await breaker.call(fails)
        except ProviderDownError:
            pass
    for ahead_seconds in (86400, -86400):
        try:
            await breaker.call(works)
        except CallNotPermittedError as refused:
            print(20 < refused.retry_after_seconds <= 30)
    print(store.is_away or len(store.asked) == 1)

asyncio.run(main())
"""


@pytest.mark.parametrize("store", ["there", "away"])
def test_a_time_of_day_that_is_set_moves_no_cooldown(store: str) -> None:
    """A host whose clock is corrected refuses for as long as before, by its copy and by its own circuit."""
    told = subprocess.run([sys.executable, "-c", _SET, store], timeout=40, check=True, capture_output=True, text=True)
    assert told.stdout.split() == ["True", "True", "True"], "two refusals, and by the copy nobody was asked"
