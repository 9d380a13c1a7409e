"""What is to happen to calls that take too long, while they still hang."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from breaker.sync._timers import Timers

_T = TypeVar("_T")


class Deadlines(Generic[_T]):
    """Watches calls that may all take equally long.

    They expire in the order in which they began, so one timer for the oldest is enough, and a call that ends in time
    costs an entry in a dictionary. An entry is taken out by its call or by the timer, and whoever took it settles.

    Args:
        seconds: How long a call may take; None lets it take any time.
        timers: Where the timer runs.
        late: Called with what is late.
    """

    def __init__(self, seconds: float | None, timers: Timers, late: Callable[[_T], None]) -> None:
        self._seconds = seconds or 0.0
        self._timers = timers
        self._late = late
        self._numbers = itertools.count()
        self._running: dict[int, tuple[float, _T]] = {}
        self._lock = threading.RLock()
        # Nobody sets a timer where one seems to be set.
        self._watching = seconds is None

    def begin(self, what: _T) -> int:
        """Watch a call from now on; returns its number."""
        number = next(self._numbers)
        self._running[number] = self._timers.now(), what
        if not self._watching:
            self._watch()
        return number

    def end(self, number: int) -> bool:
        """Stop watching a call; False when it was too late for that."""
        return self._running.pop(number, None) is not None

    def _watch(self) -> None:
        with self._lock:
            if self._watching:
                return
            self._watching = True
        self._timers.after(self._seconds, self._sweep)

    def _sweep(self) -> None:
        for number, (began, what) in self._running.copy().items():
            rest_seconds = began + self._seconds - self._timers.now()
            if rest_seconds > 0:
                self._timers.after(rest_seconds, self._sweep)
                return
            if self.end(number):
                self._late(what)
        self._watching = False
        if self._running:
            self._watch()  # It began since, and may have seen that it was being watched.
