"""A failure rate over the fleet: what a replica gathers, when it tells, and what hangs."""

from __future__ import annotations

import asyncio
import math

import pytest

from breaker import (
    BreakerConfig,
    CallNotPermittedError,
    CircuitBreaker,
    Consistency,
    FailureRate,
    Mode,
    OpenFor,
    Outcome,
    Override,
    State,
)
from breaker._replica import Replica
from breaker._reports import Reports
from breaker._types import Report
from tests.support.replica import ProviderDownError, fails, until, works
from tests.support.stores import ManualClock
from tests.support.telling_store import TellingStore

NEVER_SECONDS = 3600.0


@pytest.fixture
def store() -> TellingStore:
    """An empty store."""
    return TellingStore(ManualClock())


def rated(
    store: TellingStore, *, slow_call_seconds: float | None = None, flush_seconds: float = NEVER_SECONDS
) -> CircuitBreaker:
    """Make a breaker that trips when half of six calls fail, or all of them are slow."""
    policy = FailureRate(threshold=0.5, minimum_calls=6, slow_call_seconds=slow_call_seconds)
    return CircuitBreaker("c", store, BreakerConfig(policy=policy, flush_seconds=flush_seconds), replica_id="api-1")


def told(store: TellingStore) -> list[tuple[Outcome, int, int, int]]:
    """Show what was reported."""
    return [(report.outcome, report.calls, report.failures, report.slow) for report in store.reports]


async def test_successes_wait_and_go_with_the_next_failure(store: TellingStore) -> None:
    """A healthy call reports nothing by itself; a failure takes along what waits, so the count is right at once."""
    breaker = rated(store)
    for _ in range(4):
        await breaker.call(works)
    assert told(store) == []
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    assert told(store) == [(Outcome.FAILURE, 5, 1, 0)]


async def test_successes_are_told_together_after_a_while(store: TellingStore) -> None:
    """What waits is flushed after `flush_seconds`, in one report."""
    breaker = rated(store, flush_seconds=0.001)
    for _ in range(3):
        await breaker.call(works)
    await until(lambda: bool(store.reports))
    assert told(store) == [(Outcome.SUCCESS, 3, 0, 0)]
    await breaker.call(works)
    await until(lambda: len(store.reports) == 2)


async def test_closing_a_breaker_tells_what_waits(store: TellingStore) -> None:
    """At the end of a process the last successes are counted."""
    breaker = rated(store)
    await breaker.call(works)
    await breaker.aclose()
    assert told(store) == [(Outcome.SUCCESS, 1, 0, 0)]
    await breaker.aclose()
    assert len(store.reports) == 1


async def test_the_half_of_the_calls_trips(store: TellingStore) -> None:
    """Three failures among six calls open the circuit, and the next call is refused."""
    breaker = rated(store)
    for outcome in (works, fails, works, fails, works, fails):
        try:
            await breaker.call(outcome)
        except ProviderDownError:
            continue
    with pytest.raises(CallNotPermittedError):
        await breaker.call(works)
    assert breaker.status.state is State.OPEN


async def test_successes_count_for_a_circuit_that_was_forgotten(store: TellingStore) -> None:
    """When the store lost the circuit, what waits begins it anew and is counted there."""
    breaker = rated(store)
    await breaker.call(works)
    store._records.clear()
    await breaker.aclose()
    view = await store.snapshot("c")
    assert view is not None
    assert view.calls == 1


def gathered() -> Reports:
    """What one replica gathers."""
    return Reports(Replica("api-1"))


def test_a_straggler_takes_no_waiting_success_with_it() -> None:
    """What belongs to an earlier generation is dropped, and what waits goes on waiting."""
    reports = gathered()
    reports.gather(7, slow=1)
    reports.gather(5)
    late = Report(permit_id="late", generation=5, outcome=Outcome.FAILURE, failures=1)
    assert reports.with_waiting(late) == late
    flushed = reports.flush()
    assert flushed is not None
    assert (flushed.generation, flushed.calls, flushed.slow) == (7, 1, 1)
    assert reports.flush() is None


