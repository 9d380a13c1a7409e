"""Calls that a fresh copy of the circuit permits take a path of their own; they keep every promise all the same."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from breaker import (
    BreakerConfig,
    BreakerEvent,
    CallNotPermittedError,
    CallTimeoutError,
    CircuitBreaker,
    Consecutive,
    Consistency,
    EventKind,
    FailureRate,
    MemoryStore,
    Mode,
    OpenFor,
    Outcome,
    Override,
    Reason,
    ScriptError,
    State,
)
from breaker._deadlines import Deadlines
from breaker._types import Recorded, Report
from tests.support.replica import ProviderDownError, fails, until, works
from tests.support.stores import ManualClock
from tests.support.telling_store import TellingStore


@pytest.fixture
def store() -> TellingStore:
    """A store whose circuit is known to be closed."""
    return TellingStore(ManualClock())


async def works_later() -> str:
    """Succeed after having waited for something."""
    await asyncio.sleep(0)
    return "charged"


async def fails_later() -> str:
    """Fail after having waited for something."""
    await asyncio.sleep(0)
    raise ProviderDownError


async def hangs() -> str:
    """Never answer."""
    await asyncio.Event().wait()
    return "never"


async def warm(store: TellingStore, **options: Any) -> CircuitBreaker:
    """Make a breaker that has a fresh copy of its closed circuit."""
    config = BreakerConfig(policy=Consecutive(2), call_timeout_seconds=options.pop("timeout_seconds", 4))
    breaker = CircuitBreaker("c", store, config, **options)
    await breaker.call(works)
    await store.tell("c")
    assert breaker._circuit.permit is not None
    return breaker


def running(breaker: CircuitBreaker) -> int:
    """Count the calls that are watched."""
    assert breaker._deadlines is not None
    return len(breaker._deadlines._watch.began)


@pytest.mark.parametrize("function", [works, works_later])
async def test_a_result_comes_back_and_nothing_is_asked(
    store: TellingStore, function: Callable[[], Awaitable[str]]
) -> None:
    """While the copy is fresh and nothing is counted, a success makes no report and leaves nothing behind."""
    breaker = await warm(store)
    assert await breaker.call(function) == "charged"
    assert store.reports == []
    assert running(breaker) == 0


@pytest.mark.parametrize("function", [works, works_later])
async def test_a_healthy_call_is_told_to_nobody(
    store: TellingStore, caplog: pytest.LogCaptureFixture, function: Callable[[], Awaitable[str]]
) -> None:
    """The store is not asked, no listener hears of it, and not even a debug log says anything."""
    heard: list[BreakerEvent] = []
    breaker = await warm(store, listeners=[heard.append])
    asked = len(store.asked)
    with caplog.at_level(logging.DEBUG, "breaker"):
        for _ in range(10):
            await breaker.call(function)
    assert (len(store.asked), store.reports, heard, caplog.records) == (asked, [], [], [])


@pytest.mark.parametrize("function", [fails, fails_later])
async def test_failures_are_reported_and_trip(store: TellingStore, function: Callable[[], Awaitable[str]]) -> None:
    """Each failure is recorded before its caller is answered, with a permit id of its own; the second trips."""
    heard: list[BreakerEvent] = []
    breaker = await warm(store, listeners=[heard.append])
    for count in (1, 2):
        with pytest.raises(ProviderDownError):
            await breaker.call(function)
        assert len(store.reports) == count
    with pytest.raises(CallNotPermittedError):
        await breaker.call(works)
    assert len({report.permit_id for report in store.reports}) == 2
    assert [event.kind for event in heard] == [EventKind.TRIPPED, EventKind.REFUSED]
    assert running(breaker) == 0


async def test_one_success_ends_a_run_of_failures(store: TellingStore) -> None:
    """Of many successes after a failure one is reported, and none waits for it."""
    breaker = await warm(store)
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    store.paused = asyncio.Event()
    for _ in range(5):
        assert await breaker.call(works) == "charged"
    await asyncio.sleep(0)
    assert [report.outcome for report in store.reports] == [Outcome.FAILURE, Outcome.SUCCESS]
    store.paused.set()
    await asyncio.gather(*breaker._link._tasks)
    seen = await store.snapshot("c")
    assert seen is not None
    assert seen.failures == 0


async def test_a_hanging_call_is_ended_by_the_breaker(store: TellingStore) -> None:
    """The timeout raises `CallTimeoutError`, counts as a failure, and leaves the task as if nobody had cancelled it."""
    breaker = await warm(store, timeout_seconds=0.01)
    for _ in range(2):
        with pytest.raises(CallTimeoutError):
            await breaker.call(hangs)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    seen = await store.snapshot("c")
    assert seen is not None
    assert (seen.state, seen.last_error) == (State.OPEN, "CallTimeoutError")


async def test_each_of_many_calls_has_its_own_deadline(store: TellingStore) -> None:
    """A call that began later ends later, one that answers in time is left alone, and then nobody watches any more."""
    breaker = await warm(store, timeout_seconds=0.05)
    first = asyncio.create_task(breaker.call(hangs))
    answer = asyncio.Event()
    ends: list[str] = []

    async def answers() -> str:
        await answer.wait()
        return "charged"

    async def ending(name: str, call: asyncio.Task[str]) -> None:
        with pytest.raises(CallTimeoutError):
            await call
        ends.append(name)

    in_time = asyncio.create_task(breaker.call(answers))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(breaker.call(hangs))
    answer.set()
    assert await in_time == "charged"
    await asyncio.gather(ending("first", first), ending("second", second))
    assert ends == ["first", "second"]
    assert breaker._deadlines is not None
    assert not breaker._deadlines._watch.is_set
    assert running(breaker) == 0


async def test_cancellation_counts_as_nothing(store: TellingStore) -> None:
    """A client that goes away is no failure, and is not taken for a timeout."""
    breaker = await warm(store)
    task = asyncio.create_task(breaker.call(hangs))
    await asyncio.sleep(0)
    assert running(breaker) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.reports == []
    assert running(breaker) == 0


async def test_a_deadline_outside_is_not_taken_for_the_breakers_own(store: TellingStore) -> None:
    """A timeout around the breaker arrives as a cancellation and stays one."""
    breaker = await warm(store)
    with pytest.raises(TimeoutError) as timeout:
        async with asyncio.timeout(0.01):
            await breaker.call(hangs)
    assert not isinstance(timeout.value, CallTimeoutError)
    assert store.reports == []


async def test_a_cancellation_beside_the_deadline_wins(store: TellingStore) -> None:
    """Who is cancelled at the moment of its timeout is cancelled."""
    breaker = await warm(store, timeout_seconds=0.01)
    task = asyncio.create_task(breaker.call(hangs))
    await asyncio.sleep(0)
    assert breaker._deadlines is not None
    loop = asyncio.get_running_loop()
    watch = breaker._deadlines._watch
    watch.began[task] = 0.0
    breaker._deadlines._sweep(loop, watch, loop.time())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_that_answers_although_it_was_told_to_stop_keeps_its_result(store: TellingStore) -> None:
    """A result is sacred, also one that comes after the deadline; the task is not left cancelled."""
    breaker = await warm(store, timeout_seconds=0.01)

    async def stubborn() -> str:
        try:
            return await hangs()
        except asyncio.CancelledError:
            return "charged"

    assert await breaker.call(stubborn) == "charged"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_call_within_a_call_is_guarded_as_well(store: TellingStore) -> None:
    """One breaker around itself in one task: both calls have a deadline, and both settle."""
    breaker = await warm(store, timeout_seconds=0.05)

    async def nested() -> str:
        return await breaker.call(hangs)

    with pytest.raises(CallTimeoutError):
        await breaker.call(nested)
    assert running(breaker) == 0


async def test_a_task_that_is_being_cancelled_may_still_call(store: TellingStore) -> None:
    """Whoever cleans up while being cancelled gets results and timeouts like anybody else."""
    breaker = await warm(store, timeout_seconds=0.01)

    async def cleans_up() -> None:
        try:
            await hangs()
        finally:
            assert await breaker.call(works_later) == "charged"
            with pytest.raises(CallTimeoutError):
                await breaker.call(hangs)

    task = asyncio.create_task(cleans_up())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_without_a_deadline_a_call_may_wait_for_as_long_as_it_likes(store: TellingStore) -> None:
    """None is no timeout at all: nothing is watched."""
    breaker = CircuitBreaker("c", store, BreakerConfig(call_timeout_seconds=None, lease_seconds=5))
    assert await breaker.call(works_later) == "charged"
    assert breaker._deadlines is None


def test_a_breaker_outlives_its_event_loop() -> None:
    """One at the top of a module serves a second `asyncio.run` as well: no timer of a lost loop is relied on."""
    breaker = CircuitBreaker("c", MemoryStore(), BreakerConfig(call_timeout_seconds=0.05))

    async def abandoned() -> None:
        call = asyncio.create_task(breaker.call(hangs))
        await asyncio.sleep(0.01)
        call.cancel()

    async def late() -> None:
        with pytest.raises(CallTimeoutError):
            await breaker.call(hangs)

    asyncio.run(abandoned())
    asyncio.run(asyncio.wait_for(late(), 5))


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, Callable[[float], None]]]:
    """The timers that are set, which nothing but the test fires: in how many seconds, and a sweep that was due then."""
    timers: list[tuple[float, Callable[[float], None]]] = []

    def set_timer(deadlines: Deadlines, loop: asyncio.AbstractEventLoop, watch: Any, seconds: float) -> None:
        watch.is_set = True
        timers.append((seconds, functools.partial(deadlines._sweep, loop, watch)))

    monkeypatch.setattr(Deadlines, "_set", set_timer)
    return timers


@pytest.mark.parametrize(("late_seconds", "put_off_seconds"), [(0.5, 0.5), (8 * 3600, 4)])
async def test_a_pause_of_our_own_is_no_timeout_of_the_call(
    store: TellingStore,
    timers: list[tuple[float, Callable[[float], None]]],
    late_seconds: float,
    put_off_seconds: float,
) -> None:
    """A deadline is put off by the pause in which it passed, after a night's sleep of the machine by itself."""
    breaker = await warm(store)
    call = asyncio.create_task(breaker.call(hangs))
    await asyncio.sleep(0)
    sweep = timers[-1][1]
    sweep(asyncio.get_running_loop().time() - late_seconds)
    assert not call.cancelling()
    assert timers[-1][0] == pytest.approx(put_off_seconds, abs=0.2)
    call.cancel()


