"""Blocks of threads, wherever they are left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from breaker import (
    State,
)
from breaker.sync import CircuitBreaker
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
