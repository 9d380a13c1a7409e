"""What keeps a store that is down, slow or frozen from becoming the outage, for threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

from breaker._errors import ScriptError, StoreUnavailableError
from breaker._store_guard import Presence, log_change
from breaker.sync._in_time import rest_seconds, within

_T = TypeVar("_T")


class StoreGuard(Presence):
    """Bounds every command to a store, and asks a store that is away once in a while only.

    Args:
        timeout_seconds: The longest that a command may take, connecting and queueing included.
        concurrency: How many commands may be out at once.
    """

    def __init__(self, timeout_seconds: float, concurrency: int) -> None:
        super().__init__()
        self._closed = threading.Event()
        self._timeout_seconds = timeout_seconds
        self._places: SimpleQueue[int] = SimpleQueue()
        for place in range(concurrency):
            self._places.put(place)
        # Nothing is logged while it is held. A signal handler may make a call in the middle of one.
        self._lock = threading.RLock()

    def close(self) -> None:
        """Let no command be tried any more: it would open a connection again."""
        self._closed.set()

    def run(self, command: Callable[[], _T], *, reads: bool = False) -> _T:
        """Run a command, or raise `StoreUnavailableError`, whatever went wrong.

        Args:
            command: Sends it.
            reads: Whether it only reads.
        """
        if self._closed.is_set():
            raise StoreUnavailableError("the store is closed")
        with self._lock:
            returns = self.check(reads=reads)
        try:
            reply = self._bounded(command)
        except ScriptError:
            with self._lock:
                change = self.note_answer(reads=reads)  # It is there, and what is wrong is one circuit.
            log_change(change)
            raise
        except Exception as error:
            with self._lock:
                change = "" if self._closed.is_set() else self.note_absence(error, returns, reads=reads)
            log_change(change)
            raise StoreUnavailableError(f"{type(error).__name__}: {error}") from error
        with self._lock:
            change = self.note_answer(reads=reads)
        log_change(change)
        return reply

    def _bounded(self, command: Callable[[], _T]) -> _T:
        with within(self._timeout_seconds):
            try:
                # Between a call that takes a place and a block that gives it back a signal handler could raise; a loop
                # has no such moment.
                for place in map(self._places.get, (True,), (rest_seconds(),)):
                    try:
                        reply = command()
                    finally:
                        self._places.put(place)
            except Empty:
                raise TimeoutError("too many commands are out") from None
            return reply