async def test_a_loop_that_is_always_late_enforces_deadlines_all_the_same(
    store: TellingStore, timers: list[tuple[float, Callable[[float], None]]]
) -> None:
    """It is given eight chances, no more."""
    breaker = await warm(store)
    loop = asyncio.get_running_loop()
    call = asyncio.create_task(breaker.call(hangs))
    await asyncio.sleep(0)
    assert breaker._deadlines is not None
    began = breaker._deadlines._watch.began
    began.update(dict.fromkeys(began, loop.time() - 5))
    for _ in range(8):
        timers[-1][1](loop.time() - 1)
    assert not call.cancelling()
    timers[-1][1](loop.time() - 1)
    with pytest.raises(CallTimeoutError):
        await call


async def test_results_are_judged(store: TellingStore) -> None:
    """A classifier of results is asked although the copy permits."""
    breaker = await warm(store, classify_result=lambda _: Outcome.FAILURE)
    store.reports.clear()
    assert await breaker.call(works) == "charged"
    assert [report.outcome for report in store.reports] == [Outcome.FAILURE]


async def test_while_the_store_is_away_a_copy_that_looks_fresh_permits_nothing_by_itself(store: TellingStore) -> None:
    """The local layer has tripped on lost reports, so it decides, although no message has said that the copy is old."""
    breaker = await warm(store)
    store.is_away = True
    for _ in range(2):
        with pytest.raises(ProviderDownError):
            await breaker.call(fails)
    with pytest.raises(CallNotPermittedError):
        await breaker.call(works)
    assert (await breaker.peek()) is not None
    store.is_away = False
    assert await breaker.call(works) == "charged"
    assert breaker._circuit.permit is not None


