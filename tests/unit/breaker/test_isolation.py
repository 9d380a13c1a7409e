"""A quorum: one sick replica cannot trip the fleet, stays away by itself, and is named."""

from __future__ import annotations

from typing import Any

import pytest

from breaker import (
    BreakerConfig,
    BreakerEvent,
    CallNotPermittedError,
    CircuitBreaker,
    Consecutive,
    EventKind,
    FailureRate,
    Reason,
    State,
    View,
)
from tests.support.replica import ProviderDownError, fails, works
from tests.support.stores import ManualClock
from tests.support.telling_store import TellingStore

QUORUM = BreakerConfig(policy=Consecutive(3), minimum_reporters=2, cooldown_seconds=10)


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the store and of every replica."""
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> TellingStore:
    """An empty store."""
    return TellingStore(clock)


def replica(store: TellingStore, name: str, config: BreakerConfig = QUORUM, **options: Any) -> CircuitBreaker:
    """Make a replica on the store's clock."""
    breaker = CircuitBreaker("c", store, config, replica_id=name, **options)
    assert breaker._circuit.isolation is not None
    breaker._circuit.isolation._clock = breaker._circuit.mirror._clock = store._clock
    breaker._circuit.isolation.end()
    return breaker


async def fail(breaker: CircuitBreaker, times: int) -> None:
    """Let calls fail."""
    for _ in range(times):
        with pytest.raises(ProviderDownError):
            await breaker.call(fails)


async def seen(store: TellingStore) -> View:
    """Read the circuit."""
    view = await store.snapshot("c")
    assert view is not None
    return view


async def test_a_replica_that_fails_alone_stays_away_by_itself(store: TellingStore) -> None:
    """The fleet's circuit stays closed, the outlier is named and refuses, the others go on."""
    events: list[BreakerEvent] = []
    sick, healthy = replica(store, "sick", listeners=[events.append]), replica(store, "healthy")
    await fail(sick, 3)
    with pytest.raises(CallNotPermittedError) as refused:
        await sick.call(works)
    assert (refused.value.reason, refused.value.retry_after_seconds) == (Reason.OUTLIER, 10)
    peeked = await sick.peek()
    assert peeked is not None
    assert peeked.reason is Reason.OUTLIER
    assert await healthy.call(works) == "charged"
    view = await seen(store)
    assert (view.state, view.outlier) == (State.CLOSED, "sick")
    assert sick.status.isolated
    assert not healthy.status.isolated
    assert [event.kind for event in events] == [EventKind.OUTLIER, EventKind.REFUSED]


async def test_an_outlier_that_has_recovered_is_named_no_longer(store: TellingStore, clock: ManualClock) -> None:
    """After the cooldown one call of the outlier finds out; its success ends the isolation everywhere."""
    sick = replica(store, "sick")
    await fail(sick, 3)
    clock.advance(10)
    assert await sick.peek() is None
    await fail(sick, 1)
    with pytest.raises(CallNotPermittedError):
        await sick.call(works)
    clock.advance(10)
    assert await sick.call(works) == "charged"
    assert not sick.status.isolated
    view = await seen(store)
    assert (view.outlier, view.failures) == ("", 0)
    assert await sick.call(works) == "charged"


async def test_two_replicas_that_fail_trip_the_fleet(store: TellingStore) -> None:
    """With the second reporter the shared circuit opens, and isolation gives way to it."""
    first, second = replica(store, "first"), replica(store, "second")
    await second.call(works)
    await fail(first, 3)
    assert first.status.isolated
    await fail(second, 1)
    assert (await seen(store)).state is State.OPEN
    assert not first.status.isolated
    for breaker in (first, second):
        with pytest.raises(CallNotPermittedError) as refused:
            await breaker.call(works)
        assert refused.value.reason is Reason.OPEN


async def test_a_success_in_between_ends_a_replicas_own_run(store: TellingStore) -> None:
    """Failures of this replica that others' successes have reset are in a row only if its own calls were."""
    sick, healthy = replica(store, "sick"), replica(store, "healthy")
    await fail(sick, 2)
    await healthy.call(works)
    await store.tell("c")
    await sick.call(works)
    await fail(sick, 2)
    assert not sick.status.isolated
    await fail(sick, 1)
    assert sick.status.isolated


async def test_a_report_that_trips_the_fleet_isolates_nobody(store: TellingStore) -> None:
    """A replica's own third failure in a row is also the fleet's: the shared circuit opens, and no isolation begins."""
    first, second, healthy = replica(store, "first"), replica(store, "second"), replica(store, "healthy")
    await fail(first, 2)
    await healthy.call(works)
    await fail(second, 2)
    await fail(first, 1)
    assert store.reports[-1].alone
    assert (await seen(store)).state is State.OPEN
    assert not first.status.isolated


async def test_a_lost_report_isolates_nobody(store: TellingStore) -> None:
    """While the store is away the local layer guards, and nobody knows who is alone."""
    sick = replica(store, "sick")
    await fail(sick, 2)
    store.is_away = True
    await fail(sick, 1)
    assert not sick.status.isolated


async def test_without_the_store_a_healthy_replica_goes_on(store: TellingStore) -> None:
    """The local layer hears of failures only; a quorum's wish to hear of successes too is none of its own."""
    alone = replica(store, "alone")
    store.is_away = True
    for _ in range(3):
        assert await alone.call(works) == "charged"
        await fail(alone, 1)
        assert await alone.call(works) == "charged"
    assert not alone.status.isolated


async def test_a_rate_names_its_outlier_too(store: TellingStore, clock: ManualClock) -> None:
    """With a failure rate the replica's own window decides."""
    policy = FailureRate(threshold=0.5, minimum_calls=4)
    config = BreakerConfig(policy=policy, minimum_reporters=2, cooldown_seconds=10)
    sick = replica(store, "sick", config)
    await sick.call(works)
    await sick.call(works)
    await fail(sick, 2)
    assert sick.status.isolated
    assert (await seen(store)).outlier == "sick"
    clock.advance(10)
    assert await sick.call(works) == "charged"
    assert (await seen(store)).outlier == ""
