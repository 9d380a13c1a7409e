"""The threads themselves: that they start when needed, survive what they run, end when told, and keep turns."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from breaker import (
    BreakerConfig,
    BreakerEvent,
    CallNotPermittedError,
    Consecutive,
    EventKind,
    State,
)
from breaker.sync import CircuitBreaker, MemoryStore
from breaker.sync._threads import Worker
from breaker.sync._timers import Timers
from breaker.sync._turn import Turn
from tests.support.processes import wait_until
from tests.support.stores import ManualClock
from tests.unit.breaker.sync.support import ProviderDownError, SignalledError, TellingStore, fails, in_thread, works


def test_timers_run_what_is_due_in_its_order_and_survive_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails is logged, and the rest runs."""
    timers, done, clock = Timers(), list[str](), ManualClock()
    monkeypatch.setattr(timers, "now", clock)
    timers.after(0.03, lambda: done.append("last"))
    timers.after(0.01, lambda: done.append("first"))
    timers.after(0.02, fails)  # type: ignore[arg-type] # what it returns is of no interest
    clock.advance(1)
    wait_until(lambda: len(done) == 2, "both have run")
    assert done == ["first", "last"]
    assert "what was due failed" in caplog.text
    timers.close()


def test_timers_end_when_closed() -> None:
    """The thread is gone afterwards, what was not due yet never runs, and nothing starts again."""
    timers, done = Timers(), list[int]()
    timers.after(60, lambda: done.append(1))
    assert timers._worker.is_alive()
    timers.close()
    assert not timers._worker.is_alive()
    timers.after(0, lambda: done.append(2))
    assert not timers._worker.is_alive()
    assert not done
    Timers().close()


def test_timers_can_be_closed_by_what_they_run() -> None:
    """A listener that closes the store does not wait for itself."""
    timers = Timers()
    timers.after(0, timers.close)
    thread = timers._worker._thread
    assert thread is not None
    thread.join(20)
    assert not thread.is_alive()


def test_timers_start_once_and_whoever_comes_second_does_not_wait() -> None:
    """It may be a finalizer, which runs in the middle of anything, in the very thread that is starting them."""
    timers = Timers("this-test")
    with timers._worker._starting:
        timers.after(60, lambda: None)
    assert not timers._worker.is_alive()

    class Overtaken:
        """A lock that is free again when another thread has started them."""

        def acquire(self, blocking: bool) -> bool:
            """Start them."""
            assert not blocking
            timers._worker._starting = threading.Lock()
            timers._worker.ensure()
            timers._worker._starting = self  # type: ignore[assignment]
            return True

        def release(self) -> None:
            """Nobody else waits."""

    timers._worker._starting = Overtaken()  # type: ignore[assignment]
    timers.after(60, lambda: None)
    assert sum(thread.name == "this-test" for thread in threading.enumerate()) == 1
    timers.close()


@pytest.mark.parametrize("is_late", [True, False])
def test_an_interrupted_start_leaves_one_thread_and_not_two(monkeypatch: pytest.MonkeyPatch, *, is_late: bool) -> None:
    """Whoever needs it next finds it, or starts another; then one of them ends at once."""
    begin, interrupted = threading.Thread.start, list[threading.Thread]()
    running, go_on = list[threading.Thread](), threading.Event()

    def run() -> None:
        """Run until the test has looked."""
        running.append(threading.current_thread())
        go_on.wait(20)

    def interrupt(thread: threading.Thread) -> None:
        """Have the user press Ctrl-C while it starts."""
        interrupted.append(thread)
        if not is_late:
            begin(thread)
        raise SignalledError

    worker = Worker(run, "this-test")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(SignalledError):
            worker.ensure()
    worker.ensure()
    wait_until(lambda: bool(running), "it runs")
    if is_late:
        begin(interrupted[0])
    for thread in threading.enumerate():
        if thread.name == "this-test" and thread not in running:
            thread.join(20)
    assert len(running) == 1
    assert worker.is_alive()
    go_on.set()
    worker.join()
    assert not worker.is_alive()


