"""Blocks of threads, wherever they are left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from breaker import (
    BreakerConfig,
    Consistency,
    Outcome,
    State,
)
from breaker.sync import CircuitBreaker, Permit
from breaker.sync._blocks import OpenBlocks
from tests.support.processes import wait_until
from tests.support.stores import ManualClock
from tests.unit.breaker.sync.support import (
    CONFIG,
    NAME,
    ProviderDownError,
    TellingStore,
    fails,
    half_open,
    in_thread,
    is_signalled,
    state_of,
    works,
)


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

    def enter(number: int) -> None:
        """Enter a block."""
        blocks.enter((number, permit, threading.current_thread()))

    def stay() -> None:
        """Enter a block, and stay."""
        enter(2)
        go_on.wait(20)

    in_thread(lambda: enter(1)).join(20)
    staying = in_thread(stay)
    wait_until(lambda: len(blocks._of_threads) == 2, "both are in")
    enter(3)
    enter(4)
    for number in (4, 3, 1, 2):
        block = blocks.innermost()
        assert block is not None
        assert block[0] == number
        blocks.take_out(block)
    assert blocks.innermost() is None
    go_on.set()
    staying.join(20)


def test_a_block_that_was_not_entered_keeps_no_place(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever Ctrl-C comes after it was admitted, the place of a probe is free again."""
    for moment in count(1):
        breaker, admitted = CircuitBreaker(f"{NAME}-{moment}", store, CONFIG), list[bool]()
        half_open(breaker, store, clock)
        permit = breaker.admit()

        def admit(admitted: list[bool] = admitted, permit: Permit = permit) -> Permit:
            """Admit it, before anything can come between."""
            admitted.append(True)
            return permit

        monkeypatch.setattr(breaker, "admit", admit)
        if not is_signalled(breaker.__enter__, moment):
            break
        view = store.snapshot(breaker.name)
        assert view is not None
        assert view.probes_out == 0 or not admitted, f"after moment {moment}"
    assert moment > 5


def test_leaving_a_block_that_nobody_entered_does_nothing(store: TellingStore) -> None:
    """It never replaces the result of what ran in it."""
    breaker = CircuitBreaker(NAME, store, CONFIG)
    breaker.__exit__(ProviderDownError, ProviderDownError(), None)
    assert not store.reports


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # The store was about to take a step.
def test_a_signal_handler_may_enter_and_leave_blocks_whenever_it_runs() -> None:
    """The block in the middle of which it does so is found when it is left, and keeps its own result."""
    for moment in count(1):
        store = TellingStore(ManualClock())
        breaker = CircuitBreaker("stripe", store)

        def use(breaker: CircuitBreaker = breaker) -> None:
            """Enter a block, and leave it."""
            with breaker:
                works()

        came = is_signalled(use, moment, use)
        assert not breaker._open_blocks._of_threads, f"at moment {moment}"
        assert not breaker._calls._running, f"at moment {moment}"
        if not came:
            break
    assert moment > 50


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # The store was about to take a step.
def test_an_interrupted_block_does_not_stand_in_the_way_of_others() -> None:
    """Whenever Ctrl-C comes, another thread leaves the block of a generator that it did not enter."""
    for moment in count(1):
        breaker = CircuitBreaker("stripe", TellingStore(ManualClock()))

        def use(breaker: CircuitBreaker = breaker) -> None:
            """Enter a block, and leave it."""
            with breaker:
                works()

        interrupted, left = is_signalled(use, moment), list[bool]()

        def leave(left: list[bool] = left, breaker: CircuitBreaker = breaker) -> None:
            """Leave a block."""
            breaker.__exit__(None, None, None)
            left.append(True)

        in_thread(leave).join(20)
        assert left, f"after moment {moment}"
        if not interrupted:
            break
    assert moment > 50


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # The store was about to take a step.
def test_a_block_that_is_interrupted_as_it_is_entered_does_not_keep_the_one_around_it_open() -> None:
    """Whenever Ctrl-C comes, that one is left: nothing is watched any more and becomes a late call."""
    for moment in count(1):
        store = TellingStore(ManualClock())
        breaker = CircuitBreaker(NAME, store, CONFIG)
        with breaker:
            if not is_signalled(breaker.__enter__, moment):
                break
        assert not breaker._open_blocks._of_threads, f"after moment {moment}"
        store.planted.advance(5)
        assert Outcome.FAILURE not in {report.outcome for report in store.reports}, f"after moment {moment}"
    assert moment > 15


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # The store was about to take a step.
@pytest.mark.parametrize("consistency", [Consistency.MIRRORED, Consistency.STRICT])
def test_a_block_that_is_interrupted_as_it_is_left_is_not_counted_as_late(consistency: Consistency) -> None:
    """Whenever Ctrl-C comes, it is no open block, and counts as nothing."""
    # The first moment is the beginning of the function, before which nothing can be done.
    for moment in count(2):
        store = TellingStore(ManualClock())
        breaker = CircuitBreaker(NAME, store, BreakerConfig(call_timeout_seconds=4, consistency=consistency))
        breaker.__enter__()
        interrupted = is_signalled(lambda: breaker.__exit__(None, None, None), moment)  # noqa: B023 - called at once
        assert not breaker._open_blocks._of_threads, f"after moment {moment}"
        store.planted.advance(5)
        assert Outcome.FAILURE not in {report.outcome for report in store.reports}, f"after moment {moment}"
        if not interrupted:
            break
    assert moment > 10


def test_an_interruption_where_no_block_is_open_settles_nothing() -> None:
    """Whenever Ctrl-C comes."""
    store = TellingStore(ManualClock())
    breaker = CircuitBreaker(NAME, store)
    for moment in count(1):
        interrupted = is_signalled(lambda: breaker.__exit__(None, None, None), moment)
        assert store.reports == [], f"after moment {moment}"
        if not interrupted:
            break
    assert moment > 3
