"""A store that a failover or a restart has taken back, behind a connection that did not break."""

from __future__ import annotations

import asyncio

import pytest

from breaker import BreakerConfig, CircuitBreaker, Consecutive, Consistency, FailureRate, Override, State
from breaker._record import Record
from tests.support.replica import ProviderDownError, fails, works
from tests.support.stores import ManualClock
from tests.support.telling_store import TellingStore

RESET = Override(mode=None, reason="begins anew", actor="anna")


@pytest.fixture
def store() -> TellingStore:
    """An empty store."""
    return TellingStore(ManualClock())


async def taken_back(store: TellingStore, breaker: CircuitBreaker) -> Record:
    """Let the circuit come to a new generation, of which the store then knows nothing any more."""
    await breaker.call(works)
    before = store._records["c"]
    await store.control("c", RESET)
    if breaker.config.consistency is Consistency.MIRRORED:
        assert breaker._circuit.permit is not None
    await breaker.call(works)
    store._records["c"] = before
    return before


async def fail(breaker: CircuitBreaker) -> None:
    """Let a call fail."""
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)


@pytest.mark.parametrize("consistency", Consistency)
async def test_failures_count_in_the_generation_that_is_there(store: TellingStore, consistency: Consistency) -> None:
    """The first report finds out, and is made again; three of them trip as ever."""
    breaker = CircuitBreaker("c", store, BreakerConfig(policy=Consecutive(3), consistency=consistency))
    await taken_back(store, breaker)
    for _ in range(3):
        await fail(breaker)
    view = await store.snapshot("c")
    assert view is not None
    assert view.state is State.OPEN


async def test_the_copy_is_dropped_and_asked_for_anew(store: TellingStore) -> None:
    """Until it is read again every call asks, and the store is asked once to tell of the circuit again."""
    breaker = CircuitBreaker("c", store, BreakerConfig(policy=Consecutive(3)))
    await taken_back(store, breaker)
    await fail(breaker)
    assert len(store.followers) == 1
    await breaker.call(works)
    await breaker.call(works)
    assert len(store.followers) == 2


async def test_an_answer_from_before_what_is_known_drops_the_copy(store: TellingStore) -> None:
    """A refused call finds out as well: when its moment comes it asks, and the store knows nothing of the trip."""
    breaker = CircuitBreaker("c", store, BreakerConfig(policy=Consecutive(1), cooldown_seconds=30))
    await breaker.call(works)
    before = store._records["c"]
    await fail(breaker)
    store._records["c"] = before
    breaker._circuit.mirror._refused_until = 0.0
    assert await breaker.call(works) == "charged"
    assert breaker.status.state is State.CLOSED


@pytest.mark.parametrize("consistency", Consistency)
async def test_successes_of_a_rate_count_in_the_generation_that_is_there(
    store: TellingStore, consistency: Consistency
) -> None:
    """They are not held back for a generation that nobody knows any more, which would leave failures alone."""
    policy = FailureRate(threshold=0.5, minimum_calls=4)
    config = BreakerConfig(policy=policy, consistency=consistency, flush_seconds=3600)
    breaker = CircuitBreaker("c", store, config)
    await taken_back(store, breaker)
    if consistency is Consistency.MIRRORED:
        breaker._link._see(None)  # the connection broke
    for _ in range(6):
        await breaker.call(works)
    await fail(breaker)
    view = await store.snapshot("c")
    assert view is not None
    assert (view.state, view.failures, view.calls) == (State.CLOSED, 1, 7)
    await asyncio.wait_for(breaker.aclose(), 5)
