from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest

from breaker import (
    BreakerConfig,
    BreakerEvent,
    CallNotPermittedError,
    CallTimeoutError,
    CircuitBreaker,
    ConfigError,
    Consecutive,
    EventKind,
    MemoryStore,
    OpenFor,
    Outcome,
    State,
    StoreUnavailableError,
    sync,
)
from breaker._limits import Limits
from breaker._types import Permitted, Recorded, Refused, Report, Transition
from tests.support.stores import ManualClock

CONFIG = BreakerConfig(policy=Consecutive(3), cooldown_seconds=30, call_timeout_seconds=4)


class ProviderDownError(Exception):
    """What a sick dependency raises."""


async def works() -> str:
    """Succeed."""
    return "charged"


async def fails() -> str:
    """Fail as a sick dependency does."""
    raise ProviderDownError


async def hangs() -> str:
    """Never answer."""
    await asyncio.Event().wait()
    return "never"


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    """An in-memory store on that clock."""
    return MemoryStore(clock)


@pytest.fixture
def breaker(store: MemoryStore) -> CircuitBreaker:
    """A breaker with threshold 3 and cooldown 30 s."""
    return CircuitBreaker("stripe:create_intent", store, CONFIG, replica_id="api-1")


async def trip(breaker: CircuitBreaker) -> None:
    """Open the circuit by three failures."""
    for _ in range(3):
        with pytest.raises(ProviderDownError):
            await breaker.call(fails)


async def by_call(breaker: CircuitBreaker, function: Callable[[], Awaitable[str]]) -> str:
    """Guard by `call`."""
    return await breaker.call(function)


async def by_decorator(breaker: CircuitBreaker, function: Callable[[], Awaitable[str]]) -> str:
    """Guard by the decorator."""
    return await breaker(function)()


async def by_block(breaker: CircuitBreaker, function: Callable[[], Awaitable[str]]) -> str:
    """Guard by a block."""
    async with breaker:
        return await function()


every_spelling = pytest.mark.parametrize("guarded", [by_call, by_decorator, by_block])
Guarded = Callable[[CircuitBreaker, Callable[[], Awaitable[str]]], Awaitable[str]]


@every_spelling
async def test_a_result_comes_back_as_it_is(breaker: CircuitBreaker, guarded: Guarded) -> None:
    """Call, decorator and block give the guarded function's own result."""
    assert await guarded(breaker, works) == "charged"


@every_spelling
async def test_three_failures_open_and_the_fourth_call_is_not_made(breaker: CircuitBreaker, guarded: Guarded) -> None:
    """An open circuit refuses without calling, and says everything a caller needs."""
    called = 0

    async def counted() -> str:
        nonlocal called
        called += 1
        return await fails()

    for _ in range(3):
        with pytest.raises(ProviderDownError):
            await guarded(breaker, counted)
    with pytest.raises(CallNotPermittedError) as refused:
        await guarded(breaker, counted)
    assert called == 3
    error = refused.value
    assert (error.breaker, error.state, error.reason) == ("stripe:create_intent", State.OPEN, "open")
    assert (error.retry_after_seconds, error.last_error) == (30.0, "ProviderDownError")
    assert str(error) == "stripe:create_intent is open, last error ProviderDownError; retry in 30.0 s"


@every_spelling
async def test_a_hanging_call_is_ended_by_the_breaker(store: MemoryStore, guarded: Guarded) -> None:
    """The breaker's own timeout raises `CallTimeoutError`, which is a `TimeoutError`, and counts as a failure."""
    breaker = CircuitBreaker("c", store, BreakerConfig(policy=Consecutive(1), call_timeout_seconds=0.01))
    with pytest.raises(CallTimeoutError, match=r"no answer within 0\.01 s") as timeout:
        await guarded(breaker, hangs)
    assert isinstance(timeout.value, TimeoutError)
    seen = await store.snapshot("c")
    assert seen is not None
    assert (seen.state, seen.last_error) == (State.OPEN, "CallTimeoutError")


@every_spelling
async def test_cancellation_counts_as_nothing(store: MemoryStore, guarded: Guarded) -> None:
    """A client that goes away says nothing about the dependency, even with a threshold of one."""
    breaker = CircuitBreaker("c", store, BreakerConfig(policy=Consecutive(1)))
    for _ in range(5):
        task = asyncio.ensure_future(guarded(breaker, hangs))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await guarded(breaker, works) == "charged"
    seen = await store.snapshot("c")
    assert seen is not None
    assert (seen.state, seen.failures) == (State.CLOSED, 0)


