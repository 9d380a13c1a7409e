"""Calls that hang in a thread: counted while they do, and never twice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from breaker import (
    BreakerConfig,
    BreakerEvent,
    CallNotPermittedError,
    Consecutive,
    Consistency,
    FailureRate,
    Outcome,
    State,
    StoreUnavailableError,
)
from breaker.sync import CircuitBreaker
from breaker.sync._deadlines import Deadlines
from tests.support.stores import ManualClock
from tests.unit.breaker.sync.support import (
    PlantedTimers,
    ProviderDownError,
    TellingStore,
    fails,
    in_thread,
    is_signalled,
    works,
)

NAME = "stripe"
RATE = BreakerConfig(policy=FailureRate(minimum_calls=2, slow_call_seconds=1, slow_rate_threshold=0.5))


@pytest.fixture(params=[Consistency.MIRRORED, Consistency.STRICT])
def breaker(request: pytest.FixtureRequest, store: TellingStore) -> CircuitBreaker:
    """A breaker that has been used, so that what it does by a copy of the circuit it does so from here on."""
    config = BreakerConfig(
        policy=Consecutive(1), cooldown_seconds=30, call_timeout_seconds=4, consistency=request.param
    )
    breaker = CircuitBreaker(NAME, store, config)
    breaker.call(works)
    store.reports.clear()
    return breaker


def seen_by_others(store: TellingStore) -> tuple[State, str]:
    """Read what the fleet knows: the state, and the last error."""
    view = store.snapshot(NAME)
    assert view is not None
    return view.state, view.last_error


def test_a_call_that_hangs_is_a_failure_while_it_hangs_and_keeps_its_result(
    breaker: CircuitBreaker, store: TellingStore
) -> None:
    """The circuit trips at the timeout, not when the call returns; the call's result is its own, and counts no more."""

    def hangs() -> str:
        """Hang for five seconds."""
        store.planted.advance(3.9)
        assert seen_by_others(store)[0] is State.CLOSED
        store.planted.advance(1.1)
        assert seen_by_others(store) == (State.OPEN, "CallTimeoutError")
        return "late"

    assert breaker.call(hangs) == "late"
    assert [report.outcome for report in store.reports] == [Outcome.FAILURE]


def test_a_call_that_hangs_and_raises_at_last_raises_its_own_error(
    breaker: CircuitBreaker, store: TellingStore
) -> None:
    """It was reported when it was late; what it raises is not reported again."""

    def hangs() -> str:
        """Hang, and fail."""
        store.planted.advance(5)
        return fails()

    with pytest.raises(ProviderDownError):
        breaker.call(hangs)
    with pytest.raises(CallNotPermittedError) as refused:
        breaker.call(works)
    assert refused.value.last_error == "CallTimeoutError"
    assert len(store.reports) == 1


def test_a_pause_of_the_process_is_no_failure_of_the_dependency(breaker: CircuitBreaker, store: TellingStore) -> None:
    """Whoever was stopped for longer than the timeout finds the answer and the passed deadline at once."""

    def paused() -> str:
        """Be stopped for a minute, together with all of this process."""
        store.planted.pause(60)
        store.planted.advance()
        return "charged"

    for _ in range(3):
        assert breaker.call(paused) == "charged"
    assert not store.reports


def test_a_block_and_a_stream_that_hang_are_failures(breaker: CircuitBreaker, store: TellingStore) -> None:
    """Of a stream each wait counts by itself, and not what its consumer does in between."""

    @breaker
    def stream(*waits: float) -> Iterator[float]:
        """Wait for each item."""
        for seconds in waits:
            store.planted.advance(seconds)
            yield seconds

    for _ in stream(3, 3):
        store.planted.advance(10)
    assert seen_by_others(store)[0] is State.CLOSED
    assert list(stream(3, 5, 3)) == [3, 5, 3]
    assert seen_by_others(store) == (State.OPEN, "CallTimeoutError")
    other = CircuitBreaker("other", store, breaker.config)
    with other:
        store.planted.advance(5)
    with pytest.raises(CallNotPermittedError):
        other.call(works)


def test_a_probe_that_hangs_gives_its_place_up(store: TellingStore) -> None:
    """The circuit opens again while it hangs, and its success comes too late to close it."""
    clock = ManualClock()
    store = TellingStore(clock)
    config = BreakerConfig(policy=Consecutive(1), cooldown_seconds=30, call_timeout_seconds=4)
    breaker = CircuitBreaker(NAME, store, config)
    with pytest.raises(ProviderDownError):
        breaker.call(fails)
    clock.advance(31)
    store.lose_messages()

    def hangs() -> str:
        """Hang."""
        assert seen_by_others(store)[0] is State.HALF_OPEN
        store.planted.advance(5)
        assert seen_by_others(store)[0] is State.OPEN
        return "late"

    assert breaker.call(hangs) == "late"
    assert seen_by_others(store) == (State.OPEN, "CallTimeoutError")


