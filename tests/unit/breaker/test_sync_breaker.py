"""What the breaker for threads promises its callers, on a store in memory whose time the test moves."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from breaker import (
    BreakerConfig,
    BreakerEvent,
    CallNotPermittedError,
    ConfigError,
    Consecutive,
    Consistency,
    EventKind,
    FailureRate,
    Mode,
    OnStoreError,
    OpenFor,
    Outcome,
    Override,
    State,
    StoreUnavailableError,
)
from breaker import MemoryStore as TaskStore
from breaker.sync import CircuitBreaker, MemoryStore
from breaker.sync._blocks import OpenBlocks
from tests.support.processes import wait_until
from tests.support.stores import ManualClock
from tests.unit.breaker.sync_support import ProviderDownError, TellingStore, fails, in_thread, works

NAME = "stripe"
CONFIG = BreakerConfig(policy=Consecutive(3), cooldown_seconds=30, call_timeout_seconds=4)
RATE = BreakerConfig(policy=FailureRate(minimum_calls=4), cooldown_seconds=30)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> TellingStore:
    """A store on that clock."""
    return TellingStore(clock)


@pytest.fixture(params=[Consistency.MIRRORED, Consistency.STRICT])
def config(request: pytest.FixtureRequest) -> BreakerConfig:
    """Both consistency levels keep the same promises."""
    return BreakerConfig(policy=Consecutive(3), cooldown_seconds=30, call_timeout_seconds=4, consistency=request.param)


def fail(breaker: CircuitBreaker, times: int) -> None:
    """Make failing calls."""
    for _ in range(times):
        with pytest.raises(ProviderDownError):
            breaker.call(fails)


def half_open(breaker: CircuitBreaker, store: TellingStore, clock: ManualClock) -> None:
    """Trip the circuit, and let the cooldown pass; the copy of it learns that from the message."""
    fail(breaker, 3)
    clock.advance(31)
    store.lose_messages()


def state_of(store: MemoryStore) -> State:
    """Read the circuit's state."""
    view = store.snapshot(NAME)
    assert view is not None
    return view.state


def test_a_call_keeps_its_result_and_its_arguments(store: TellingStore, config: BreakerConfig) -> None:
    """Values go in and come out as they are, by either way of calling."""
    breaker = CircuitBreaker(NAME, store, config)

    @breaker
    def charge(amount: int, *, currency: str) -> str:
        """Charge."""
        return f"{amount} {currency}"

    for _ in range(2):
        assert charge(5, currency="EUR") == "5 EUR"
        assert breaker.call(charge, 6, currency="USD") == "6 USD"
    assert charge.__name__ == "charge"
    assert (breaker.name, breaker.config) == (NAME, config)


def test_arguments_may_have_any_names(store: TellingStore, clock: ManualClock, config: BreakerConfig) -> None:
    """Those of the breaker's own parameters as well, on the first call, on every later one and on a stream."""
    breaker = CircuitBreaker(NAME, store, config)

    def names(**names: object) -> list[str]:
        """Say what arrived."""
        return sorted(names)

    def stream(**names: object) -> Iterator[str]:
        """Say what arrived, one by one."""
        yield from sorted(names)

    half_open(breaker, store, clock)
    for _ in range(2):
        assert breaker.call(names, function=1, permit=2, self=3) == ["function", "permit", "self"]
        assert list(breaker(stream)(function=1, permit=2, self=3)) == ["function", "permit", "self"]
    assert state_of(store) is State.CLOSED


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


def test_a_method_can_be_decorated(store: TellingStore) -> None:
    """The guarded function is bound as the plain one is, a stream as well."""
    breaker = CircuitBreaker(NAME, store, CONFIG)

    class Provider:
        amount = 7

        @breaker
        def charge(self) -> int:
            return self.amount

        @breaker
        def stream(self) -> Iterator[int]:
            yield self.amount

    assert Provider().charge() == 7
    assert list(Provider().stream()) == [7]


def test_what_is_for_tasks_is_refused_at_the_door(store: TellingStore) -> None:
    """A coroutine function would return at once and count as a success."""
    breaker = CircuitBreaker(NAME, store, CONFIG)

    async def charge() -> None:
        """Return a coroutine."""

    async def stream() -> Any:
        """Return an async generator."""
        yield 1

    for function in (charge, stream, partial(charge)):
        with pytest.raises(TypeError, match=r"breaker\.CircuitBreaker"):
            breaker(function)
        with pytest.raises(TypeError, match=r"breaker\.CircuitBreaker"):
            breaker.call(function)
    assert not store.asked
    with pytest.raises(ConfigError):
        CircuitBreaker("no name", store)