async def test_a_store_that_breaks_in_its_own_way_counts_as_away(store: TellingStore) -> None:
    """Whatever a store raises when it is asked, the caller gets a call guarded locally."""
    breaker = CircuitBreaker("c", store)

    async def breaks(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug of the store's")

    store.acquire = breaks  # type: ignore[method-assign]
    assert await breaker.call(works) == "charged"


async def test_status_shows_the_operators_mode_after_a_report(store: TellingStore) -> None:
    """A report's answer says nothing of the mode, and changes nothing of what is known of it."""
    breaker = CircuitBreaker("c", store, BreakerConfig(consistency=Consistency.STRICT))
    await store.control("c", Override(mode=Mode.METRICS_ONLY, reason="because", actor="anna"))
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    assert breaker.status.mode is Mode.METRICS_ONLY


async def test_a_refusal_is_told_with_its_reason(store: TellingStore) -> None:
    """Listeners hear why."""
    events: list[BreakerEvent] = []
    breaker = await warm(store, listeners=[events.append])
    await store.control("c", Override(mode=Mode.FORCED_OPEN, reason="because", actor="anna"))
    for _ in range(2):
        with pytest.raises(CallNotPermittedError):
            await breaker.call(works)
    assert [(event.kind, event.reason) for event in events] == [(EventKind.REFUSED, Reason.FORCED_OPEN)] * 2
    assert breaker.status.refused == {"forced_open": 2}


async def test_a_failure_from_before_a_loss_of_data_takes_no_probes_place(store: TellingStore) -> None:
    """The circuit was lost, tripped anew and is recovering: an old failure finds that out and changes nothing."""
    clock = store._clock
    assert isinstance(clock, ManualClock)
    breaker = await warm(store)
    may_fail = asyncio.Event()

    async def old() -> str:
        await may_fail.wait()
        raise ProviderDownError

    straggler = asyncio.ensure_future(breaker.call(old))
    await asyncio.sleep(0)
    store._records.clear()
    real_record, limits = store.record, breaker.config.limits()

    async def records_then_recovers(name: str, report: Report, *args: Any) -> Recorded:
        store.record = real_record  # type: ignore[method-assign]
        recorded = await real_record(name, report, *args)
        for number in range(2):
            permit = await MemoryStore.acquire(store, name, f"p{number}", limits, "other")
            await MemoryStore.record(
                store,
                name,
                Report(permit_id=f"p{number}", generation=permit.generation, outcome=Outcome.FAILURE),
                limits,
            )
        clock.advance(30)
        return recorded

    store.record = records_then_recovers  # type: ignore[assignment,method-assign]
    may_fail.set()
    with pytest.raises(ProviderDownError):
        await straggler
    view = await store.snapshot("c")
    assert view is not None
    assert (view.state, view.reopens, view.probes_out) == (State.OPEN, 0, 0)


async def test_any_awaitable_can_be_guarded(store: TellingStore) -> None:
    """What is called may return a future instead of being a coroutine function."""
    breaker = await warm(store)
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    future.set_result("charged")
    assert await breaker(lambda: future)() == "charged"


async def test_a_call_within_a_call_keeps_its_own_timeout_error(store: TellingStore) -> None:
    """The inner call's `TimeoutError` is its own, although a deadline of the breaker's watches both."""
    breaker = await warm(store)

    async def times_out() -> str:
        await asyncio.sleep(0)
        raise TimeoutError("theirs")

    async def outer() -> str:
        await asyncio.sleep(0)
        return await breaker.call(times_out)

    with pytest.raises(TimeoutError, match="theirs"):
        await breaker.call(outer)


async def test_a_call_that_ends_although_it_was_told_to_stop_keeps_its_result(store: TellingStore) -> None:
    """The deadline passed, but there is a result, and nobody else cancelled the task."""
    breaker = await warm(store, timeout_seconds=0.01)

    async def stubborn() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "charged"

    assert await breaker.call(stubborn) == "charged"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_permit_says_what_it_is_for(store: TellingStore) -> None:
    """State and generation of the circuit when it was issued; settled once, whatever is said later."""
    breaker = await warm(store)
    permit = await breaker.admit()
    view = await store.snapshot("c")
    assert view is not None
    assert (permit.state, permit.generation) == (State.CLOSED, view.generation)
    await permit.raised(ProviderDownError())
    await permit.returned("charged")
    assert [report.outcome for report in store.reports] == [Outcome.FAILURE]


async def test_a_ramp_ends_without_a_message(store: TellingStore) -> None:
    """While it lasts the store decides about each call; afterwards the copy permits again."""
    clock = store._clock
    assert isinstance(clock, ManualClock)
    config = BreakerConfig(policy=Consecutive(1), cooldown_seconds=5, ramp_seconds=20)
    breaker = CircuitBreaker("c", store, config)
    breaker._circuit.mirror._clock = clock
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    clock.advance(5)
    await breaker.call(works)
    asked = len(store.asked)
    for _ in range(30):
        with contextlib.suppress(CallNotPermittedError):
            await breaker.call(works)
    assert len(store.asked) == asked + 30
    assert 0 < breaker.status.refused["ramping"] < 30
    clock.advance(20)
    for _ in range(10):
        assert await breaker.call(works) == "charged"
    assert len(store.asked) == asked + 30


async def test_a_refusal_carries_the_operators_mode(store: TellingStore) -> None:
    """Who is refused can tell that a person decided so."""
    breaker = await warm(store)
    await store.control("c", Override(mode=Mode.FORCED_OPEN, reason="because", actor="anna"))
    with pytest.raises(CallNotPermittedError) as refused:
        await breaker.call(works)
    assert refused.value.mode is Mode.FORCED_OPEN


async def test_what_is_thrown_into_a_call_is_not_the_context_of_its_own_errors(store: TellingStore) -> None:
    """An error that the call has dealt with is gone, as it is without a breaker."""
    breaker = await warm(store)
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    handled: list[BaseException | None] = []

    async def deals_with_it() -> None:
        with contextlib.suppress(ValueError):
            await future
        handled.append(sys.exc_info()[1])
        raise KeyError

    call = asyncio.create_task(breaker.call(deals_with_it))
    await asyncio.sleep(0)
    future.set_exception(ValueError())
    with pytest.raises(KeyError) as raised:
        await call
    assert (handled, raised.value.__context__) == ([None], None)


async def test_a_function_that_is_none_for_tasks_is_no_failure_of_the_dependency(store: TellingStore) -> None:
    """It is called, says what is wrong, and trips nothing."""
    breaker = await warm(store)
    for _ in range(3):
        with pytest.raises(TypeError, match=r"breaker\.sync"):
            await breaker.call(lambda: "charged")  # type: ignore[arg-type,return-value]
    assert breaker.status.state is State.CLOSED
    assert store.reports == []


async def test_a_call_that_may_be_slow_is_given_the_time_of_a_pause_as_well(
    store: TellingStore, timers: list[tuple[float, Callable[[float], None]]]
) -> None:
    """Whether slow calls count or not, a pause of our own is no timeout."""
    policy = FailureRate(slow_call_seconds=60)
    breaker = CircuitBreaker("c", store, BreakerConfig(policy=policy, call_timeout_seconds=4))
    await breaker.call(works)
    call = asyncio.create_task(breaker.call(hangs))
    await asyncio.sleep(0)
    timers[-1][1](asyncio.get_running_loop().time() - 0.5)
    assert not call.cancelling()
    call.cancel()


def test_what_was_to_happen_in_a_lost_event_loop_is_not_waited_for() -> None:
    """Neither the timer that tells of successes nor the report that ends a run."""
    store = TellingStore(ManualClock())
    rate = CircuitBreaker("rate", store, BreakerConfig(policy=FailureRate(), flush_seconds=0.5))
    run = CircuitBreaker("run", store, BreakerConfig(policy=Consecutive(3)))

    async def is_abandoned() -> None:
        for breaker in (rate, run):
            await breaker.call(works)
            await store.tell(breaker.name)
        await rate.call(works)
        with pytest.raises(ProviderDownError):
            await run.call(fails)
        store.paused = asyncio.Event()
        await run.call(works)
        await asyncio.sleep(0)
        for _, see in store.followers:
            see(None)

    async def goes_on() -> None:
        store.paused = None
        await rate.call(works)
        await run.call(works)
        await until(lambda: not rate._circuit.reports.are_waiting)
        await rate.aclose()
        await run.aclose()

    asyncio.run(is_abandoned())
    asyncio.run(goes_on())
    views = [asyncio.run(store.snapshot(name)) for name in ("rate", "run")]
    assert [view and (view.calls, view.failures) for view in views] == [(1, 0), (0, 0)]


def test_a_breaker_may_be_used_in_several_event_loops_by_turns() -> None:
    """Each has deadlines of its own: a cancellation in one is not taken for a timeout because of the other."""
    breaker = CircuitBreaker("c", MemoryStore(), BreakerConfig(call_timeout_seconds=4))
    one, other = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        call = one.create_task(breaker.call(hangs))
        one.run_until_complete(asyncio.sleep(0))
        assert other.run_until_complete(breaker.call(works_later)) == "charged"
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            one.run_until_complete(call)
    finally:
        one.close()
        other.close()


async def test_a_store_that_answers_nonsense_is_told_of_once(
    store: TellingStore, caplog: pytest.LogCaptureFixture
) -> None:
    """One line until it makes sense again; meanwhile the replica guards itself and says so."""
    breaker = CircuitBreaker("c", store, BreakerConfig(consistency=Consistency.STRICT))
    really = store.acquire

    async def nonsense(*_: Any, **__: Any) -> Any:
        raise ScriptError("acquire answered 'what?'")

    store.acquire = nonsense  # type: ignore[method-assign]
    for _ in range(3):
        assert await breaker.call(works) == "charged"
    assert breaker.status.degraded
    assert len(caplog.records) == 1
    store.acquire = really  # type: ignore[method-assign]
    await breaker.call(works)
    assert not breaker.status.degraded


async def test_messages_do_not_bring_a_store_back_that_answers_nothing(store: TellingStore) -> None:
    """They come another way than this replica's commands, which fail: it refuses a sick dependency by itself."""
    breaker = await warm(store)
    for _ in range(2):
        store.is_away = True
        with pytest.raises(ProviderDownError):
            await breaker.call(fails)
        store.is_away = False
        other = CircuitBreaker("c", store, BreakerConfig(policy=Consecutive(9)))
        with pytest.raises(ProviderDownError):
            await other.call(fails)
        await other.call(works)
    store.is_away = True
    with pytest.raises(CallNotPermittedError):
        await breaker.call(works)


async def test_what_messages_told_since_is_honoured_when_the_store_is_away_again(store: TellingStore) -> None:
    """The others have tripped between two absences in which this replica asked nothing: it stays away as well."""
    breaker = await warm(store)
    store.is_away = True
    breaker._link._see(None)
    assert await breaker.call(works) == "charged"
    store.is_away = False
    other = CircuitBreaker("c", store, BreakerConfig(policy=Consecutive(1)))
    with pytest.raises(ProviderDownError):
        await other.call(fails)
    store.is_away = True
    breaker._link._see(None)
    with pytest.raises(CallNotPermittedError) as refused:
        await breaker.call(works)
    assert refused.value.reason is Reason.OPEN


async def test_what_failed_in_one_absence_counts_in_no_other(store: TellingStore) -> None:
    """In between the store has answered and the shared record was in force: failures of two absences are no run."""
    breaker = await warm(store)
    for _ in range(3):
        store.is_away = True
        breaker._link._see(None)
        with pytest.raises(ProviderDownError):
            await breaker.call(fails)
        store.is_away = False
        assert await breaker.call(works) == "charged"


async def test_a_call_of_an_absence_that_ends_later_leaves_nothing_for_the_next(store: TellingStore) -> None:
    """It is settled when the store has answered again; what the store tells after that counts in the next absence."""
    breaker = await warm(store)
    store.is_away = True
    breaker._link._see(None)
    permit = await breaker.admit()
    store.is_away = False
    await breaker.call(works)
    await permit.settle(Outcome.SUCCESS)
    await store.control("c", Override(mode=Mode.FORCED_OPEN, reason="because", actor="anna"))
    store.is_away = True
    breaker._link._see(None)
    with pytest.raises(CallNotPermittedError) as refused:
        await breaker.call(works)
    assert refused.value.reason is Reason.FORCED_OPEN


async def test_an_end_that_messages_moved_since_is_kept_when_the_store_is_away_again(store: TellingStore) -> None:
    """Of an operator's mode, which keeps its name and the circuit's generation."""
    breaker, seconds = await warm(store), 1000.0
    breaker._circuit.known.clock = lambda: seconds
    await store.control("c", Override(mode=Mode.FORCED_OPEN, reason="because", actor="anna", duration_ms=10_000))
    await _is_refused_while_away(store, breaker)
    await store.control("c", Override(mode=Mode.FORCED_OPEN, reason="for longer", actor="anna"))
    seconds += 20
    await _is_refused_while_away(store, breaker)


async def test_a_cooldown_that_messages_told_since_is_kept_when_the_store_is_away_again(store: TellingStore) -> None:
    """The answer to the report that tripped does not say how long it is, the message of it came after an absence."""
    breaker, seconds = await warm(store, classify_error=lambda _: OpenFor(200)), 1000.0
    breaker._circuit.known.clock = lambda: seconds
    followers, store.followers = store.followers, []
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    await _is_refused_while_away(store, breaker)
    store.followers = followers
    await store.tell("c")
    seconds += 40
    await _is_refused_while_away(store, breaker)


async def _is_refused_while_away(store: TellingStore, breaker: CircuitBreaker) -> None:
    store.is_away = True
    breaker._link._see(None)
    with pytest.raises(CallNotPermittedError):
        await breaker.call(works)
    store.is_away = False


def test_a_stream_that_is_closed_after_its_event_loop_keeps_no_success_from_being_told(store: TellingStore) -> None:
    """Its own success ends a run of failures for nobody, so the next one has to."""

    async def items() -> AsyncIterator[int]:
        while True:
            yield 1

    async def begins() -> tuple[CircuitBreaker, AsyncGenerator[int, None]]:
        breaker = await warm(store)
        stream = cast("AsyncGenerator[int, None]", breaker(items)())
        await anext(stream)
        with pytest.raises(ProviderDownError):
            await breaker.call(fails)
        return breaker, stream

    async def goes_on() -> None:
        await breaker.call(works)
        await breaker._link.drain()

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        breaker, stream = loop.run_until_complete(begins())
    with pytest.raises(StopIteration):
        stream.aclose().send(None)
    asyncio.run(goes_on())
    assert [report.outcome for report in store.reports] == [Outcome.FAILURE, Outcome.SUCCESS]


async def test_a_store_that_is_of_use_again_shows_though_nothing_is_asked(store: TellingStore) -> None:
    """A report was what found out, and its message brought a fresh copy: this replica does not guard itself."""
    breaker = await warm(store)
    permit, acquire = await breaker.admit(), store.acquire

    async def nonsense(*_: Any, **__: Any) -> Any:
        raise ScriptError("WRONGTYPE")

    breaker._link._see(None)
    store.acquire = nonsense  # type: ignore[method-assign]
    await breaker.call(works)
    assert breaker.status.degraded
    store.acquire = acquire  # type: ignore[method-assign]
    await permit.settle(Outcome.FAILURE)
    await store.tell("c")
    await breaker.call(works)
    assert not breaker.status.degraded


async def test_a_report_that_is_cancelled_before_it_begins_is_made_by_the_next_success(store: TellingStore) -> None:
    """Such as when a program cancels all of its tasks."""
    breaker = await warm(store)
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)
    await breaker.call(works)
    for task in breaker._link._tasks:
        task.cancel()
    await until(lambda: not breaker._link._tasks)
    await breaker.call(works)
    await breaker.aclose()
    view = await store.snapshot("c")
    assert view is not None
    assert view.failures == 0