def test_a_call_without_a_timeout_may_take_any_time(store: TellingStore) -> None:
    """Nothing is counted however long it hangs, and no timer is set for it."""
    config = BreakerConfig(policy=Consecutive(1), call_timeout_seconds=None, lease_seconds=10)
    breaker = CircuitBreaker(NAME, store, config)
    breaker.call(works)
    breaker.call(lambda: store.planted.advance(1000))
    assert not store.reports
    assert not store.planted.waiting


def test_a_slow_call_is_counted_while_it_hangs(store: TellingStore) -> None:
    """Two slow calls are half of the traffic and trip before either has returned; how they end counts no call twice."""
    breaker = CircuitBreaker(NAME, store, RATE)
    first, second = breaker.admit(), breaker.admit()
    store.planted.advance(1.2)
    assert seen_by_others(store)[0] is State.OPEN
    assert [(report.calls, report.slow) for report in store.reports] == [(2, 2)]
    first.settle(Outcome.SUCCESS)
    second.settle(Outcome.FAILURE)
    store.planted.advance(1)
    assert sum(report.calls for report in store.reports) == 2


def test_a_late_call_of_a_rate_counts_once(store: TellingStore) -> None:
    """As a failure when it is late, and not as a success as well when it returns."""
    config = BreakerConfig(policy=FailureRate(minimum_calls=10), call_timeout_seconds=4)
    breaker = CircuitBreaker(NAME, store, config)
    breaker.call(works)
    breaker.call(lambda: store.planted.advance(5))
    breaker.close()
    assert [(report.calls, report.failures) for report in store.reports] == [(1, 0), (1, 1)]


def test_a_slow_probe_has_failed(store: TellingStore) -> None:
    """It is settled when it becomes slow; what comes after that changes nothing."""
    clock = ManualClock()
    store = TellingStore(clock)
    breaker = CircuitBreaker(NAME, store, RATE)
    for _ in range(2):
        with pytest.raises(ProviderDownError):
            breaker.call(fails)
    clock.advance(31)
    store.lose_messages()
    permit = breaker.admit()
    assert permit.state is State.HALF_OPEN
    store.planted.advance(1)
    assert seen_by_others(store) == (State.OPEN, "SlowCall")
    permit.returned("late")
    assert len(store.reports) == 3


def test_what_a_slow_call_brings_about_is_told_outside_of_the_turn(store: TellingStore) -> None:
    """A listener may wait for another thread that uses the breaker."""
    seen: list[tuple[str, State]] = []

    def look(event: BreakerEvent) -> None:
        """Let another thread look at the circuit."""
        in_thread(lambda: seen.append((event.kind, slow.status.state))).join(20)

    policy = FailureRate(minimum_calls=1, slow_call_seconds=1)
    slow = CircuitBreaker(NAME, store, BreakerConfig(policy=policy, cooldown_seconds=0.001), listeners=[look])
    store.fails_with = StoreUnavailableError("away")
    with pytest.raises(ProviderDownError):
        slow.call(fails)
    while slow.peek() is not None:
        pass
    probe = slow.admit()
    assert probe.state is State.HALF_OPEN
    store.planted.advance(1)
    assert [kind for kind, _ in seen] == ["tripped", "half_opened", "reopened"]


def test_a_call_that_ends_in_time_is_not_marked_slow(store: TellingStore) -> None:
    """Nor one whose mark comes in the same moment as its end."""
    breaker = CircuitBreaker(NAME, store, RATE)
    assert breaker.call(works) == "charged"
    permit = breaker.admit()
    permit.settle(Outcome.SUCCESS)
    permit._mark_slow()
    store.planted.advance(5)
    assert [(report.calls, report.slow) for report in store.reports] == [(2, 0)]


def test_deadlines_watch_what_begins_while_they_look() -> None:
    """A call that begins while the last late one is dealt with is watched as well."""
    timers, late = PlantedTimers(), list[tuple[str, float]]()

    def note(what: str) -> None:
        """Note it, and begin another once."""
        late.append((what, timers.now()))
        if what == "first":
            deadlines.begin("second")

    deadlines = Deadlines[str](4, timers, note)
    deadlines.begin("first")
    timers.advance(20)
    assert late == [("first", 4), ("second", 8)]


def test_a_deadline_is_put_off_by_a_pause_but_not_for_ever() -> None:
    """By itself at most, and a few times; after that what is late is late, and the next pause is a pause again."""
    timers, late = PlantedTimers(), list[tuple[int, float]]()
    deadlines = Deadlines[int](4, timers, lambda what: late.append((what, timers.now())))
    deadlines.begin(1)
    timers.pause(5)
    timers.advance(0.9)
    assert not late
    timers.advance(0.1)
    assert late == [(1, 6)]
    deadlines.begin(2)
    timers.pause(60)
    timers.advance(4)
    assert late[1:] == [(2, 70)]
    deadlines.begin(3)
    pauses = 0
    while len(late) == 2:
        timers.pause(60)
        timers.advance()
        pauses += 1
    assert pauses == 9
    deadlines.begin(4)
    timers.pause(60)
    timers.advance()
    assert len(late) == 3