def test_a_process_that_can_start_no_thread_makes_its_calls_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers wait until one can be started; no call fails for it."""

    def refuse(_: threading.Thread) -> None:
        """Fail as at the end of the interpreter."""
        raise RuntimeError("can't start new thread")

    store = MemoryStore()
    breaker = CircuitBreaker("stripe", store, BreakerConfig(policy=Consecutive(3)))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert breaker.call(works) == "charged"
        with pytest.raises(ProviderDownError):
            breaker.call(fails)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "is_finalizing", lambda: True)
        store.timers.after(0, lambda: None)
    assert not store.timers._worker.is_alive()
    store.timers.after(0, lambda: None)
    assert store.timers._worker.is_alive()
    store.close()
    assert not store.timers._worker.is_alive()


class Raced:
    """A queue that another thread empties between a look at it and taking from it."""

    left = 1

    def __bool__(self) -> bool:
        return self.left > 0

    def popleft(self) -> Any:
        """Come too late."""
        self.left -= 1
        raise IndexError


def test_what_another_thread_has_sent_already_is_passed_over() -> None:
    """Two threads that empty the same queue meet at its end."""
    store = TellingStore(ManualClock())
    link = CircuitBreaker("stripe", store)._link
    link._unsent = Raced()  # type: ignore[assignment]
    link.close()
    assert not store.reports


def test_sixty_four_threads_share_one_circuit() -> None:
    """No failure of theirs is lost, and after the trip nobody calls."""
    store = MemoryStore()
    breaker = CircuitBreaker("stripe", store, BreakerConfig(policy=Consecutive(64)))
    together = threading.Barrier(64)
    seen: list[str] = []

    def call() -> None:
        """Fail together with the others."""

        def failing() -> None:
            """Wait for everybody, and fail."""
            together.wait(20)
            raise ProviderDownError

        for _ in range(2):
            try:
                breaker.call(failing)
            except (ProviderDownError, CallNotPermittedError) as error:
                seen.append(type(error).__name__)
            together.wait(20)

    threads = [in_thread(call) for _ in range(64)]
    for thread in threads:
        thread.join(20)
    assert sorted(seen) == ["CallNotPermittedError"] * 64 + ["ProviderDownError"] * 64
    view = store.snapshot("stripe")
    assert view is not None
    assert (view.state, view.failures) == (State.OPEN, 64)
    assert not breaker.status.degraded
    store.close()


def test_what_happens_in_a_turn_is_told_at_its_end_by_its_own_thread() -> None:
    """Not by another thread that takes its turn meanwhile, and not while a turn within the turn ends."""
    told: list[tuple[str, threading.Thread]] = []
    others: list[threading.Thread] = []

    def listen(event: BreakerEvent) -> None:
        """Note who tells, and let something happen in another thread."""
        told.append((event.kind, threading.current_thread()))
        if event.kind is EventKind.TRIPPED:
            others.append(in_thread(lambda: turn.take(hear, replace(event, kind=EventKind.CLOSED))))
            others[0].join(20)

    turn = Turn("stripe", [listen], Timers())
    (hear,) = turn.ears
    event = BreakerEvent(kind=EventKind.TRIPPED, name="stripe", state=State.OPEN, generation=1)

    def step() -> None:
        """Make something happen, within a turn too, as a signal handler may."""
        hear(event)
        turn.take(hear, replace(event, kind=EventKind.REFUSED))
        assert not told

    turn.take(step)
    here = threading.current_thread()
    assert told == [("tripped", here), ("closed", *others), ("refused", here)]


def test_a_listener_that_hangs_holds_no_thread_of_the_library_up() -> None:
    """What happens in one of those is told by another thread, in its order, whatever a listener raises."""
    store, told, go_on = MemoryStore(), list[str](), threading.Event()

    def listen(event: BreakerEvent) -> None:
        """Hang, and end the program."""
        assert threading.current_thread().name == "breaker-listeners"
        assert go_on.wait(20)
        told.append(event.kind)
        raise SystemExit

    config = BreakerConfig(policy=Consecutive(1), cooldown_seconds=0.001)
    breaker = CircuitBreaker("stripe", store, config, listeners=[listen])

    def let_happen() -> None:
        """Trip the circuit, and let a probe close it."""
        with pytest.raises(ProviderDownError):
            breaker.call(fails)
        while breaker.peek() is not None:
            pass
        breaker.call(works)

    went_on = threading.Event()
    store.timers.after(0, let_happen)
    store.timers.after(0, went_on.set)
    assert went_on.wait(20)
    assert breaker.status.state is State.CLOSED
    assert not told
    go_on.set()
    wait_until(lambda: len(told) == 3, "everything is told")
    assert told == ["tripped", "half_opened", "closed"]
    store.close()
    assert not store.dispatcher._worker.is_alive()


def test_what_is_due_in_centuries_does_not_end_the_timers() -> None:
    """What is due before runs, although no queue waits for that long."""
    timers, done = Timers(), threading.Event()
    timers.after(1e10, lambda: None)
    wait_until(timers._orders.empty, "they wait for it")
    timers.after(0, done.set)
    assert done.wait(20)
    timers.close()


def test_timers_go_on_after_whatever_they_run_raises() -> None:
    """What would end a thread of the user's does not end theirs; should it end after all, the next order starts it."""
    timers, done = Timers(), threading.Event()
    timers.after(0, partial(sys.exit, "over"))
    timers.after(0, done.set)
    assert done.wait(20)
    timers._orders.put(None)
    timers._worker.join()
    done.clear()
    timers.after(0, done.set)
    assert done.wait(20)
    timers.close()