def test_what_waits_from_an_earlier_generation_is_dropped() -> None:
    """It would be stale on arrival."""
    reports = gathered()
    reports.gather(5, slow=1)
    reports.gather(7)
    reports.gather(7)
    flushed = reports.flush()
    assert flushed is not None
    assert (flushed.calls, flushed.slow) == (2, 0)


@pytest.mark.parametrize("ends_well", [True, False])
async def test_a_call_is_counted_as_slow_while_it_hangs(store: TellingStore, ends_well: bool) -> None:
    """It is told before it ends, and its end adds no second call."""
    breaker = rated(store, slow_call_seconds=0.001, flush_seconds=0.001)
    may_end = asyncio.Event()

    async def slow() -> str:
        await may_end.wait()
        if not ends_well:
            raise ProviderDownError
        return "charged"

    call = asyncio.ensure_future(breaker.call(slow))
    await until(lambda: bool(store.reports))
    assert told(store) == [(Outcome.SUCCESS, 1, 0, 1)]
    may_end.set()
    if ends_well:
        assert await call == "charged"
        await breaker.aclose()
    else:
        with pytest.raises(ProviderDownError):
            await call
    view = await store.snapshot("c")
    assert view is not None
    assert (view.calls, view.failures, view.slow_calls) == (1, 0 if ends_well else 1, 1)


async def test_calls_that_hang_trip_the_circuit_before_they_end(store: TellingStore) -> None:
    """Six calls that hang open the circuit although none of them has ended."""
    breaker = rated(store, slow_call_seconds=0.001, flush_seconds=0.001)
    may_end = asyncio.Event()
    calls = [asyncio.ensure_future(breaker.call(may_end.wait)) for _ in range(6)]
    await until(lambda: breaker.status.state is State.OPEN)
    may_end.set()
    assert await asyncio.gather(*calls) == [True] * 6
    assert breaker.status.state is State.OPEN


async def test_a_probe_that_is_slow_has_failed(store: TellingStore) -> None:
    """The circuit opens again while the probe hangs; its result is returned and says nothing any more."""
    clock = store._clock
    assert isinstance(clock, ManualClock)
    policy = FailureRate(minimum_calls=1, slow_call_seconds=0.001)
    config = BreakerConfig(policy=policy, cooldown_seconds=5, consistency=Consistency.STRICT)
    breaker = CircuitBreaker("c", store, config)
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    clock.advance(5)
    may_end = asyncio.Event()
    probe = asyncio.ensure_future(breaker.call(may_end.wait))
    await until(lambda: len(store.reports) == 2)
    view = await store.snapshot("c")
    assert view is not None
    assert (view.state, view.last_error, view.reopens) == (State.OPEN, "SlowCall", 1)
    may_end.set()
    assert await probe
    assert len(store.reports) == 2


async def test_without_counting_nothing_is_slow(store: TellingStore) -> None:
    """While an operator forces the circuit closed, or the store is away, a call that hangs is not counted."""
    breaker = rated(store, slow_call_seconds=0.001, flush_seconds=0.001)
    store.is_away = True
    may_end = asyncio.Event()
    call = asyncio.ensure_future(breaker.call(may_end.wait))
    await asyncio.sleep(0.01)
    may_end.set()
    assert await call
    assert store.reports == []


async def test_an_answer_that_says_how_long_opens_until_then(store: TellingStore) -> None:
    """`OpenFor` from a classifier opens the circuit at once, for as long as it says."""

    def classify(error: Exception) -> Outcome | OpenFor:
        return OpenFor(17) if isinstance(error, ProviderDownError) else Outcome.FAILURE

    breaker = CircuitBreaker("c", store, classify_error=classify)
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    with pytest.raises(CallNotPermittedError) as refused:
        await breaker.call(works)
    assert 16.9 < refused.value.retry_after_seconds <= 17
    view = await store.snapshot("c")
    assert view is not None
    assert view.trip_reason == "rate limited"


