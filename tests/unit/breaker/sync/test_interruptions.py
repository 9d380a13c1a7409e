"""Signal handlers that raise or make calls of their own, at every moment at which Python runs them."""

from __future__ import annotations

import contextlib
from functools import partial
from itertools import count

import pytest

from breaker import (
    BreakerConfig,
    CallNotPermittedError,
    Consecutive,
    Consistency,
    FailureRate,
    Outcome,
    State,
)
from breaker.sync import CircuitBreaker, Permit
from breaker.sync._guard import StoreGuard
from tests.support.stores import ManualClock
from tests.unit.breaker.sync.support import (
    ProviderDownError,
    TellingStore,
    fail,
    fails,
    half_open,
    in_thread,
    is_signalled,
    state_of,
    works,
)

# The store in memory was about to take a step.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")


@pytest.mark.parametrize("consistency", [Consistency.MIRRORED, Consistency.STRICT])
def test_an_interruption_leaves_nothing_locked(consistency: Consistency) -> None:
    """Whenever Ctrl-C comes, others go on using the circuit, calls are watched, and it is followed if it has to be."""
    for moment in count(1):
        store = TellingStore(ManualClock())
        breaker = CircuitBreaker("stripe", store, BreakerConfig(consistency=consistency), listeners=[lambda _: None])
        interrupted = is_signalled(lambda: breaker.call(breaker.admit), moment)  # noqa: B023 - called at once
        using = in_thread(lambda: (breaker.call(works), store.snapshot("stripe")))  # noqa: B023 - joined at once
        using.join(20)
        assert not using.is_alive(), f"after moment {moment}"
        assert bool(store._followers) is (consistency is Consistency.MIRRORED), f"after moment {moment}"
        assert store.planted.waiting, f"after moment {moment}"
        if not interrupted:
            break
    assert moment > 50


def test_after_an_interruption_what_waits_is_reported_all_the_same() -> None:
    """Whenever Ctrl-C comes, the successes of a rate are told in time."""
    for moment in count(1):
        store = TellingStore(ManualClock())
        breaker = CircuitBreaker("stripe", store, BreakerConfig(policy=FailureRate()))
        breaker.call(works)
        store.planted.advance(1)
        store.reports.clear()
        interrupted = is_signalled(lambda: breaker.call(works), moment)  # noqa: B023 - called at once
        breaker.call(works)
        store.planted.advance(1)
        assert store.reports, f"after moment {moment}"
        if not interrupted:
            break
    assert moment > 20