def test_two_threads_that_ask_first_follow_once() -> None:
    """Who comes second finds that the store has been told to follow."""
    store = TellingStore(ManualClock())
    link = CircuitBreaker("stripe", store)._link

    followed = threading.Event()

    def follow() -> None:
        """Follow, while the test has its turn."""
        link._follow()
        followed.set()

    with link.turn.lock:
        second = in_thread(follow)
        link._follow()
    second.join(20)
    assert followed.is_set()
    assert len(store._followers) == 1


_QUIET = """
from prometheus_client import CollectorRegistry
from breaker.integrations.prometheus import BreakerCollector
from breaker.sync import CircuitBreaker, MemoryStore
store, registry = MemoryStore(), CollectorRegistry()
registry.register(BreakerCollector(store, [CircuitBreaker("stripe", store)]))
"""

_LEFT_OPEN = """
from breaker import BreakerConfig
from breaker.sync import CircuitBreaker, MemoryStore
config = BreakerConfig(call_timeout_seconds=None, lease_seconds=10)
stream = CircuitBreaker("stripe", MemoryStore(), config)(lambda: (yield))()
next(stream)
"""

_ENDING = """
import threading, time
from breaker.sync import CircuitBreaker, MemoryStore
breaker = CircuitBreaker("stripe", MemoryStore(), probe=lambda: time.sleep(600))
hanging = threading.Thread(target=breaker.call, args=(time.sleep, 600), daemon=True)
hanging.start()
breaker.call(int)
"""


@pytest.mark.parametrize("program", [_QUIET, _LEFT_OPEN])
def test_the_interpreter_ends_in_silence(program: str) -> None:
    """What is left of a breaker when modules are taken apart says nothing, and no stream that is left waits then."""
    ended = subprocess.run([sys.executable, "-c", program], timeout=40, check=True, capture_output=True, text=True)
    assert ended.stderr == ""


def test_the_interpreter_ends_although_calls_hang_and_nothing_was_closed() -> None:
    """No thread of a store keeps it alive."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", _ENDING], timeout=40, check=True)
    assert time.monotonic() - began < 40


def test_closed_timers_leave_no_thread_behind() -> None:
    """Not even one that was started while they were being closed."""
    timers = Timers("closing")
    timers.after(0, list[int]().clear)
    timers.close()
    timers._worker.ensure()
    timers._worker.join()
    assert not timers._worker.is_alive()


def test_a_permit_that_nobody_settles_is_not_kept() -> None:
    """Where nothing is slow nobody watches it."""
    breaker = CircuitBreaker("stripe", TellingStore(ManualClock()))
    breaker.admit()
    assert not breaker._slow._running


def test_a_warning_is_logged_when_the_turn_is_over(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever handles it may use the breaker, in whichever thread."""
    store = TellingStore(ManualClock())
    CircuitBreaker("stripe", store, BreakerConfig(cooldown_seconds=9)).call(works)
    breaker = CircuitBreaker("stripe", store)
    told: list[str] = []

    def ship(_: object) -> None:
        """Use the breaker in another thread, and wait for that."""
        using = in_thread(lambda: told.append(breaker.status.name))
        using.join(20)

    monkeypatch.setattr(caplog.handler, "emit", ship)
    breaker.call(works)
    assert told == ["stripe"]
