"""Failures count as a run only while no call succeeds in between, whenever the calls began."""

from __future__ import annotations

import asyncio

import pytest

from breaker import BreakerConfig, CircuitBreaker, Consecutive, Consistency, State
from tests.support.replica import ProviderDownError
from tests.support.stores import ManualClock
from tests.support.telling_store import TellingStore


@pytest.mark.parametrize("consistency", Consistency)
async def test_calls_that_overlap_trip_by_a_real_run_only(consistency: Consistency) -> None:
    """Twelve calls begin together; failures that successes part are none in a row, three without one are."""
    store = TellingStore(ManualClock())
    breaker = CircuitBreaker("c", store, BreakerConfig(policy=Consecutive(3), consistency=consistency))
    gates = [asyncio.Event() for _ in range(12)]

    async def call(gate: asyncio.Event, *, fails: bool) -> None:
        await gate.wait()
        if fails:
            raise ProviderDownError

    async def end(number: int) -> None:
        gates[number].set()
        await asyncio.wait([calls[number]])
        await breaker._link.drain()

    ends = "F..F...F.FFF"
    calls = [
        asyncio.ensure_future(breaker.call(call, gate, fails=end == "F")) for gate, end in zip(gates, ends, strict=True)
    ]
    for number in range(11):
        await end(number)
    view = await store.snapshot("c")
    assert view is not None
    assert (view.state, view.failures) == (State.CLOSED, 2)
    await end(11)
    assert breaker.status.state is State.OPEN
    await asyncio.gather(*calls, return_exceptions=True)