def test_failures_trip_and_the_refusal_says_why(store: TellingStore, clock: ManualClock, config: BreakerConfig) -> None:
    """Three in a row open the circuit; nothing is called then."""
    breaker = CircuitBreaker(NAME, store, config)
    breaker.call(works)
    fail(breaker, 3)
    clock.advance(10)
    reached: list[int] = []
    with pytest.raises(CallNotPermittedError) as refused:
        breaker.call(reached.append, 1)
    assert not reached
    assert (refused.value.state, refused.value.last_error) == (State.OPEN, "ProviderDownError")
    assert breaker.status.state is State.OPEN
    assert breaker.status.refused == {"open": 1}


def test_a_success_resets_the_count_once_for_all(store: TellingStore) -> None:
    """Of the successes after a failure one is reported, and nobody waits for it."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    breaker.call(works)
    fail(breaker, 2)
    for _ in range(5):
        breaker.call(works)
    assert [report.outcome for report in store.reports] == [Outcome.FAILURE, Outcome.FAILURE]
    store.planted.advance()
    assert [report.outcome for report in store.reports[2:]] == [Outcome.SUCCESS]
    fail(breaker, 2)
    assert state_of(store) is State.CLOSED


def test_a_healthy_mirrored_call_asks_and_tells_nothing(store: TellingStore) -> None:
    """The first call asks; the copy answers the others."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    for _ in range(100):
        breaker.call(works)
    assert len(store.asked) == 1
    assert not store.reports


def test_a_probe_closes_or_reopens(store: TellingStore, clock: ManualClock, config: BreakerConfig) -> None:
    """After the cooldown one call finds out."""
    breaker = CircuitBreaker(NAME, store, config)
    half_open(breaker, store, clock)
    fail(breaker, 1)
    assert state_of(store) is State.OPEN
    clock.advance(31)
    store.lose_messages()
    with breaker:
        pass
    assert state_of(store) is State.CLOSED


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_probe_gives_its_place_back(
    store: TellingStore, clock: ManualClock, config: BreakerConfig, interruption: type[BaseException]
) -> None:
    """It decides nothing, and the next caller is the probe."""
    breaker = CircuitBreaker(NAME, store, config)
    half_open(breaker, store, clock)

    def interrupted() -> None:
        """Press Ctrl-C."""
        raise interruption

    for _ in range(2):
        with pytest.raises(interruption):
            breaker.call(interrupted)
        assert state_of(store) is State.HALF_OPEN
    assert breaker.call(works) == "charged"
    assert state_of(store) is State.CLOSED


def test_who_is_interrupted_while_asking_gives_back_what_may_have_been_granted(
    store: TellingStore, clock: ManualClock
) -> None:
    """The answer is lost, so the place is given back unseen."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    half_open(breaker, store, clock)
    store.fails_with = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        breaker.call(works)
    store.fails_with = None
    store.planted.advance()
    assert (store.reports[-1].generation, store.reports[-1].outcome) == (0, Outcome.IGNORED)


def test_who_is_interrupted_while_reporting_has_it_reported_again(
    store: TellingStore, clock: ManualClock, config: BreakerConfig
) -> None:
    """The report may have been lost on its way, and a probe would keep its place; arriving twice it counts once."""
    breaker = CircuitBreaker(NAME, store, config)
    half_open(breaker, store, clock)

    def works_at_the_end() -> None:
        """Have the user press Ctrl-C a moment later."""
        store.fails_with = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        breaker.call(works_at_the_end)
    store.fails_with = None
    assert state_of(store) is State.HALF_OPEN
    store.planted.advance()
    assert state_of(store) is State.CLOSED
    assert store.reports[-2] == store.reports[-1]


def test_a_block_is_guarded_and_blocks_can_be_nested(store: TellingStore) -> None:
    """Each block settles its own permit."""
    outer, inner = CircuitBreaker("outer", store, CONFIG), CircuitBreaker(NAME, store, CONFIG)
    for _ in range(2):
        with pytest.raises(ProviderDownError), outer, inner, inner:
            fails()
    view = store.snapshot("outer")
    assert view is not None
    assert (view.state, view.failures) == (State.CLOSED, 2)
    assert state_of(store) is State.OPEN


def test_blocks_of_generators_that_take_turns_settle_their_own_circuits(store: TellingStore) -> None:
    """The one whose dependency fails opens its circuit, and the healthy one keeps its own closed."""
    healthy, failing = CircuitBreaker("healthy", store, CONFIG), CircuitBreaker(NAME, store, CONFIG)

    def in_block(breaker: CircuitBreaker, end: Callable[[], object]) -> Iterator[None]:
        """Stay in a block, and end."""
        with breaker:
            yield
            end()

    for _ in range(3):
        first, second = in_block(failing, fails), in_block(healthy, works)
        next(first)
        next(second)
        with pytest.raises(ProviderDownError):
            next(first)
        assert not list(second)
    view = store.snapshot("healthy")
    assert view is not None
    assert (view.state, view.failures) == (State.CLOSED, 0)
    assert state_of(store) is State.OPEN


def test_a_block_may_be_left_in_another_thread_than_it_was_entered_in(store: TellingStore, clock: ManualClock) -> None:
    """As where a pool of threads goes on with a generator."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    half_open(breaker, store, clock)
    in_thread(breaker.__enter__).join(20)
    in_thread(lambda: breaker.__exit__(None, None, None)).join(20)
    assert state_of(store) is State.CLOSED


