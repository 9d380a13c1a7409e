"""One thread at a time."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from breaker._events import BreakerEvent, Listener
from breaker.sync._threads import is_own
from breaker.sync._timers import Timers

_P = ParamSpec("_P")
_R = TypeVar("_R")

_log = logging.getLogger("breaker")


class Turn:
    """Lets one thread at a time at a circuit, and lets it tell the listeners what happened as soon as it has left.

    So a listener may use the breaker. Its time is the caller's own whose call made the event happen; for the threads of
    the library, which work for every circuit, another thread tells.

    Args:
        name: The circuit, for the log.
        listeners: Called with each event. What one raises is logged, once until it works again, and harms nobody.
        dispatcher: Tells what happened in threads of the library.

    Attributes:
        lock: For what belongs to the turn and makes no event happen. Only ever entered by `with`: between a call of
            `acquire` and a block that releases it, a signal handler can raise.
    """

    def __init__(self, name: str, listeners: Iterable[Listener], dispatcher: Timers) -> None:
        # A signal handler may run in the middle of a turn, and use the breaker.
        self.lock = threading.RLock()
        self._name = name
        self._listeners = tuple(listeners)
        self._dispatcher = dispatcher
        # Which of them failed when it was called last.
        self._failing: set[int] = set()
        # What is to be said of the turn that is being taken, when it is over.
        self._unsaid: list[Callable[[], None]] | None = None

    @property
    def ears(self) -> tuple[Listener, ...]:
        """What the circuit is to tell its events."""
        return (self._hear,) if self._listeners else ()

    def take(self, step: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Take a step alone, and tell what happened in it."""
        unsaid: list[Callable[[], None]] = []
        try:
            with self.lock:
                if self._unsaid is not None:
                    return step(*args, **kwargs)  # Within a turn of this thread, which tells at its end.
                self._unsaid = unsaid
                try:
                    return step(*args, **kwargs)
                finally:
                    self._unsaid = None
        finally:
            for say in unsaid:
                if is_own():
                    self._dispatcher.after(0, say)
                else:
                    say()

    def warn(self, text: str, *words: object) -> None:
        """Log a warning when the turn is over: whatever handles it may call what is guarded."""
        assert self._unsaid is not None  # noqa: S101 - circuits are used in turns only
        self._unsaid.append(functools.partial(_log.warning, text, *words))

    def _hear(self, event: BreakerEvent) -> None:
        assert self._unsaid is not None  # noqa: S101 - circuits are used in turns only
        self._unsaid.append(functools.partial(self._tell, event))

    def _tell(self, event: BreakerEvent) -> None:
        for number, listener in enumerate(self._listeners):
            try:
                listener(event)
            except BaseException:
                # Not even what ends a program may take the place of a call's result, or end the thread that tells.
                if number not in self._failing:
                    self._failing.add(number)
                    _log.exception("%s: a listener failed; its failures are not logged until it works", self._name)
            else:
                self._failing.discard(number)