async def test_a_result_may_say_how_long_as_well(store: TellingStore) -> None:
    """`OpenFor` from `classify_result` opens the circuit, and the result is returned all the same."""
    breaker = CircuitBreaker("c", store, classify_result=lambda _: OpenFor(0.5))
    assert await breaker.call(works) == "charged"
    with pytest.raises(CallNotPermittedError):
        await breaker.call(works)


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
async def test_a_time_that_is_none_is_just_a_failure(store: TellingStore, seconds: float) -> None:
    """A classifier that says nonsense about how long to stay away has its call counted as a plain failure."""
    breaker = CircuitBreaker("c", store, classify_error=lambda _: OpenFor(seconds))
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    view = await store.snapshot("c")
    assert view is not None
    assert (view.state, view.failures) == (State.CLOSED, 1)


async def test_slow_calls_of_two_replicas_make_a_quorum(store: TellingStore) -> None:
    """A replica whose calls hang has something to report, as one whose calls fail."""
    policy = FailureRate(minimum_calls=2, slow_call_seconds=0.001)
    config = BreakerConfig(policy=policy, minimum_reporters=2, flush_seconds=0.001)
    replicas = [CircuitBreaker("c", store, config, replica_id=name) for name in ("api-1", "api-2")]
    may_end = asyncio.Event()
    calls = [asyncio.ensure_future(replica.call(may_end.wait)) for replica in replicas]
    await until(lambda: replicas[0].status.state is State.OPEN)
    may_end.set()
    await asyncio.gather(*calls)


async def test_calls_that_hang_in_one_replica_only_make_it_the_outlier(store: TellingStore) -> None:
    """It stays away by itself while they hang."""
    policy = FailureRate(minimum_calls=2, slow_call_seconds=0.001)
    config = BreakerConfig(policy=policy, minimum_reporters=2, flush_seconds=NEVER_SECONDS)
    sick = CircuitBreaker("c", store, config, replica_id="sick")
    may_end = asyncio.Event()
    calls = [asyncio.ensure_future(sick.call(may_end.wait)) for _ in range(2)]
    await until(lambda: sick.status.isolated)
    view = await store.snapshot("c")
    assert view is not None
    assert (view.state, view.outlier, view.calls, view.slow_calls) == (State.CLOSED, "sick", 2, 2)
    may_end.set()
    await asyncio.gather(*calls)


async def test_slow_calls_trip_a_replica_that_is_on_its_own(store: TellingStore) -> None:
    """The store is away, and the same policy holds: calls are counted while they hang."""
    breaker = rated(store, slow_call_seconds=0.001)
    store.is_away = True
    may_end = asyncio.Event()
    calls = [asyncio.ensure_future(breaker.call(may_end.wait)) for _ in range(6)]
    await until(lambda: breaker._circuit.local.refusal() is not None)
    may_end.set()
    assert await asyncio.gather(*calls) == [True] * 6


async def test_what_an_operator_lets_through_is_not_slow(store: TellingStore) -> None:
    """Calls that nobody counts are not counted while they hang either."""
    breaker = rated(store, slow_call_seconds=0.001)
    await breaker.call(works)
    await store.control("c", Override(mode=Mode.FORCED_CLOSED, reason="it is well", actor="anna"))
    marked = []
    really = breaker._circuit.mark_slow
    breaker._circuit.mark_slow = lambda call: marked.append(really(call))  # type: ignore[method-assign]
    may_end = asyncio.Event()
    call = asyncio.ensure_future(breaker.call(may_end.wait))
    await until(lambda: bool(marked))
    may_end.set()
    await call
    assert marked == [None]
    assert not breaker._circuit.reports.are_waiting or breaker._circuit.reports._slow == 0