def test_a_thread_leaves_its_own_blocks_first_and_then_those_of_ended_threads(store: TellingStore) -> None:
    """A thread that still runs will leave its own block itself."""
    permit, blocks, go_on = CircuitBreaker(NAME, store).admit(), OpenBlocks(), threading.Event()

    def stay() -> None:
        """Enter a block, and stay."""
        blocks.enter(2, permit)
        go_on.wait(20)

    in_thread(lambda: blocks.enter(1, permit)).join(20)
    staying = in_thread(stay)
    wait_until(lambda: len(blocks._of_threads) == 2, "both are in")
    blocks.enter(3, permit)
    blocks.enter(4, permit)
    assert [blocks.leave() for _ in range(5)] == [(4, permit), (3, permit), (1, permit), (2, permit), None]
    go_on.set()
    staying.join(20)


def test_leaving_a_block_that_nobody_entered_does_nothing(store: TellingStore) -> None:
    """It never replaces the result of what ran in it."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    breaker.__exit__(ProviderDownError, ProviderDownError(), None)
    assert not store.reports


def test_a_permit_is_settled_once(store: TellingStore) -> None:
    """Whatever comes after the first settling does nothing."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    permit = breaker.admit()
    assert (permit.state, permit.generation) == (State.CLOSED, 1_766_000_000_000)
    permit.settle(Outcome.FAILURE, "a word of mine")
    permit.returned("charged")
    permit.raised(ProviderDownError())
    assert len(store.reports) == 1
    view = store.snapshot(NAME)
    assert view is not None
    assert (view.failures, view.last_error) == (1, "a word of mine")


def test_classifiers_say_what_counts(store: TellingStore) -> None:
    """By exception, by result, and as a failure that says itself how long to stay away; the word is theirs as well."""
    breaker = CircuitBreaker(
        NAME,
        store,
        CONFIG,
        classify_error=lambda error: Outcome.IGNORED if isinstance(error, ValueError) else OpenFor(90),
        classify_result=lambda result: Outcome.FAILURE if result == "declined" else Outcome.SUCCESS,
        describe_error=lambda _: "rate limited",
    )
    breaker.call(works)
    for _ in range(3):
        with pytest.raises(ValueError, match="literal"):
            breaker.call(int, "five")
    assert not store.reports
    for _ in range(2):
        assert breaker.call(str, "declined") == "declined"
    fail(breaker, 1)
    view = store.snapshot(NAME)
    assert view is not None
    assert (view.state, view.last_error, view.retry_after_seconds) == (State.OPEN, "rate limited", 90)


def test_outcomes_of_a_rate_are_told_together(store: TellingStore) -> None:
    """Successes wait for the flush or for the next failure, whichever comes first."""
    breaker = CircuitBreaker(NAME, store, RATE)
    for _ in range(3):
        breaker.call(works)
    assert not store.reports
    store.planted.advance(0.1)
    assert [report.calls for report in store.reports] == [3]
    breaker.call(works)
    fail(breaker, 1)
    assert (store.reports[-1].calls, store.reports[-1].failures) == (2, 1)
    store.planted.advance(1)
    assert len(store.reports) == 2
    breaker.call(works)
    breaker.close()
    assert store.reports[-1].calls == 1