async def test_after_the_cooldown_one_probe_closes(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """While the probe is out everybody else is refused; its success closes the circuit."""
    await trip(breaker)
    clock.advance(30)
    answer = asyncio.Event()

    async def probe() -> str:
        await answer.wait()
        return "ok"

    probing = asyncio.create_task(breaker.call(probe))
    await asyncio.sleep(0)
    others = await asyncio.gather(*(breaker.call(works) for _ in range(49)), return_exceptions=True)
    assert {type(other) for other in others} == {CallNotPermittedError}
    answer.set()
    assert await probing == "ok"
    assert await breaker.call(works) == "charged"


async def test_a_failed_probe_reopens(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """The probe's failure starts another cooldown."""
    await trip(breaker)
    clock.advance(30)
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    with pytest.raises(CallNotPermittedError) as refused:
        await breaker.call(works)
    assert refused.value.retry_after_seconds == 30.0


async def test_a_cancelled_probe_frees_its_place(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """The next caller may probe at once."""
    await trip(breaker)
    clock.advance(30)
    probing = asyncio.create_task(breaker.call(hangs))
    await asyncio.sleep(0)
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    assert await breaker.call(works) == "charged"


async def test_a_closed_coroutine_frees_its_place(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """A probe whose coroutine is closed rather than cancelled gives its place back without waiting."""
    await trip(breaker)
    clock.advance(30)

    @breaker
    async def probe() -> str:
        return await hangs()

    coroutine = probe()
    assert coroutine.__await__().send(None) is not None  # runs up to the hanging wait
    coroutine.close()  # type: ignore[attr-defined]
    await asyncio.gather(*breaker._link._tasks)
    assert await breaker.call(works) == "charged"


async def test_a_decline_never_counts(store: MemoryStore) -> None:
    """An exception that the classifier calls a success never opens the circuit."""

    class DeclinedError(Exception):
        """The payer's card was refused."""

    async def declines() -> str:
        raise DeclinedError

    def classify(error: Exception) -> Outcome:
        return Outcome.SUCCESS if isinstance(error, DeclinedError) else Outcome.FAILURE

    breaker = CircuitBreaker("c", store, BreakerConfig(policy=Consecutive(1)), classify_error=classify)
    for _ in range(5):
        with pytest.raises(DeclinedError):
            await breaker.call(declines)
    assert await breaker.call(works) == "charged"


async def test_a_result_may_be_a_failure(store: MemoryStore) -> None:
    """A returned value can count as a failure and is returned all the same."""
    breaker = CircuitBreaker(
        "c", store, BreakerConfig(policy=Consecutive(1)), classify_result=lambda _: Outcome.FAILURE
    )
    assert await breaker.call(works) == "charged"
    with pytest.raises(CallNotPermittedError):
        await breaker.call(works)


async def test_another_breakers_refusal_is_no_failure(store: MemoryStore, breaker: CircuitBreaker) -> None:
    """What was refused further in was not called, so it says nothing about this dependency."""
    await trip(breaker)
    outer = CircuitBreaker("outer", store, BreakerConfig(policy=Consecutive(1)))
    for _ in range(2):
        with pytest.raises(CallNotPermittedError) as refused:
            await outer.call(breaker.call, works)
        assert refused.value.breaker == "stripe:create_intent"


async def test_a_failing_classifier_harms_nobody(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    """Its error is logged; the call keeps its result and its exception, and counts as what it looks like."""

    def breaks(_: object) -> Outcome:
        raise RuntimeError

    breaker = CircuitBreaker(
        "c", store, BreakerConfig(policy=Consecutive(2)), classify_error=breaks, classify_result=breaks
    )
    assert await breaker.call(works) == "charged"
    for _ in range(2):
        with pytest.raises(ProviderDownError):
            await breaker.call(fails)
    with pytest.raises(CallNotPermittedError):
        await breaker.call(works)
    assert "classify_result failed" in caplog.text
    assert "classify_error failed" in caplog.text


async def test_the_record_keeps_the_word_that_describes_a_failure(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """What went wrong is told in the user's own word; if that fails, by the class name."""
    breaker = CircuitBreaker("c", store, CONFIG, describe_error=lambda _: "read_timeout")
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    seen = await store.snapshot("c")
    assert seen is not None
    assert seen.last_error == "read_timeout"

    def breaks(_: BaseException) -> str:
        raise RuntimeError

    with pytest.raises(ProviderDownError):
        await CircuitBreaker("c", store, CONFIG, describe_error=breaks).call(fails)
    seen = await store.snapshot("c")
    assert seen is not None
    assert seen.last_error == "ProviderDownError"
    assert "describe_error failed" in caplog.text


async def test_listeners_hear_what_happened_here(store: MemoryStore, clock: ManualClock) -> None:
    """Trip, refusal, half-open, reopen and close are told once each, by the replica where they happened."""
    heard: list[BreakerEvent] = []

    def broken(_: BreakerEvent) -> None:
        raise RuntimeError

    breaker = CircuitBreaker("c", store, CONFIG, listeners=[broken, heard.append])
    await trip(breaker)
    with pytest.raises(CallNotPermittedError):
        await breaker.call(works)
    clock.advance(30)
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    clock.advance(30)
    await breaker.call(works)
    assert [event.kind for event in heard] == [
        EventKind.TRIPPED,
        EventKind.REFUSED,
        EventKind.HALF_OPENED,
        EventKind.REOPENED,
        EventKind.HALF_OPENED,
        EventKind.CLOSED,
    ]
    assert heard[0] == BreakerEvent(
        kind=EventKind.TRIPPED, name="c", state=State.OPEN, generation=heard[0].generation, local=False
    )


async def test_blocks_nest_and_run_side_by_side(store: MemoryStore) -> None:
    """One breaker serves nested blocks and many tasks at once, each settling its own call."""
    outer, inner = CircuitBreaker("outer", store, CONFIG), CircuitBreaker("inner", store, CONFIG)

    async def nested() -> str:
        async with outer, inner:
            await asyncio.sleep(0)
            async with outer:
                return await works()

    assert await asyncio.gather(*(nested() for _ in range(20))) == ["charged"] * 20


async def test_peek_tells_and_changes_nothing(breaker: CircuitBreaker, store: MemoryStore, clock: ManualClock) -> None:
    """Peek is None while calls go through, and the refusal while they do not; it takes no probe's place."""
    assert await breaker.peek() is None
    await trip(breaker)
    clock.advance(10)
    refusal = await breaker.peek()
    assert refusal is not None
    assert refusal.retry_after_seconds == 20.0
    clock.advance(20)
    before = await store.snapshot(breaker.name)
    assert await breaker.peek() is None
    assert await store.snapshot(breaker.name) == before


class StoreOutage(MemoryStore):
    """A store that can go away before or after it does what it is asked."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.acquire_fails = self.record_fails = False
        self.record_breaks = False

    async def acquire(
        self, name: str, permit_id: str, limits: Limits, replica_id: str, *, may_probe: bool = True
    ) -> Permitted | Refused:
        if self.acquire_fails:
            raise StoreUnavailableError
        return await super().acquire(name, permit_id, limits, replica_id, may_probe=may_probe)

    async def record(self, name: str, report: Report, limits: Limits) -> Recorded:
        if self.record_breaks:
            raise ZeroDivisionError
        if self.record_fails:
            raise StoreUnavailableError
        return await super().record(name, report, limits)


@pytest.fixture
def outage(clock: ManualClock) -> StoreOutage:
    """A store that the test takes away."""
    return StoreOutage(clock)


@pytest.mark.parametrize("function", [works, fails, hangs])
@pytest.mark.parametrize("way", ["record_fails", "record_breaks"])
async def test_a_finished_call_survives_the_store(
    outage: StoreOutage, way: str, function: Callable[[], Awaitable[str]]
) -> None:
    """A store that fails after the call changes neither what it returned nor what it raised."""
    breaker = CircuitBreaker("c", outage, BreakerConfig(call_timeout_seconds=0.1))
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)  # From now on a success is worth a report as well.
    setattr(outage, way, True)
    if function is works:
        assert await breaker.call(function) == "charged"
    else:
        expected = ProviderDownError if function is fails else CallTimeoutError
        with pytest.raises(expected):
            await breaker.call(function)


async def test_without_the_store_the_local_layer_guards(outage: StoreOutage) -> None:
    """With the store away, the same policy works in this replica, and events say that it was local."""
    heard: list[BreakerEvent] = []
    outage.acquire_fails = outage.record_fails = True
    breaker = CircuitBreaker("c", outage, CONFIG, listeners=[heard.append])
    assert await breaker.call(works) == "charged"
    await trip(breaker)
    with pytest.raises(CallNotPermittedError):
        await breaker.call(works)
    assert {event.local for event in heard} == {True}


async def test_failures_whose_report_was_lost_count_locally(outage: StoreOutage) -> None:
    """A store that dies between asking and settling does not make failures invisible to this replica."""
    breaker = CircuitBreaker("c", outage, CONFIG)
    outage.record_fails = True
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    outage.acquire_fails = True
    for _ in range(2):
        with pytest.raises(ProviderDownError):
            await breaker.call(fails)
    with pytest.raises(CallNotPermittedError):
        await breaker.call(works)


async def test_when_the_store_returns_the_shared_record_wins(outage: StoreOutage) -> None:
    """A circuit that was open only here is what the fleet says it is as soon as the fleet can be asked."""
    breaker = CircuitBreaker("c", outage, CONFIG)
    outage.acquire_fails = True
    await trip(breaker)
    outage.acquire_fails = False
    assert await breaker.call(works) == "charged"


async def test_a_cancelled_acquire_gives_an_unseen_probe_back(clock: ManualClock) -> None:
    """Who is cancelled while asking may have been granted the probe's place; it is returned without being known."""

    class SlowAnswer(MemoryStore):
        slow = False

        async def acquire(
            self, name: str, permit_id: str, limits: Limits, replica_id: str, *, may_probe: bool = True
        ) -> Permitted | Refused:
            reply = await super().acquire(name, permit_id, limits, replica_id, may_probe=may_probe)
            if self.slow:
                await asyncio.Event().wait()
            return reply

    store = SlowAnswer(clock)
    breaker = CircuitBreaker("c", store, CONFIG)
    await trip(breaker)
    clock.advance(30)
    store.slow = True
    asking = asyncio.create_task(breaker.call(works))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    store.slow = False
    await asyncio.gather(*breaker._link._tasks)
    assert await breaker.call(works) == "charged"


async def test_a_caller_that_leaves_while_its_report_is_sent_does_not_take_it_along(clock: ManualClock) -> None:
    """The report goes on after the cancellation, so the failure is counted."""

    class SlowRecord(MemoryStore):
        def __init__(self, clock: ManualClock) -> None:
            super().__init__(clock)
            self.reached, self.go_on = asyncio.Event(), asyncio.Event()

        async def record(self, name: str, report: Report, limits: Limits) -> Recorded:
            self.reached.set()
            await self.go_on.wait()
            return await super().record(name, report, limits)

    store = SlowRecord(clock)
    breaker = CircuitBreaker("c", store, CONFIG)
    calling = asyncio.create_task(breaker.call(fails))
    await store.reached.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    store.go_on.set()
    await asyncio.gather(*breaker._link._tasks)
    seen = await store.snapshot("c")
    assert seen is not None
    assert seen.failures == 1


async def test_a_report_that_is_cancelled_does_not_take_its_caller_along(clock: ManualClock) -> None:
    """Whoever cancels all tasks but the own one gets the own call's result: nobody has cancelled that."""

    class NoAnswer(MemoryStore):
        reached = False

        async def record(self, name: str, report: Report, limits: Limits) -> Recorded:  # noqa: ARG002
            self.reached = True
            await asyncio.Event().wait()
            raise AssertionError

    store = NoAnswer(clock)
    breaker = CircuitBreaker("c", store, CONFIG)
    calling = asyncio.create_task(breaker.call(fails))
    while not store.reached:  # noqa: ASYNC110 - a few turns
        await asyncio.sleep(0)
    for task in breaker._link._tasks:
        task.cancel()
    with pytest.raises(ProviderDownError):
        await calling


async def test_a_long_time_to_stay_away_is_believed_if_the_configuration_says_so(
    store: MemoryStore, clock: ManualClock
) -> None:
    """Up to the ten years that anything may last."""
    config = BreakerConfig(max_cooldown_seconds=30_000_000)
    breaker = CircuitBreaker("c", store, config, classify_error=lambda _: OpenFor(20_000_000))
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    view = await store.snapshot("c")
    assert view is not None
    assert view.retry_at_ms == clock.now_ms + 20_000_000_000


async def test_a_decorated_function_keeps_its_name(breaker: CircuitBreaker) -> None:
    """The decorator keeps name and docstring."""

    @breaker
    async def create_intent(amount: int, *, currency: str) -> str:
        """Create it."""
        return f"{amount} {currency}"

    assert (create_intent.__name__, create_intent.__doc__) == ("create_intent", "Create it.")
    assert await create_intent(5, currency="EUR") == "5 EUR"


@pytest.fixture(autouse=True)
async def _nothing_left_behind() -> AsyncIterator[None]:
    """No test leaves a task behind."""
    yield
    assert len(asyncio.all_tasks()) <= 2


async def test_peek_asks_the_local_layer_while_the_store_is_away(outage: StoreOutage, clock: ManualClock) -> None:
    """What this replica knows is what it tells."""

    async def away(_: str) -> None:
        raise StoreUnavailableError

    breaker = CircuitBreaker("c", outage, CONFIG)
    await trip(breaker)
    clock.advance(1)
    outage.snapshot = away  # type: ignore[method-assign, assignment]
    refusal = await breaker.peek()
    assert refusal is not None
    assert refusal.reason == "open"


async def test_a_lost_report_of_a_circuit_that_is_open_here_adds_nothing(outage: StoreOutage) -> None:
    """A straggler whose report is lost while the local layer is open is dropped."""
    breaker = CircuitBreaker("c", outage, CONFIG)
    failing = asyncio.Event()

    async def straggles() -> str:
        await failing.wait()
        return await fails()

    straggler = asyncio.create_task(breaker.call(straggles))
    await asyncio.sleep(0)
    outage.acquire_fails = outage.record_fails = True
    await trip(breaker)
    failing.set()
    with pytest.raises(ProviderDownError):
        await straggler
    with pytest.raises(CallNotPermittedError):
        await breaker.call(works)


async def test_a_memory_store_is_never_away(store: MemoryStore) -> None:
    """It can be closed, and it is never degraded."""
    await store.aclose()
    assert not store.degraded


async def test_a_listener_that_fails_again_and_again_is_told_of_once(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """And once more when it has worked meanwhile: an outage is made of many refusals."""
    fails_now = True

    def listener(_: BreakerEvent) -> None:
        if fails_now:
            raise RuntimeError

    breaker = CircuitBreaker("c", store, BreakerConfig(policy=Consecutive(1)), listeners=[listener])
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    for fails_now in (True, True, False, True):  # noqa: B007 - the listener looks at it
        with pytest.raises(CallNotPermittedError):
            await breaker.call(works)
    assert len(caplog.records) == 2


async def test_a_cancellation_that_a_listener_raises_cancels_no_call(store: MemoryStore, clock: ManualClock) -> None:
    """It waits for nothing, so whatever it raises is its own; the probe's caller gets the result."""

    def listener(_: BreakerEvent) -> None:
        raise asyncio.CancelledError

    breaker = CircuitBreaker("c", store, CONFIG, listeners=[listener])
    for _ in range(3):
        with pytest.raises(ProviderDownError):
            await breaker.call(fails)
    clock.advance(30)
    assert await breaker.call(works) == "charged"


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
async def test_a_listener_may_end_the_program(store: MemoryStore, end: type[BaseException]) -> None:
    """That is no failure of the listener."""

    def listener(_: BreakerEvent) -> None:
        raise end

    breaker = CircuitBreaker("c", store, BreakerConfig(policy=Consecutive(1)), listeners=[listener])
    permit = await breaker.admit()
    with pytest.raises(end):
        breaker._circuit.delivered(
            Report(permit_id="p", generation=permit.generation, outcome=Outcome.FAILURE),
            Recorded(True, State.OPEN, permit.generation + 1, 1, Transition.TRIPPED),
            (0, 0),
        )


def test_a_store_of_threads_is_refused_at_the_door() -> None:
    """The message says which breaker is for it."""
    with pytest.raises(ConfigError, match=r"breaker\.sync\.CircuitBreaker"):
        CircuitBreaker("c", sync.MemoryStore())  # type: ignore[arg-type]


def test_a_coroutine_that_is_closed_after_its_event_loop_reports_nothing(
    store: MemoryStore, clock: ManualClock
) -> None:
    """There is nobody to send it any more; a probe's lease heals that, and nothing complains."""
    breaker = CircuitBreaker("c", store, CONFIG)

    async def probes() -> Coroutine[Any, Any, str]:
        for _ in range(3):
            with pytest.raises(ProviderDownError):
                await breaker.call(fails)
        clock.advance(30)
        calling = breaker.call(hangs)
        calling.send(None)
        return calling

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        calling = loop.run_until_complete(probes())
    calling.close()
    view = asyncio.run(store.snapshot("c"))
    assert view is not None
    assert (view.state, view.probes_out) == (State.HALF_OPEN, 1)


async def test_no_classifier_is_asked_about_a_permit_that_is_settled(store: MemoryStore) -> None:
    """What it would say could change nothing, and asking may cost something or fail."""
    asked: list[object] = []

    def classify(end: object) -> Outcome:
        asked.append(end)
        return Outcome.FAILURE

    breaker = CircuitBreaker("c", store, classify_error=classify, classify_result=classify)
    permit = await breaker.admit()
    await permit.settle(Outcome.SUCCESS)
    await permit.returned("charged")
    await permit.raised(ProviderDownError())
    assert asked == []
