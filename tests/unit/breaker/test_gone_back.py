"""Answers from before what is known: of a store that was taken back, or overtaken by a message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from breaker import BreakerConfig, CircuitBreaker, Consecutive, Consistency, FailureRate, Mode, Override, State
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


async def late_answer(store: TellingStore, breaker: CircuitBreaker) -> None:
    """Let the answer to a question come after the message of a reset, and after a success in the new generation."""
    really, may_arrive = store.acquire, asyncio.Event()

    async def held_back(*args: Any, **options: Any) -> Any:
        store.acquire = really  # type: ignore[method-assign]
        reply = await really(*args, **options)
        await may_arrive.wait()
        return reply

    store.acquire = held_back  # type: ignore[method-assign]
    asking = asyncio.ensure_future(breaker.call(works))
    await asyncio.sleep(0)
    await store.control("c", RESET)
    await breaker.call(works)
    may_arrive.set()
    assert await asking == "charged"


async def test_an_answer_that_is_only_late_takes_nothing_away(store: TellingStore) -> None:
    """The copy stays fresh, and what was gathered in the new generation is told."""
    policy = FailureRate(threshold=0.5, minimum_calls=4)
    breaker = CircuitBreaker("c", store, BreakerConfig(policy=policy, flush_seconds=3600))
    await breaker.call(works)
    a_while = Override(mode=Mode.METRICS_ONLY, reason="r", actor="anna", duration_ms=60_000)
    await store.control("c", a_while)
    await late_answer(store, breaker)
    assert breaker._circuit.permit is not None
    await fail(breaker)
    view = await store.snapshot("c")
    assert view is not None
    assert (view.failures, view.calls) == (1, 2)


async def test_an_answer_that_is_only_late_is_not_what_is_known(store: TellingStore) -> None:
    """A message has told of a trip; the question that was asked before it was answered with yes."""
    breaker = CircuitBreaker("c", store, BreakerConfig(policy=Consecutive(1)))
    circuit = breaker._circuit
    await breaker.call(works)
    asked_at = circuit.mirror.newest
    before = await store.acquire("c", "before", circuit.limits, "api-1")
    other = CircuitBreaker("c", store, BreakerConfig(policy=Consecutive(1)))
    await fail(other)
    assert breaker.status.state is State.OPEN
    circuit.answered("before", before, asked_at)
    assert breaker.status.state is State.OPEN