def test_peek_asks_only_when_the_copy_does_not_know(store: TellingStore, clock: ManualClock) -> None:
    """It changes nothing and says what a call would be told."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    assert breaker.peek() is None
    breaker.call(works)
    assert breaker.peek() is None
    fail(breaker, 3)
    refused = breaker.peek()
    assert refused is not None
    assert refused.reason == "open"
    strict = CircuitBreaker(NAME, store, BreakerConfig(consistency=Consistency.STRICT))
    refused = strict.peek()
    assert refused is not None
    assert refused.retry_after_seconds == 30
    clock.advance(31)
    assert strict.peek() is None


def test_an_operators_mode_holds(store: TellingStore, config: BreakerConfig) -> None:
    """Forced open refuses, and `auto` ends it."""
    breaker = CircuitBreaker(NAME, store, config)
    breaker.call(works)
    store.control(NAME, Override(mode=Mode.FORCED_OPEN, reason="maintenance", actor="anna"))
    store.tell(NAME)
    with pytest.raises(CallNotPermittedError, match="forced_open"):
        breaker.call(works)
    store.control(NAME, Override(mode=Mode.AUTO, reason="done", actor="anna"))
    store.tell(NAME)
    assert breaker.call(works) == "charged"
    assert [entry.by for entry in store.events(NAME)] == ["anna", "anna"]
    assert store.names() == [NAME]


@pytest.mark.parametrize(
    ("on_store_error", "reached"), [(OnStoreError.LOCAL, 3), (OnStoreError.PERMIT, 5), (OnStoreError.REFUSE, 0)]
)
def test_while_the_store_is_away_the_call_is_guarded_as_configured(
    store: TellingStore, on_store_error: OnStoreError, reached: int
) -> None:
    """By the local layer, not at all, or not let through."""
    breaker = CircuitBreaker(NAME, store, BreakerConfig(policy=Consecutive(3), on_store_error=on_store_error))
    store.fails_with, store.is_degraded = StoreUnavailableError("away"), True
    calls: list[int] = []

    def failing() -> None:
        """Note the call, and fail."""
        calls.append(1)
        raise ProviderDownError

    for _ in range(5):
        with pytest.raises((ProviderDownError, CallNotPermittedError)):
            breaker.call(failing)
    assert len(calls) == reached
    assert breaker.status.degraded
    assert (breaker.peek() is not None) is (on_store_error is OnStoreError.LOCAL)


@pytest.mark.parametrize("fault", [StoreUnavailableError("away"), RuntimeError("a bug")])
def test_a_lost_report_changes_nothing_for_the_caller(store: TellingStore, fault: Exception) -> None:
    """The call's own result or exception comes out, and the failure counts in the local layer."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    breaker.call(works)
    store.fails_with = fault
    fail(breaker, 2)
    assert breaker.call(works) == "charged"
    fail(breaker, 3)
    store.lose_messages()
    store.fails_with = StoreUnavailableError("away")
    with pytest.raises(CallNotPermittedError):
        breaker.call(works)


def test_a_circuit_that_the_store_forgot_begins_anew_with_the_failure(store: TellingStore) -> None:
    """The report is what finds out, and it counts."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    breaker.call(works)
    store._circuits._records.clear()
    fail(breaker, 1)
    view = store.snapshot(NAME)
    assert view is not None
    assert view.failures == 1


def test_a_replica_that_fails_alone_stays_away_by_itself(store: TellingStore) -> None:
    """The fleet's circuit waits for a second reporter; this replica is its outlier until a call of its own succeeds."""
    events: list[BreakerEvent] = []
    config = BreakerConfig(policy=Consecutive(2), minimum_reporters=2, cooldown_seconds=0.001)
    breaker = CircuitBreaker(NAME, store, config, replica_id="api-1", listeners=[events.append])
    breaker.call(works)
    fail(breaker, 2)
    assert EventKind.OUTLIER in {event.kind for event in events}
    assert state_of(store) is State.CLOSED
    assert breaker.status.isolated
    while breaker.peek() is not None:
        pass
    assert breaker.call(works) == "charged"
    assert not breaker.status.isolated


def test_a_ramp_lets_traffic_back_gradually(store: TellingStore, clock: ManualClock) -> None:
    """Right after closing the store decides who goes through."""
    config = BreakerConfig(policy=Consecutive(3), cooldown_seconds=30, ramp_seconds=60, call_timeout_seconds=4)
    breaker = CircuitBreaker(NAME, store, config)
    half_open(breaker, store, clock)
    breaker.call(works)
    reasons = set()
    for _ in range(60):
        try:
            breaker.call(works)
        except CallNotPermittedError as refused:
            reasons.add(refused.reason)
    assert reasons == {"ramping"}