def test_after_an_interruption_the_circuit_is_looked_after_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever Ctrl-C comes, a background probe is made when the cooldown is over."""
    monkeypatch.setattr("breaker.sync._prober.started", lambda run, _: run() or True)
    for moment in count(1):
        clock, probes = ManualClock(), list[int]()
        store = TellingStore(clock)
        config = BreakerConfig(policy=Consecutive(1), consistency=Consistency.STRICT)
        breaker = CircuitBreaker("stripe", store, config, probe=partial(probes.append, 1))
        breaker._circuit.known.clock = store.planted.now

        def trip(breaker: CircuitBreaker = breaker) -> None:
            """Fail."""
            with contextlib.suppress(ProviderDownError):
                breaker.call(fails)

        interrupted = is_signalled(trip, moment)
        with contextlib.suppress(ProviderDownError, CallNotPermittedError):
            breaker.call(fails)
        clock.advance(31)
        store.planted.advance(31)
        assert probes, f"after moment {moment}"
        if not interrupted:
            break
    assert moment > 50


def test_an_interrupted_command_gives_its_place_back() -> None:
    """Whenever Ctrl-C comes, the next command finds it free."""
    guard = StoreGuard(0.001, 1)
    for moment in count(1):
        interrupted = is_signalled(lambda: guard.run(works), moment)
        assert guard.run(works) == "charged", f"after moment {moment}"
        if not interrupted:
            break
    assert moment > 10


def test_a_signal_handler_may_make_guarded_calls_whenever_it_runs() -> None:
    """In the middle of another call of the same thread it waits for nothing that only this thread could give."""
    for moment in count(1):
        store, came = TellingStore(ManualClock()), list[bool]()
        breaker = CircuitBreaker("stripe", store)

        def call(moment: int, came: list[bool], breaker: CircuitBreaker) -> None:
            """Call, and make another call from a signal handler."""
            came.append(is_signalled(lambda: breaker.call(works), moment, lambda: breaker.call(works)))

        in_thread(partial(call, moment, came, breaker)).join(20)
        assert came, f"at moment {moment}"
        if not came[0]:
            break
    assert moment > 30


def test_an_interrupted_success_leaves_it_to_the_next_one_to_end_a_run_of_failures() -> None:
    """Whenever Ctrl-C comes, failures with successes between them do not trip."""
    for moment in count(1):
        store = TellingStore(ManualClock())
        breaker = CircuitBreaker("stripe", store, BreakerConfig(policy=Consecutive(3)))
        fail(breaker, 2)
        interrupted = is_signalled(lambda: breaker.call(works), moment)  # noqa: B023 - called at once
        breaker.call(works)
        store.planted.advance()
        fail(breaker, 1)
        assert state_of(store) is State.CLOSED, f"after moment {moment}"
        if not interrupted:
            break
    assert moment > 30


@pytest.mark.parametrize("consistency", [Consistency.MIRRORED, Consistency.STRICT])
def test_who_is_interrupted_while_asking_keeps_no_place(consistency: Consistency) -> None:
    """Whenever Ctrl-C comes while it asks, it is free again at once."""
    for moment in count(1):
        clock = ManualClock()
        store = TellingStore(clock)
        config = BreakerConfig(policy=Consecutive(3), consistency=consistency)
        breaker = CircuitBreaker("stripe", store, config)
        half_open(breaker, store, clock)
        if not is_signalled(breaker.admit, moment):
            break
        store.planted.advance()
        view = store.snapshot("stripe")
        assert view is not None
        assert view.probes_out == 0, f"after moment {moment}"
    assert moment > 50


@pytest.mark.parametrize("consistency", [Consistency.MIRRORED, Consistency.STRICT])
@pytest.mark.parametrize("error", [None, ProviderDownError()])
def test_an_interrupted_end_of_a_probe_keeps_no_place(consistency: Consistency, error: Exception | None) -> None:
    """Whenever Ctrl-C comes, it is settled or given back, or its holder may still do that."""
    for moment in count(1):
        clock = ManualClock()
        store = TellingStore(clock)
        config = BreakerConfig(policy=Consecutive(3), consistency=consistency)
        breaker = CircuitBreaker("stripe", store, config)
        half_open(breaker, store, clock)
        permit = breaker.admit()

        def end(permit: Permit = permit) -> None:
            """Say how it ended."""
            if error is None:
                permit.settle(Outcome.SUCCESS)
            else:
                permit.raised(error)

        interrupted = is_signalled(end, moment)
        permit.settle(Outcome.IGNORED)  # As whoever holds it does at last, and a call of the breaker's own.
        store.planted.advance()
        view = store.snapshot("stripe")
        assert view is not None
        assert view.probes_out == 0, f"after moment {moment}"
        if not interrupted:
            break
    assert moment > 30


def test_an_interrupted_second_end_of_a_probe_tells_nothing() -> None:
    """It is settled, perhaps by another thread whose report is still on its way: giving it back could overtake that."""
    clock = ManualClock()
    store = TellingStore(clock)
    breaker = CircuitBreaker("stripe", store, BreakerConfig(policy=Consecutive(3)))
    half_open(breaker, store, clock)
    permit = breaker.admit()
    permit.settle(Outcome.FAILURE)
    reported = len(store.reports)
    for moment in count(1):
        interrupted = is_signalled(lambda: permit.settle(Outcome.SUCCESS), moment)
        store.planted.advance()
        assert len(store.reports) == reported, f"after moment {moment}"
        if not interrupted:
            break
    assert moment > 3
