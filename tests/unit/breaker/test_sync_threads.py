"""The threads themselves: that they start when needed, survive what they run, end when told, and keep turns."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import pytest

from breaker import (
    BreakerConfig,
    BreakerEvent,
    CallNotPermittedError,
    Consecutive,
    Consistency,
    EventKind,
    FailureRate,
    Outcome,
    State,
)
from breaker.sync import CircuitBreaker, MemoryStore
from breaker.sync import _fork as fork
from breaker.sync._guard import StoreGuard
from breaker.sync._timers import Timers
from breaker.sync._turn import Turn
from tests.support.processes import wait_until
from tests.support.stores import ManualClock
from tests.unit.breaker.sync_support import ProviderDownError, TellingStore, fails, in_thread, is_signalled, works


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


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # The store in memory was about to take a step.
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


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
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


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
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


def test_a_forked_child_begins_anew_as_long_as_what_it_knew_lives() -> None:
    """Permit ids and the replica's name are the child's own, and so are the threads; what is gone is not begun."""
    store = TellingStore(ManualClock())
    breaker = CircuitBreaker("stripe", store)
    first_id, timers = next(breaker._circuit.permit_ids), store.timers
    CircuitBreaker("short-lived", store)
    gc.collect()
    made = len(fork._made)
    fork._begin_anew()
    last = CircuitBreaker("last", store)
    assert len(fork._made) <= made, "what is gone is not remembered when the next is made"
    assert last.call(works) == "charged"
    assert next(breaker._circuit.permit_ids).split("-")[0] != first_id.split("-")[0]
    assert store.timers is not timers
    assert breaker.call(works) == "charged"


def in_block(breaker: CircuitBreaker) -> None:
    """Fork in a block."""
    with breaker:
        fork._begin_anew()
        fails()


def in_stream(breaker: CircuitBreaker) -> None:
    """Fork before the first item of a stream."""

    @breaker
    def stream() -> Iterator[str]:
        """Break off."""
        fork._begin_anew()
        yield fails()

    list(stream())


def in_call(breaker: CircuitBreaker) -> None:
    """Fork in a call."""

    @breaker
    def call() -> None:
        """Fork, and fail."""
        fork._begin_anew()
        fails()

    call()


def between_admission_and_end(breaker: CircuitBreaker) -> None:
    """Fork with a permit in hand, while another thread of the parent has its turn."""
    permit = breaker.admit()
    in_thread(permit._link.turn.lock.acquire).join(20)
    fork._begin_anew()
    permit.settle(Outcome.FAILURE)
    fails()


@pytest.mark.parametrize("way", [in_block, in_stream, in_call, between_admission_and_end])
@pytest.mark.parametrize("is_probe", [True, False])
def test_a_forked_child_settles_nothing_that_its_parent_is_doing(
    way: Callable[[CircuitBreaker], None], *, is_probe: bool
) -> None:
    """The call is still under way in the parent, which says how it ends; here it ends without a report."""
    clock = ManualClock()
    store = TellingStore(clock)
    breaker = CircuitBreaker("stripe", store, BreakerConfig(policy=Consecutive(1)))
    breaker.call(works)
    if is_probe:
        with pytest.raises(ProviderDownError):
            breaker.call(fails)
        clock.advance(31)
        store.lose_messages()
    store.reports.clear()
    with pytest.raises(ProviderDownError):
        way(breaker)
    store.timers.close()
    assert not store.reports
    view = store.snapshot("stripe")
    assert view is not None
    assert (view.state, view.probes_out) == ((State.HALF_OPEN, 1) if is_probe else (State.CLOSED, 0))


_FORKING = """
import os, sys
from breaker.sync import CircuitBreaker, MemoryStore
store = MemoryStore()
breaker = CircuitBreaker("stripe", store)
breaker.call(int)
child = os.fork()
if child == 0:
    assert str(os.getpid()) in breaker._circuit.replica_id
    breaker.call(int)
    store.timers.after(0, lambda: os._exit(7))
    store.timers._worker._thread.join(20)
    os._exit(1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_forked_child_has_timers_of_its_own() -> None:
    """What runs in the parent's thread runs in the child's."""
    child = subprocess.run([sys.executable, "-W", "ignore", "-c", _FORKING], timeout=40, check=False)
    assert child.returncode == 7


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