def test_listeners_are_told_outside_of_the_turn_and_harm_nobody(
    store: TellingStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A listener may use the breaker; one that raises is logged."""
    seen: list[tuple[str, str]] = []

    def look(event: BreakerEvent) -> None:
        """Use the breaker from within."""
        seen.append((event.kind, breaker.status.state))

    def broken(_: BreakerEvent) -> None:
        """Raise what is left."""
        raised = raises.pop(0)
        if raised is not None:
            raise raised

    raises = [ProviderDownError, SystemExit, None, KeyboardInterrupt]
    breaker = CircuitBreaker(NAME, store, CONFIG, listeners=[broken, look])
    fail(breaker, 3)
    for _ in range(3):
        with pytest.raises(CallNotPermittedError):
            breaker.call(works)
    assert seen == [("tripped", "open"), *[("refused", "open")] * 3]
    assert caplog.text.count("a listener failed") == 2, "once, and again after it has worked"


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


def test_closing_reports_what_waits(store: TellingStore) -> None:
    """A success that nobody waited for is told at the latest now."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    breaker.call(works)
    fail(breaker, 1)
    breaker.call(works)
    breaker.close()
    view = store.snapshot(NAME)
    assert view is not None
    assert view.failures == 0


def probing(store: TellingStore, probe: Callable[[], object]) -> CircuitBreaker:
    """Make a breaker with a background probe, on the time of the timers that it waits for."""
    breaker = CircuitBreaker(NAME, store, CONFIG, probe=probe)
    breaker._circuit.known.clock = store.planted.now
    return breaker


def test_a_background_probe_closes_the_circuit_and_no_caller_is_the_probe(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails once, is made again after another cooldown, and closes the circuit."""
    monkeypatch.setattr("breaker.sync._prober.started", lambda run, _: run() or True)
    answers: list[Callable[[], str]] = [works, fails]

    def probe() -> str:
        """Answer."""
        return answers.pop()()

    breaker = probing(store, probe)
    fail(breaker, 3)
    clock.advance(31)
    with pytest.raises(CallNotPermittedError):
        breaker.call(works)
    store.planted.advance(30)
    assert state_of(store) is State.OPEN
    clock.advance(31)
    store.planted.advance(30)
    assert state_of(store) is State.CLOSED
    assert breaker.call(works) == "charged"
    assert not answers


def test_a_background_probe_waits_while_another_replica_probes(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, it comes back when the other's lease has lapsed."""
    monkeypatch.setattr("breaker.sync._prober.started", lambda run, _: run() or True)
    breaker = probing(store, works)
    fail(breaker, 3)
    clock.advance(31)
    other = store.acquire(NAME, "of another", CONFIG.limits(), "api-2")
    assert other.state is State.HALF_OPEN
    store.planted.advance(30)
    assert state_of(store) is State.HALF_OPEN
    clock.advance(6)
    store.planted.advance(36)
    assert state_of(store) is State.CLOSED
    assert breaker.call(works) == "charged"


def test_a_background_probe_without_a_thread_gives_its_place_back(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that can start no thread tries again a little later."""
    monkeypatch.setattr("breaker.sync._prober.started", lambda *_: None)
    probing(store, works).call(works)
    breaker = probing(store, works)
    fail(breaker, 3)
    clock.advance(31)
    store.planted.advance(30)
    view = store.snapshot(NAME)
    assert view is not None
    assert (view.state, view.probes_out) == (State.HALF_OPEN, 0)
    monkeypatch.setattr("breaker.sync._prober.started", lambda run, _: run() or True)
    store.planted.advance(2)
    assert state_of(store) is State.CLOSED


@pytest.mark.parametrize("is_closed_before_it_runs", [True, False])
def test_closing_gives_the_place_of_a_background_probe_back(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, *, is_closed_before_it_runs: bool
) -> None:
    """Of one that is on its way as well; whatever comes of it later is not reported."""
    probed: list[bool] = []

    def probe() -> None:
        """Have the breaker closed meanwhile."""
        probed.append(True)
        breaker.close()

    def start(run: Callable[[], None], _: str) -> bool:
        """Start the probe's thread, or have the breaker closed before it runs."""
        if is_closed_before_it_runs:
            breaker.close()
        run()
        return True

    monkeypatch.setattr("breaker.sync._prober.started", start)
    breaker = probing(store, probe)
    fail(breaker, 3)
    clock.advance(31)
    store.planted.advance(30)
    view = store.snapshot(NAME)
    assert view is not None
    assert (view.state, view.probes_out) == (State.HALF_OPEN, 0)
    assert [report.outcome for report in store.reports[3:]] == [Outcome.IGNORED]
    assert bool(probed) is not is_closed_before_it_runs


@pytest.mark.parametrize("closed_first", [True, False])
def test_a_closed_breaker_probes_no_more(store: TellingStore, clock: ManualClock, *, closed_first: bool) -> None:
    """Neither a probe that is due nor one that was refused is tried again."""
    breaker = probing(store, works)
    fail(breaker, 3)
    clock.advance(31)
    store.acquire(NAME, "of another", CONFIG.limits(), "api-2")
    if not closed_first:
        store.planted.advance(30)
    breaker.close()
    asked = len(store.asked)
    clock.advance(31)
    store.planted.advance(60)
    assert len(store.asked) == asked


def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a probe run in the thread that would start one for it."""
    monkeypatch.setattr("breaker.sync._prober.started", lambda run, _: run() or True)


def test_a_background_probe_does_not_sleep_through_an_operators_change_of_mind(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced open for an hour and released at once: the probe is made when the cooldown is over."""
    at_once(monkeypatch)
    breaker = probing(store, works)
    fail(breaker, 3)
    hour = Override(mode=Mode.FORCED_OPEN, reason="works on it", actor="anna", duration_ms=3_600_000)
    store.control(NAME, hour)
    store.tell(NAME)
    store.control(NAME, Override(mode=Mode.AUTO, reason="done", actor="anna"))
    store.tell(NAME)
    clock.advance(31)
    store.planted.advance(31)
    assert state_of(store) is State.CLOSED


def test_a_background_probe_asks_once_a_minute_though_nobody_tells_it_anything(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may tell nothing of what an operator changes."""
    at_once(monkeypatch)
    breaker = probing(store, works)
    fail(breaker, 3)
    hour = Override(mode=Mode.FORCED_OPEN, reason="works on it", actor="anna", duration_ms=3_600_000)
    store.control(NAME, hour)
    store.tell(NAME)
    store.control(NAME, Override(mode=Mode.AUTO, reason="done", actor="anna"))
    clock.advance(61)
    store.planted.advance(61)
    assert state_of(store) is State.CLOSED


def test_where_everything_goes_through_a_background_probe_finds_nothing_out(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A permit that is no probe's starts no probe, and asking is repeated seldom."""
    at_once(monkeypatch)
    probes: list[None] = []
    breaker = probing(store, lambda: probes.append(None))
    fail(breaker, 3)
    clock.advance(31)
    store.acquire(NAME, "of another", CONFIG.limits(), "api-2")
    store.control(NAME, Override(mode=Mode.FORCED_CLOSED, reason="it works", actor="anna"))
    store.lose_messages()
    breaker.call(works)
    asked = len(store.asked)
    store.planted.advance(100)
    assert probes == []
    assert 2 <= len(store.asked) - asked <= 4


def test_a_background_probe_that_decides_nothing_is_made_again_after_a_pause(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place is given back, and what would come out at once is not tried at once."""
    at_once(monkeypatch)
    probes: list[float] = []

    def probe() -> None:
        probes.append(store.planted.now())
        raise KeyboardInterrupt

    breaker = probing(store, probe)
    fail(breaker, 3)
    clock.advance(31)
    store.planted.advance(33)
    assert probes == pytest.approx([30, 31, 32, 33], abs=0.1)


def test_a_breaker_that_is_closed_while_its_background_probe_asks_makes_no_probe(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place that it is given is given back."""
    at_once(monkeypatch)
    probes: list[None] = []
    breaker = probing(store, lambda: probes.append(None))
    fail(breaker, 3)
    clock.advance(31)
    really = store.acquire

    def closes(*args: Any, **options: Any) -> Any:
        breaker.close()
        return really(*args, **options)

    monkeypatch.setattr(store, "acquire", closes)
    store.planted.advance(31)
    view = store.snapshot(NAME)
    assert view is not None
    assert (view.state, view.probes_out, probes) == (State.HALF_OPEN, 0, [])


def test_a_store_for_tasks_is_refused_at_the_door() -> None:
    """The message says which breaker is for it."""
    with pytest.raises(ConfigError, match=r"breaker\.CircuitBreaker"):
        CircuitBreaker(NAME, TaskStore())  # type: ignore[arg-type]
