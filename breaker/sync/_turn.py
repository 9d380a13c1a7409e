"""One thread at a time."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable

from breaker._events import BreakerEvent, Listener

_log = logging.getLogger("breaker")


class Turn:
    """Lets one thread at a time at a circuit, and tells the listeners what happened as soon as it has left.

    So a listener may take its time and may use the breaker.

    Args:
        name: The circuit, for the log.
        listeners: Called with each event.
    """

    def __init__(self, name: str, listeners: Iterable[Listener]) -> None:
        self._name = name
        self._listeners = tuple(listeners)
        self._told: deque[BreakerEvent] = deque()
        # A signal handler may run in the middle of a turn, and use the breaker.
        self._lock = threading.RLock()

    @property
    def ears(self) -> tuple[Listener, ...]:
        """What the circuit is to tell its events."""
        return (self._told.append,) if self._listeners else ()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        while self._told:
            self._tell_oldest()

    def _tell_oldest(self) -> None:
        try:
            event = self._told.popleft()
        except IndexError:
            return  # Another thread has just told it.
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                _log.exception("%s: a listener failed", self._name)
