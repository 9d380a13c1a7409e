"""What is to happen to calls that take too long, while they still hang."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from breaker.sync._timers import Timers

_T = TypeVar("_T")

# A timer that comes this late says that the process was kept from running, and so often a deadline is put off for that.
# Less is what threads take from each other when they are busy.
_LATE_SECONDS = 0.25
_CHANCES = 8


class Deadlines(Generic[_T]):
    """Watches calls that may all take equally long.

    They expire in the order in which they began, so one timer for the oldest is enough, and a call that ends in time
    costs an entry in a dictionary. An entry is taken out by its call or by the timer, and whoever took it settles.

    A deadline passes, but not for a time in which the process itself was kept from running: the answer may have come
    meanwhile, and the thread that waits for it gets to it no sooner than the timer. So it is put off by such a pause,
    or by itself if that is less.

    Args:
        seconds: How long a call may take; None lets it take any time.
        timers: Where the timer runs.
        late: Called with what is late.
        is_patient: Whether a pause of the process is no time.

    Attributes:
        watches: Whether there is a limit.
    """

    def __init__(
        self, seconds: float | None, timers: Timers, late: Callable[[_T], None], *, is_patient: bool = True
    ) -> None:
        self.watches = seconds is not None
        self._is_patient = is_patient
        self._seconds = seconds or 0.0
        self._timers = timers
        self._late = late
        self._numbers = itertools.count()
        self._running: dict[int, tuple[float, _T]] = {}
        self._chances = _CHANCES
        self._lock = threading.RLock()
        # Nobody sets a timer where one seems to be set.
        self._watching = not self.watches

    def begin(self, what: _T) -> int:
        """Watch a call from now on; returns its number."""
        number = next(self._numbers)
        self._running[number] = self._timers.now(), what
        if not self._watching:
            try:
                self._watch()
            except BaseException:
                self.end(number)  # Interrupted. The call is not made, so it cannot be late.
                raise
        return number

    def end(self, number: int) -> bool:
        """Stop watching a call; False when it was too late for that."""
        return self._running.pop(number, None) is not None

    def _watch(self) -> None:
        """Set a timer for the oldest call."""
        with self._lock:
            if self._watching:
                return
            self._watching = True
            try:
                now = self._timers.now()
                began, _ = next(iter(self._running.copy().values()), (now, None))
                self._sweep_in(max(0.0, began + self._seconds - now))
            except BaseException:
                self._watching = False  # Interrupted. The next call sets it.
                raise

    def _sweep_in(self, seconds: float) -> None:
        self._timers.after(seconds, functools.partial(self._sweep, self._timers.now() + seconds))

    def _sweep(self, due: float) -> None:
        pause_seconds = self._timers.now() - due
        if self._is_patient and self._chances and pause_seconds > _LATE_SECONDS:
            self._chances -= 1
            self._sweep_in(min(pause_seconds, self._seconds))
            return
        self._chances = _CHANCES
        try:
            for number, (began, what) in self._running.copy().items():
                if began + self._seconds > self._timers.now():
                    break
                if self.end(number):
                    self._late(what)
        finally:
            self._watching = False
            if self._running:
                self._watch()  # One that is not late yet, or has begun since and may have seen that it was watched.
