"""What must happen at a time, in one thread."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

_log = logging.getLogger("breaker")

_JOIN_SECONDS = 5.0

_Order = tuple[float, int, Callable[[], None]]


class Timers:
    """Runs what must happen at a time, in one thread that starts when it is first needed.

    What runs may wait for the store, so it may be late by a store's timeout or a few.
    """

    def __init__(self) -> None:
        # The queue is all that other threads touch: putting into it is safe even where the collector of garbage runs a
        # finalizer in the middle of something else, which a lock would not be.
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._numbers = itertools.count()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run something in a while; never, once the timers are closed."""
        self._orders.put((self.now() + seconds, next(self._numbers), action))
        if self._thread is None:
            self._start()

    def close(self) -> None:
        """End the thread; what is not due yet is forgotten."""
        self._orders.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_SECONDS)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = started(self._run, "breaker-timers")

    def _run(self) -> None:
        waiting: list[_Order] = []
        while True:
            rest_seconds = max(0.0, waiting[0][0] - self.now()) if waiting else None
            with contextlib.suppress(Empty):
                order = self._orders.get(timeout=rest_seconds)
                if order is None:
                    return
                heapq.heappush(waiting, order)
            if waiting[0][0] <= self.now():
                _do(heapq.heappop(waiting)[2])


def started(run: Callable[[], None], name: str) -> threading.Thread | None:
    """Start a thread that does not keep the interpreter alive; None when the process cannot start one now."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        # No reason to fail the call that wanted it: there are too many threads, or the interpreter is about to end.
        _log.debug("%s does not run: %s", name, error)
        return None
    return thread


def _do(action: Callable[[], None]) -> None:
    try:
        action()
    except Exception:
        _log.exception("what was due failed")
