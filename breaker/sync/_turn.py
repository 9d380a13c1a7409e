"""One thread at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from breaker._events import BreakerEvent, Listener

_P = ParamSpec("_P")
_R = TypeVar("_R")

_log = logging.getLogger("breaker")


class Turn:
    """Lets one thread at a time at a circuit, and lets it tell the listeners what happened as soon as it has left.

    So a listener may take its time and may use the breaker.

    Args:
        name: The circuit, for the log.
        listeners: Called with each event.

    Attributes:
        lock: For what belongs to the turn and makes no event happen. Only ever entered by `with`: between a call of
            `acquire` and a block that releases it, a signal handler can raise.
    """

    def __init__(self, name: str, listeners: Iterable[Listener]) -> None:
        # A signal handler may run in the middle of a turn, and use the breaker.
        self.lock = threading.RLock()
        self._name = name
        self._listeners = tuple(listeners)
        # What has happened in the turn that is being taken.
        self._happened: list[BreakerEvent] | None = None

    @property
    def ears(self) -> tuple[Listener, ...]:
        """What the circuit is to tell its events."""
        return (self._hear,) if self._listeners else ()

    def take(self, step: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Take a step alone, and tell what happened in it."""
        happened: list[BreakerEvent] = []
        try:
            with self.lock:
                if self._happened is not None:
                    return step(*args, **kwargs)  # Within a turn of this thread, which tells at its end.
                self._happened = happened
                try:
                    return step(*args, **kwargs)
                finally:
                    self._happened = None
        finally:
            for event in happened:
                self._tell(event)

    def _hear(self, event: BreakerEvent) -> None:
        assert self._happened is not None  # noqa: S101 - circuits are used in turns only
        self._happened.append(event)

    def _tell(self, event: BreakerEvent) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                _log.exception("%s: a listener failed", self._name)