def test_what_is_late_may_fail() -> None:
    """The others are dealt with all the same, and so are those that begin later."""
    timers, late = PlantedTimers(), list[int]()

    def fail_once(what: int) -> None:
        """Fail the first time."""
        late.append(what)
        if what == 1:
            fails()

    deadlines = Deadlines[int](4, timers, fail_once)
    deadlines.begin(1)
    deadlines.begin(2)
    with pytest.raises(ProviderDownError):
        timers.advance(4)
    timers.advance()
    assert late == [1, 2]
    deadlines.begin(3)
    timers.advance(4)
    assert late == [1, 2, 3]


def test_one_timer_watches_many_calls() -> None:
    """It moves to the oldest that is left, and is set anew for the next call after all have ended."""
    timers, late = PlantedTimers(), list[int]()
    deadlines = Deadlines[int](4, timers, late.append)
    first = deadlines.begin(1)
    timers.advance(1)
    second = deadlines.begin(2)
    deadlines._watch()
    assert len(timers.waiting) == 1
    assert deadlines.end(first)
    timers.advance(3.5)
    assert not late
    timers.advance(1)
    assert late == [2]
    assert not deadlines.end(second)
    deadlines.begin(3)
    timers.advance(4)
    assert late == [2, 3]


def test_what_ends_in_the_moment_that_it_becomes_late_is_not_late() -> None:
    """Whoever takes the entry settles; here the call does, while the timer is at another one."""
    timers, late = PlantedTimers(), list[int]()

    def end_the_other(what: int) -> None:
        """End the other call in time."""
        late.append(what)
        deadlines.end(second)

    deadlines = Deadlines[int](4, timers, end_the_other)
    deadlines.begin(1)
    second = deadlines.begin(2)
    timers.advance(4)
    assert late == [1]


@pytest.mark.parametrize(("late_seconds", "is_late"), [(0.1, True), (0.5, False)])
def test_a_timer_that_is_a_little_late_is_no_pause_of_the_process(late_seconds: float, is_late: bool) -> None:
    """Busy threads take so much from each other; a deadline that they could put off would be none."""
    timers, late = PlantedTimers(), list[str]()
    deadlines = Deadlines[str](1.0, timers, late.append)
    deadlines.begin("call")
    ((_, sweep),) = timers.waiting
    timers.seconds = 1.0 + late_seconds
    sweep()
    assert bool(late) is is_late


def test_a_slow_call_is_slow_whatever_the_process_did() -> None:
    """It took that long; no pause makes it fast."""
    timers, slow = PlantedTimers(), list[str]()
    deadlines = Deadlines[str](1.0, timers, slow.append, is_patient=False)
    deadlines.begin("call")
    ((_, sweep),) = timers.waiting
    timers.seconds = 60.0
    sweep()
    assert slow == ["call"]


def test_the_word_for_a_late_call_is_not_asked_for(store: TellingStore) -> None:
    """`describe_error` might take its time, in the thread that has to tell of every late call."""
    asked: list[BaseException] = []

    def describe(error: BaseException) -> str:
        """Note that it was asked."""
        asked.append(error)
        return "late"

    breaker = CircuitBreaker("stripe", store, BreakerConfig(call_timeout_seconds=4), describe_error=describe)
    permit = breaker.admit()
    breaker._count_as_late(permit)
    view = store.snapshot("stripe")
    assert view is not None
    assert (view.last_error, asked) == ("CallTimeoutError", [])


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # The store was about to take a step.
@pytest.mark.parametrize("consistency", [Consistency.MIRRORED, Consistency.STRICT])
@pytest.mark.parametrize("is_first", [True, False])
def test_an_interrupted_call_is_not_counted_as_late(consistency: Consistency, *, is_first: bool) -> None:
    """Whenever Ctrl-C comes, nobody watches a call that has ended or was not made, and it counts as nothing."""
    for moment in count(1):
        store = TellingStore(ManualClock())
        breaker = CircuitBreaker("stripe", store, BreakerConfig(call_timeout_seconds=4, consistency=consistency))
        if not is_first:
            breaker.call(works)
            store.planted.advance(5)  # Or the timer that it set would do for the next one as well.
        interrupted = is_signalled(lambda: breaker.call(works), moment)  # noqa: B023 - called at once
        assert not breaker._calls._running, f"after moment {moment}"
        breaker.call(works)
        store.planted.advance(5)
        assert Outcome.FAILURE not in {report.outcome for report in store.reports}, f"after moment {moment}"
        if not interrupted:
            break
    assert moment > 5


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # The store was about to take a step.
def test_a_block_that_was_not_entered_is_not_counted_as_late() -> None:
    """Whenever Ctrl-C comes, nobody leaves it, and it counts as nothing."""
    for moment in count(1):
        store = TellingStore(ManualClock())
        breaker = CircuitBreaker("stripe", store, BreakerConfig(call_timeout_seconds=4))
        if not is_signalled(breaker.__enter__, moment):
            break
        assert not breaker._calls._running, f"after moment {moment}"
        breaker.call(works)
        store.planted.advance(5)
        assert Outcome.FAILURE not in {report.outcome for report in store.reports}, f"after moment {moment}"
    assert moment > 50
