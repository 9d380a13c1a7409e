"""Threads that the library starts."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable

_log = logging.getLogger("breaker")

_JOIN_SECONDS = 5.0


class _OwnThread(threading.Thread):
    """A thread that the library started, so that nobody's call runs in it."""


def is_own() -> bool:
    """Tell whether this runs in a thread that the library started."""
    return isinstance(threading.current_thread(), _OwnThread)


def started(run: Callable[[], None], name: str) -> threading.Thread | None:
    """Start a thread that does not keep the interpreter alive; None when the process cannot start one now."""
    if sys.is_finalizing():
        return None  # A stream was left to the end of the interpreter; the thread would be waited for and never begin.
    thread = _OwnThread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        # No reason to fail the call that wanted it: there are too many threads, or the interpreter is about to end.
        _log.debug("%s does not run: %s", name, error)
        return None
    return thread


class Worker:
    """One thread, which is started when it is first needed, and again should it have ended.

    Args:
        run: What it does.
        name: What it is called.
    """

    def __init__(self, run: Callable[[], None], name: str) -> None:
        self._run = run
        self._name = name
        self._starting = threading.Lock()
        # Who starts it may be interrupted after it has begun, so that nobody knows of it and another is started. Of the
        # two one runs.
        self._running = threading.Lock()
        self._thread: threading.Thread | None = None
        self._runner: threading.Thread | None = None

    def is_alive(self) -> bool:
        """Tell whether it runs."""
        return any(thread is not None and thread.is_alive() for thread in (self._thread, self._runner))

    def ensure(self) -> None:
        """Start it unless it runs, without waiting: a finalizer may do this in the middle of anything."""
        if self.is_alive():
            return
        # Whoever holds the lock starts the thread anyway. Between a call that takes it and a block that releases it a
        # signal handler could raise; a loop has no such moment.
        for is_free in map(self._starting.acquire, (False,)):
            if is_free:
                try:
                    if not self.is_alive():
                        self._thread = started(self._run_once, self._name)
                finally:
                    self._starting.release()

    def join(self) -> None:
        """Wait for its end, for a few seconds at most; not in itself."""
        for thread in {self._thread, self._runner}:
            if thread is not None and thread is not threading.current_thread():
                thread.join(_JOIN_SECONDS)

    def _run_once(self) -> None:
        if self._running.acquire(blocking=False):
            self._runner = threading.current_thread()
            try:
                self._run()
            finally:
                self._running.release()
