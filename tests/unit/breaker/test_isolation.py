"""A quorum: one sick replica cannot trip the fleet, stays away by itself, and is named."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from breaker import (
    BreakerConfig,
    BreakerEvent,
    CallNotPermittedError,
    CircuitBreaker,
    Consecutive,
    Consistency,
    EventKind,
    FailureRate,
    Mode,
    OpenFor,
    Override,
    Reason,
    State,
    View,
)
from tests.support.replica import ProviderDownError, fails, until, works
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
    """While the store is away the local layer guards, and nobody knows who is alone; all begin anew after it."""
    sick = replica(store, "sick")
    await fail(sick, 2)
    store.is_away = True
    await fail(sick, 1)
    assert not sick.status.isolated
    store.is_away = False
    await fail(sick, 2)
    assert not sick.status.isolated
    await fail(sick, 1)
    assert sick.status.isolated


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


@pytest.mark.parametrize("mode", [Mode.FORCED_CLOSED, Mode.METRICS_ONLY, None])
async def test_an_operators_word_ends_the_isolation(store: TellingStore, mode: Mode | None) -> None:
    """A mode or a reset is for every replica, also for one that stays away by itself."""
    sick = replica(store, "sick")
    await fail(sick, 3)
    await store.control("c", Override(mode=mode, reason="it is well", actor="anna"))
    assert not sick.status.isolated
    assert await sick.call(works) == "charged"


async def test_a_forced_open_circuit_refuses_an_outlier_in_every_way(store: TellingStore, clock: ManualClock) -> None:
    """Its own probe is due, and is not made all the same."""
    sick = replica(store, "sick")
    await fail(sick, 3)
    clock.advance(10)
    await store.control("c", Override(mode=Mode.FORCED_OPEN, reason="keep away", actor="anna"))
    for attempt in (sick.call(works), sick.admit(), sick.__aenter__()):
        with pytest.raises(CallNotPermittedError) as refused:
            await attempt
        assert refused.value.reason is Reason.FORCED_OPEN


async def test_a_strict_outlier_asks_before_it_probes(store: TellingStore, clock: ManualClock) -> None:
    """The fleet's circuit has opened meanwhile, which no message told: the isolation gives way to it."""
    config = BreakerConfig(
        policy=Consecutive(3), minimum_reporters=2, cooldown_seconds=10, consistency=Consistency.STRICT
    )
    sick, other = replica(store, "sick", config), replica(store, "other", config)
    await fail(sick, 3)
    with pytest.raises(CallNotPermittedError) as refused:
        await sick.call(works)
    assert refused.value.reason is Reason.OUTLIER
    peeked = await sick.peek()
    assert peeked is not None
    assert peeked.reason is Reason.OUTLIER
    clock.advance(5)
    await fail(other, 1)
    clock.advance(5)
    with pytest.raises(CallNotPermittedError) as refused:
        await sick.call(works)
    assert refused.value.reason is Reason.OPEN
    assert not sick.status.isolated


async def test_an_outlier_stays_away_while_the_store_is_away(store: TellingStore) -> None:
    """What it knows of itself holds."""
    sick = replica(store, "sick")
    await fail(sick, 3)
    for _, see in store.followers:
        see(None)
    store.is_away = True
    with pytest.raises(CallNotPermittedError) as refused:
        await sick.call(works)
    assert refused.value.reason is Reason.OUTLIER
    peeked = await sick.peek()
    assert peeked is not None
    assert peeked.reason is Reason.OUTLIER


async def test_failures_of_many_calls_name_one_outlier_once(store: TellingStore) -> None:
    """They end together, and each of them alone would have isolated the replica."""
    events: list[BreakerEvent] = []
    sick = replica(store, "sick", listeners=[events.append])
    await sick.call(works)
    await asyncio.gather(*(sick.call(fails) for _ in range(10)), return_exceptions=True)
    assert [event.kind for event in events] == [EventKind.OUTLIER]
    assert sick.status.transitions == {"outlier": 1}


async def test_a_slow_call_that_isolates_keeps_its_own_end(store: TellingStore) -> None:
    """Counted as slow while it hung, it fails with a word of the dependency's: the circuit opens until then."""
    policy = FailureRate(minimum_calls=1, slow_call_seconds=0.001, slow_rate_threshold=0.5)
    sick = replica(
        store, "sick", BreakerConfig(policy=policy, minimum_reporters=2), classify_error=lambda _: OpenFor(60)
    )
    await sick.call(works)
    may_end = asyncio.Event()

    async def slow() -> None:
        await may_end.wait()
        raise ProviderDownError

    call = asyncio.ensure_future(sick.call(slow))
    await until(lambda: any(report.alone for report in store.reports))
    may_end.set()
    with pytest.raises(ProviderDownError):
        await call
    view = await seen(store)
    assert (view.state, view.retry_at_ms - view.now_ms) == (State.OPEN, 60_000)


@pytest.mark.parametrize("mode", [Mode.FORCED_CLOSED, Mode.METRICS_ONLY])
async def test_where_an_operator_decides_no_replica_isolates_itself(store: TellingStore, mode: Mode) -> None:
    """What fails while everything is let through makes no outlier, however often."""
    policy = FailureRate(minimum_calls=3)
    sick = replica(store, "sick", BreakerConfig(policy=policy, minimum_reporters=2))
    await sick.call(works)
    await store.control("c", Override(mode=mode, reason="it is well", actor="anna"))
    await fail(sick, 10)
    assert not sick.status.isolated
    assert await sick.call(works) == "charged"


async def test_a_report_that_arrives_under_an_operators_mode_isolates_nobody(store: TellingStore) -> None:
    """The call began before; the mode came while its failure was on its way."""
    sick = replica(store, "sick")
    await fail(sick, 2)
    store.paused = asyncio.Event()
    last = asyncio.ensure_future(sick.call(fails))
    await until(lambda: store.reports[-1].alone)
    await store.control("c", Override(mode=Mode.FORCED_CLOSED, reason="it is well", actor="anna"))
    store.paused.set()
    with pytest.raises(ProviderDownError):
        await last
    assert not sick.status.isolated
