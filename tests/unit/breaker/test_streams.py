"""Streams: admitted with the first item, settled at the end, given back when nobody wanted an item."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from breaker import (
    BreakerConfig,
    CallNotPermittedError,
    CallTimeoutError,
    CircuitBreaker,
    Consecutive,
    MemoryStore,
    State,
)
from tests.support.replica import ProviderDownError, fails
from tests.support.stores import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    """An empty store."""
    return MemoryStore(clock)


def breaker_on(store: MemoryStore, *, timeout_seconds: float = 4) -> CircuitBreaker:
    """Make a breaker that trips at the first failure."""
    config = BreakerConfig(policy=Consecutive(1), cooldown_seconds=5, call_timeout_seconds=timeout_seconds)
    return CircuitBreaker("c", store, config)


async def state(store: MemoryStore) -> tuple[State, int]:
    """Read the circuit's state and how many probes are out."""
    view = await store.snapshot("c")
    assert view is not None
    return view.state, view.probes_out


async def half_open(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """Trip the circuit and let its cooldown pass."""
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    clock.advance(5)


async def numbers() -> AsyncIterator[int]:
    """Give three items."""
    for number in range(3):
        yield number


async def breaks_off() -> AsyncIterator[int]:
    """Give an item and fail."""
    yield 1
    raise ProviderDownError


async def never_gives() -> AsyncIterator[int]:
    """Give nothing, ever."""
    await asyncio.Event().wait()
    yield 1


async def test_a_stream_that_ends_is_a_success(store: MemoryStore, clock: ManualClock) -> None:
    """As the probe it closes the circuit, at its end and not before."""
    breaker = breaker_on(store)
    await half_open(breaker, clock)
    items = []
    async for item in breaker(numbers)():
        items.append(item)
        assert await state(store) == (State.HALF_OPEN, 1)
    assert items == [0, 1, 2]
    assert await state(store) == (State.CLOSED, 0)


async def test_a_stream_that_breaks_off_is_a_failure(store: MemoryStore) -> None:
    """Its error reaches the consumer, and the next stream is refused when its first item is asked for."""
    breaker = breaker_on(store)
    with pytest.raises(ProviderDownError):
        async for _ in breaker(breaks_off)():
            pass
    stream = breaker(numbers)()
    with pytest.raises(CallNotPermittedError):
        await anext(stream)


async def test_a_stream_that_nobody_asked_anything_takes_no_place(store: MemoryStore, clock: ManualClock) -> None:
    """Making a stream is not calling; closing it unused changes nothing."""
    breaker = breaker_on(store)
    await half_open(breaker, clock)
    stream = breaker(numbers)()
    await stream.aclose()  # type: ignore[attr-defined]
    assert await state(store) == (State.OPEN, 0)


async def test_a_stream_abandoned_before_its_first_item_gives_its_place_back(
    store: MemoryStore, clock: ManualClock
) -> None:
    """A consumer that is cancelled while it waits for the first item decides nothing."""
    breaker = breaker_on(store)
    await half_open(breaker, clock)
    waiting = asyncio.ensure_future(anext(breaker(never_gives)()))
    while (await state(store))[1] == 0:  # noqa: ASYNC110 - the other task goes on
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await state(store) == (State.HALF_OPEN, 0)


async def test_a_stream_left_after_an_item_has_shown_that_the_dependency_answers(
    store: MemoryStore, clock: ManualClock
) -> None:
    """A consumer that has seen enough closes a recovering circuit."""
    breaker = breaker_on(store)
    await half_open(breaker, clock)
    stream = breaker(numbers)()
    assert await anext(stream) == 0
    await stream.aclose()  # type: ignore[attr-defined]
    await breaker.aclose()
    assert await state(store) == (State.CLOSED, 0)


async def test_an_item_that_does_not_come_in_time_is_a_failure(store: MemoryStore) -> None:
    """The call timeout bounds the wait for each item."""
    breaker = breaker_on(store, timeout_seconds=0.01)
    with pytest.raises(CallTimeoutError):
        await anext(breaker(never_gives)())
    assert (await state(store))[0] is State.OPEN


async def test_a_streams_own_timeout_stays_its_own(store: MemoryStore) -> None:
    """A `TimeoutError` of the stream's is a failure and reaches the consumer as it is."""
    breaker = breaker_on(store)

    @breaker
    async def times_out() -> AsyncIterator[int]:
        yield 1
        raise TimeoutError("theirs")

    with pytest.raises(TimeoutError, match="theirs"):
        async for _ in times_out():
            pass
    assert (await state(store))[0] is State.OPEN


async def test_a_guarded_stream_keeps_its_name(store: MemoryStore) -> None:
    """The decorator leaves name and docstring."""
    assert breaker_on(store)(numbers).__name__ == "numbers"


async def test_a_method_that_streams_can_be_guarded(store: MemoryStore) -> None:
    """The decorated function binds like any other."""

    class Provider:
        @breaker_on(store)
        async def numbers(self, last: int) -> AsyncIterator[int]:
            """Give numbers."""
            yield last

    assert [item async for item in Provider().numbers(7)] == [7]


async def test_what_a_consumer_throws_in_reaches_the_stream_and_is_no_failure(store: MemoryStore) -> None:
    """A guarded generator makes a context manager: its body's error rolls back, and says nothing of the dependency."""
    breaker = breaker_on(store)
    log = []

    @breaker
    async def transaction() -> AsyncIterator[str]:
        try:
            yield "open"
        except ValueError:
            log.append("rolled back")
            raise
        finally:
            log.append("closed")

    async def work() -> None:
        async with asynccontextmanager(transaction)() as opened:
            log.append(opened)
            raise ValueError("the body's")

    with pytest.raises(ValueError, match="the body's"):
        await work()
    assert log == ["open", "rolled back", "closed"]
    assert await state(store) == (State.CLOSED, 0)


async def test_a_stream_that_makes_an_error_of_its_own_out_of_it_has_failed(store: MemoryStore) -> None:
    """What comes out is the dependency's then."""
    breaker = breaker_on(store)

    async def turns_it_into_another() -> AsyncGenerator[int, None]:
        try:
            yield 1
        except ValueError as error:
            raise ProviderDownError from error

    stream = breaker(turns_it_into_another)()
    assert isinstance(stream, AsyncGenerator)
    await anext(stream)
    with pytest.raises(ProviderDownError):
        await stream.athrow(ValueError())
    assert await state(store) == (State.OPEN, 0)


async def test_what_a_consumer_sends_reaches_the_stream(store: MemoryStore) -> None:
    """A guarded generator can be talked to like any other, and may swallow what is thrown in."""
    breaker = breaker_on(store)

    async def doubles() -> AsyncGenerator[int, int]:
        number = 0
        while True:
            try:
                number = 2 * (yield number)
            except ValueError:
                number = -1

    stream = breaker(doubles)()
    assert isinstance(stream, AsyncGenerator)
    assert await anext(stream) == 0
    assert await stream.asend(21) == 42
    assert await stream.athrow(ValueError()) == -1
    await stream.aclose()
    assert await state(store) == (State.CLOSED, 0)


@pytest.mark.parametrize("timeout_seconds", [4, None])
async def test_a_probe_that_streams_for_longer_than_its_lease_closes_the_circuit(
    store: MemoryStore, clock: ManualClock, timeout_seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has shown enough by an item after which the next one may come too late."""
    config = BreakerConfig(
        policy=Consecutive(1), cooldown_seconds=5, call_timeout_seconds=timeout_seconds, lease_seconds=6
    )
    breaker = CircuitBreaker("c", store, config)
    await half_open(breaker, clock)
    loop = asyncio.get_running_loop()
    really = loop.time
    states = []
    stream = breaker(numbers)()
    async for _ in stream:
        states.append((await state(store))[0])
        passed = 3.1 * len(states)
        monkeypatch.setattr(loop, "time", lambda passed=passed: really() + passed)
        clock.advance(3.1)
    assert states == [State.HALF_OPEN, State.CLOSED, State.CLOSED]


async def test_a_probe_whose_consumer_is_busy_closes_the_circuit_before_its_lease_may_lapse(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise consumers that take longer for an item than a lease lasts would keep a healthy circuit half-open."""
    breaker = breaker_on(store)
    await half_open(breaker, clock)
    stream = breaker(numbers)()
    assert await anext(stream) == 0
    assert await state(store) == (State.HALF_OPEN, 1)
    loop = asyncio.get_running_loop()
    really = loop.time
    monkeypatch.setattr(loop, "time", lambda: really() + 1.1)
    while (await state(store))[0] is State.HALF_OPEN:  # noqa: ASYNC110 - a timer goes off
        await asyncio.sleep(0.001)
    assert await state(store) == (State.CLOSED, 0)
    assert [item async for item in stream] == [1, 2]


async def test_a_probe_that_breaks_off_while_its_lease_lasts_has_failed(store: MemoryStore, clock: ManualClock) -> None:
    """One item is no success yet where its consumer comes back for the next one in time."""
    breaker = breaker_on(store)
    await half_open(breaker, clock)
    stream = breaker(breaks_off)()
    await anext(stream)
    await asyncio.sleep(0)
    with pytest.raises(ProviderDownError):
        await anext(stream)
    assert await state(store) == (State.OPEN, 0)
