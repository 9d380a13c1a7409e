"""What must happen at a time, in one thread."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from breaker.sync._threads import Worker

_log = logging.getLogger("breaker")

# A queue waits for no more than some centuries, and an order may be for later.
_LONGEST_WAIT_SECONDS = 3600.0

_Order = tuple[float, int, Callable[[], None]]


class Timers:
    """Runs what must happen at a time, in one thread that starts when it is first needed.

    What runs may wait for the store, so it may be late by a store's timeout or a few.

    Args:
        name: What the thread is called.
    """

    def __init__(self, name: str = "breaker-timers") -> None:
        # The queue is all that other threads touch: putting into it is safe even where the collector of garbage runs a
        # finalizer in the middle of something else, which a lock would not be.
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._waiting: list[_Order] = []
        self._numbers = itertools.count()
        self._worker = Worker(self._run, name)
        self._closed = False

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run something in a while; never, once the timers are closed."""
        self._orders.put((self.now() + seconds, next(self._numbers), action))
        if not self._closed:
            self._worker.ensure()

    def close(self) -> None:
        """End the thread; what is not due yet is forgotten."""
        self._closed = True
        self._orders.put(None)
        self._worker.join()

    def _run(self) -> None:
        waiting = self._waiting
        while True:
            rest_seconds = min(max(0.0, waiting[0][0] - self.now()), _LONGEST_WAIT_SECONDS) if waiting else None
            with contextlib.suppress(Empty):
                order = self._orders.get(timeout=rest_seconds)
                if order is None:
                    if self._closed:
                        self._orders.put(None)  # For a thread that was started while this was being closed.
                    return
                heapq.heappush(waiting, order)
            if waiting[0][0] <= self.now():
                _do(heapq.heappop(waiting)[2])


def _do(action: Callable[[], None]) -> None:
    try:
        action()
    except BaseException:
        # What ends a thread of the user's must not end this one, which works for every circuit.
        _log.exception("what was due failed")
