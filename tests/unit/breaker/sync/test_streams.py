"""Streams of threads: one guarded call each, from the first item to the end."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from breaker import (
    BreakerConfig,
    CallNotPermittedError,
    Outcome,
    State,
)
from breaker.sync import CircuitBreaker
from tests.support.stores import ManualClock
from tests.unit.breaker.sync.support import (
    CONFIG,
    NAME,
    ProviderDownError,
    TellingStore,
    fail,
    fails,
    half_open,
    state_of,
    works,
)


def test_a_stream_that_is_called_wrongly_settles_its_permit(store: TellingStore, clock: ManualClock) -> None:
    """Its arguments are looked at when its first item is asked for, so the place of a probe must not be lost for it."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    half_open(breaker, store, clock)
    stream: Any = breaker(numbers)
    with pytest.raises(TypeError, match="until"):
        next(stream())
    view = store.snapshot(NAME)
    assert view is not None
    assert (view.state, view.last_error) == (State.OPEN, "TypeError")


def numbers(*, until: int) -> Iterator[int]:
    """Count, and say what was sent in between."""
    sent: list[object] = []
    for number in range(until):
        try:
            sent.append((yield number))
        except ValueError as error:
            sent.append(error)
    return sent  # type: ignore[return-value] # a generator's own result


def test_a_stream_passes_everything_through_and_is_settled_at_its_end(store: TellingStore) -> None:
    """Items, what is sent and thrown in, and the result; asked for with the first item only."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    stream: Any = breaker(numbers)(until=4)
    assert not store.asked
    assert next(stream) == 0
    assert stream.send("hello") == 1
    thrown = ValueError("thrown in")
    assert stream.throw(thrown) == 2
    assert next(stream) == 3
    with pytest.raises(StopIteration) as end:
        next(stream)
    assert end.value.value == ["hello", thrown, None, None]


def test_a_stream_that_breaks_off_is_a_failure(store: TellingStore) -> None:
    """What it raises comes out and counts, and an open circuit refuses the next one at its first item."""
    breaker = CircuitBreaker(NAME, store, CONFIG)

    @breaker
    def broken() -> Iterator[int]:
        """Break off after the first item."""
        yield 1
        raise ProviderDownError

    for _ in range(3):
        with pytest.raises(ProviderDownError):
            list(broken())
    with pytest.raises(CallNotPermittedError):
        next(iter(broken()))


@pytest.mark.parametrize("thrown", [ProviderDownError, KeyboardInterrupt])
def test_what_a_consumer_throws_in_and_gets_back_is_its_own(store: TellingStore, thrown: type[BaseException]) -> None:
    """As where a generator is a transaction and its block fails: the dependency had answered."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    breaker.call(works)

    @contextmanager
    @breaker
    def transaction() -> Iterator[int]:
        """Begin, and pass on what the block raises."""
        yield 1

    for _ in range(3):
        with pytest.raises(thrown), transaction():
            raise thrown
    assert not store.reports


def test_what_a_stream_makes_of_what_is_thrown_in_is_a_failure(store: TellingStore) -> None:
    """And so is what it raises later by itself."""
    breaker = CircuitBreaker(NAME, store, CONFIG)

    @breaker
    def fragile() -> Generator[int, None, None]:
        """Break off when something is thrown in, and at the end."""
        with contextlib.suppress(ValueError):
            yield 1
        try:
            yield 2
        except ValueError as error:
            raise ProviderDownError from error
        fails()

    for last in (lambda stream: stream.throw(ValueError), next):
        stream = fragile()
        assert [next(stream), stream.throw(ValueError)] == [1, 2]
        with pytest.raises(ProviderDownError):
            last(stream)
    assert [report.outcome for report in store.reports] == [Outcome.FAILURE] * 2


@pytest.mark.parametrize("timeout_seconds", [4, None])
def test_a_probe_that_streams_for_longer_than_its_lease_closes_the_circuit(
    store: TellingStore, clock: ManualClock, timeout_seconds: float | None
) -> None:
    """It has shown enough by an item after which the next one may come too late; what follows is no probe's matter."""
    config = BreakerConfig(cooldown_seconds=30, call_timeout_seconds=timeout_seconds, lease_seconds=6)
    breaker = CircuitBreaker(NAME, store, config)
    half_open(breaker, store, clock)

    @breaker
    def endless() -> Iterator[int]:
        """Break off after the third item."""
        yield from range(3)
        fails()

    stream, states = endless(), []
    for _ in range(3):
        next(stream)
        states.append(state_of(store))
        clock.advance(3.1)
        store.planted.seconds += 3.1
    assert states == [State.HALF_OPEN, State.CLOSED, State.CLOSED]
    with pytest.raises(ProviderDownError):
        next(stream)
    assert state_of(store) is State.CLOSED


def test_a_consumer_that_goes_away_has_seen_an_answer(store: TellingStore) -> None:
    """The stream is closed at once; its success is told by the timers, since this may be a finalizer."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    fail(breaker, 1)
    closed: list[bool] = []

    @breaker
    def stream() -> Iterator[int]:
        """Note that it was closed."""
        try:
            yield 1
        finally:
            closed.append(True)

    for item in stream():
        assert item == 1
        break
    assert closed
    assert len(store.reports) == 1
    store.planted.advance()
    view = store.snapshot(NAME)
    assert view is not None
    assert view.failures == 0


def test_what_a_stream_raises_while_it_is_closed_comes_out(store: TellingStore) -> None:
    """As without a guard; the permit is settled all the same."""
    breaker = CircuitBreaker(NAME, store, CONFIG)

    @breaker
    def stream() -> Generator[int, None, None]:
        """Fail at the end."""
        try:
            yield 1
        finally:
            fails()

    opened = stream()
    assert next(opened) == 1
    with pytest.raises(ProviderDownError):
        opened.close()


def test_a_probe_whose_consumer_is_busy_closes_the_circuit_before_its_lease_may_lapse(
    store: TellingStore, clock: ManualClock
) -> None:
    """Otherwise consumers that take longer for an item than a lease lasts would keep a healthy circuit half-open."""
    config = BreakerConfig(cooldown_seconds=30, call_timeout_seconds=4, lease_seconds=6)
    breaker = CircuitBreaker(NAME, store, config)
    half_open(breaker, store, clock)
    stream = breaker(numbers)(until=4)
    assert [next(stream), next(stream)] == [0, 1]
    store.planted.advance(1.9)
    assert state_of(store) is State.HALF_OPEN
    store.planted.advance(0.2)
    assert state_of(store) is State.CLOSED
    assert list(stream) == [2, 3]


def test_a_probe_that_is_waited_for_is_not_settled_by_the_item_before(store: TellingStore, clock: ManualClock) -> None:
    """While the dependency has the next item to give, it alone says whether it is well."""
    config = BreakerConfig(cooldown_seconds=30, call_timeout_seconds=4, lease_seconds=6)
    breaker = CircuitBreaker(NAME, store, config)
    half_open(breaker, store, clock)

    @breaker
    def breaks_off() -> Iterator[int]:
        """Take a while for the second item, and then break off."""
        yield 0
        store.planted.advance(2.1)
        fails()

    stream = breaks_off()
    next(stream)
    with pytest.raises(ProviderDownError):
        next(stream)
    assert state_of(store) is State.OPEN
