"""What the breaker for threads promises its callers, on a store in memory whose time the test moves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
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
    View,
)
from breaker import MemoryStore as TaskStore
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

RATE = BreakerConfig(policy=FailureRate(minimum_calls=4), cooldown_seconds=30)


Door = Callable[[CircuitBreaker, Callable[[], str]], str]


def by_block(breaker: CircuitBreaker, function: Callable[[], str]) -> str:
    """Guard a call by a block."""
    with breaker:
        return function()


def by_permit(breaker: CircuitBreaker, function: Callable[[], str]) -> str:
    """Guard a call by a permit."""
    permit = breaker.admit()
    try:
        result = function()
    except ProviderDownError as error:
        permit.raised(error)
        raise
    permit.returned(result)
    return result


def by_decorator(breaker: CircuitBreaker, function: Callable[[], str]) -> str:
    """Guard a call by the decorator."""
    return breaker(function)()


DOORS = [by_decorator, by_block, by_permit]


@pytest.fixture(params=[Consistency.MIRRORED, Consistency.STRICT])
def config(request: pytest.FixtureRequest) -> BreakerConfig:
    """Both consistency levels keep the same promises."""
    return BreakerConfig(policy=Consecutive(3), cooldown_seconds=30, call_timeout_seconds=4, consistency=request.param)


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
    assert store.reports[-3] == store.reports[-2]
    assert store.reports[-1].outcome is Outcome.IGNORED, "and its place would be given back, had that got lost as well"


def test_a_settled_permit_asks_no_classifier(store: TellingStore) -> None:
    """Neither about a result nor about an error that comes after."""
    asked: list[object] = []

    def classify(what: object) -> Outcome:
        asked.append(what)
        return Outcome.FAILURE

    permit = CircuitBreaker(NAME, store, CONFIG, classify_result=classify, classify_error=classify).admit()
    permit.settle(Outcome.SUCCESS)
    permit.returned("charged")
    permit.raised(ProviderDownError())
    assert not asked


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


@pytest.mark.parametrize("door", DOORS)
def test_a_lost_report_of_a_probe_changes_nothing_for_its_caller(
    store: TellingStore, clock: ManualClock, config: BreakerConfig, door: Door
) -> None:
    """However a call is guarded, its result comes out although the store went away while it ran."""
    breaker = CircuitBreaker(NAME, store, config)
    half_open(breaker, store, clock)

    def probes() -> str:
        """Succeed, but not before the store is away."""
        store.fails_with, store.is_degraded = StoreUnavailableError("away"), True
        return "charged"

    assert door(breaker, probes) == "charged"
    assert len(store.reports) == 4, "the probe was reported in vain"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("end", [works, fails])
@pytest.mark.parametrize("moment", [State.OPEN, State.HALF_OPEN, State.CLOSED])
def test_a_straggler_of_the_closed_era_counts_for_nothing(
    store: TellingStore, clock: ManualClock, config: BreakerConfig, *, moment: State, end: Callable[[], str], door: Door
) -> None:
    """A call from before the trip comes back while open, beside a probe or after the close, and moves nothing."""
    breaker = CircuitBreaker(NAME, store, config)
    fail(breaker, 1)  # From here on a success would be reported: it ends a run of failures.
    seen: list[View | None] = []

    def straggles() -> str:
        """Go on while the circuit trips, and perhaps recovers."""
        breaker.call(works)
        store.planted.advance()  # Nobody waits for a success to be told.
        half_open(breaker, store, clock)
        if moment is State.HALF_OPEN:
            breaker.admit()
        if moment is State.CLOSED:
            breaker.call(works)
            fail(breaker, 1)
        seen.append(store.snapshot(NAME))
        return end()

    with contextlib.suppress(ProviderDownError):
        assert door(breaker, straggles) == "charged"
    store.planted.advance()
    assert state_of(store) is moment
    assert seen == [store.snapshot(NAME)]


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


def test_a_store_for_tasks_is_refused_at_the_door() -> None:
    """The message says which breaker is for it."""
    with pytest.raises(ConfigError, match=r"breaker\.CircuitBreaker"):
        CircuitBreaker(NAME, TaskStore())  # type: ignore[arg-type]
