"""A store and timers that tests drive by hand, so that nothing in them depends on when a thread runs."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import breaker as library
from breaker import BreakerConfig, Consecutive, State, View
from breaker._types import Permitted, Recorded, Refused, Report
from breaker.sync import CircuitBreaker, MemoryStore
from breaker.sync._timers import Timers
from tests.support.stores import ManualClock

NAME = "stripe"
CONFIG = BreakerConfig(policy=Consecutive(3), cooldown_seconds=30, call_timeout_seconds=4)

_LIBRARY = (str(Path(library.__file__).parent), threading.__file__, __file__)


class ProviderDownError(Exception):
    """What a sick dependency raises."""


def works() -> str:
    """Succeed."""
    return "charged"


def fails() -> str:
    """Fail as a sick dependency does."""
    raise ProviderDownError


class PlantedTimers(Timers):
    """Timers whose time a test moves, and which run in the thread of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> float:
        return self.seconds

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.waiting.append((self.seconds + seconds, action))

    def pause(self, seconds: float) -> None:
        """Let time pass in which nothing runs, as where the process is stopped."""
        self.seconds += seconds

    def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, and run what becomes due in its order."""
        until = self.seconds + seconds
        while due := sorted((each for each in self.waiting if each[0] <= until), key=lambda each: each[0]):
            self.waiting.remove(due[0])
            self.seconds = max(self.seconds, due[0][0])
            due[0][1]()
        self.seconds = until


class TellingStore(MemoryStore):
    """A store in memory that tells its followers of every change, as Redis does, and keeps the reports it gets."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.planted = PlantedTimers()
        self.timers = self.planted
        self.is_degraded = False
        self.reports: list[Report] = []
        self.asked: list[str] = []
        self._followers: list[tuple[str, Callable[[View | None], None]]] = []
        self.fails_with: BaseException | None = None

    @property
    def degraded(self) -> bool:
        return self.is_degraded

    def follow(self, name: str, see: Callable[[View | None], None]) -> None:
        if (name, see) not in self._followers:
            self._followers.append((name, see))
        self.tell(name)

    def acquire(self, name: str, permit_id: str, *args: Any, **options: Any) -> Permitted | Refused:
        self.asked.append(permit_id)
        self._fail()
        reply = super().acquire(name, permit_id, *args, **options)
        self.tell(name)
        return reply

    def record(self, name: str, report: Report, *args: Any) -> Recorded:
        self.reports.append(report)
        self._fail()
        recorded = super().record(name, report, *args)
        self.tell(name)
        return recorded

    def snapshot(self, name: str) -> View | None:
        self._fail()
        return super().snapshot(name)

    def tell(self, name: str) -> None:
        view = super().snapshot(name)
        for followed, see in self._followers:
            if followed == name:
                see(view)

    def lose_messages(self) -> None:
        """Tell every follower that its copy is not kept fresh any longer."""
        for _, see in self._followers:
            see(None)

    def _fail(self) -> None:
        if self.fails_with is not None:
            raise self.fails_with


def in_thread(function: Callable[[], object]) -> threading.Thread:
    """Run a function in another thread."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


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


class SignalledError(BaseException):
    """What a signal handler raises, as that of Ctrl-C does."""


def interrupt() -> None:
    """Be the handler of a signal that ends what is under way."""
    raise SignalledError


def is_signalled(function: Callable[[], object], moment: int, handler: Callable[[], object] = interrupt) -> bool:
    """Run a function, and a handler in its nth moment at which Python runs those of signals; False when it has fewer.

    Those are when a function of Python begins and when one of C has returned.
    """
    rest = moment

    def count(frame: FrameType, event: str, _: object) -> None:
        """Run the handler when the moment has come."""
        nonlocal rest
        if event in {"call", "c_return"} and frame.f_code.co_filename.startswith(_LIBRARY):
            rest -= 1
            if rest == 0:
                handler()

    # Nor is it the moment at which something that another test left behind is destroyed.
    gc.disable()
    sys.setprofile(count)
    try:
        function()
    except SignalledError:
        pass
    finally:
        sys.setprofile(None)
        gc.enable()
    return rest <= 0
