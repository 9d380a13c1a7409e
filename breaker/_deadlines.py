"""How long a call may take, with one timer for many that may all take equally long; and that it can be cancelled."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

_T = TypeVar("_T")

# A timer that comes this late says that the event loop was busy, and so often a deadline is put off for that.
_LATE_SECONDS = 0.01
_CHANCES = 8


class _Watch:
    """What is watched in one event loop."""

    __slots__ = ("began", "chances", "is_set")

    def __init__(self) -> None:
        self.began: dict[asyncio.Task[Any], float] = {}
        self.chances = _CHANCES
        self.is_set = False


class Deadlines:
    """Cancels what takes too long; what `asyncio.timeout` does, at a fraction of its cost.

    Everything may take the same time, so it expires in the order in which it began, and one timer for the oldest is
    enough: what ends in time costs an entry in a dictionary. Timers of their own would be cancelled nearly always, and
    stay in the event loop's heap until their time has come.

    A deadline passes, but not for a time in which the event loop itself was busy. A loop that was busy for longer than
    the deadline finds the answer and the passed deadline in the same turn; taken by itself the deadline would make a
    failure of the other side out of a pause of our own, so it is put off by that pause, or by itself if that is less.

    Args:
        seconds: How long something may take.
        overdue: Makes what is raised when it took longer.
    """

    __slots__ = ("_loop", "_overdue", "_seconds", "_watch", "_watches")

    def __init__(self, seconds: float, overdue: Callable[[], TimeoutError]) -> None:
        self._seconds = seconds
        self._overdue = overdue
        # A breaker may outlive one loop and be used in the next, or in several by turns.
        self._watches: WeakKeyDictionary[AbstractEventLoop, _Watch] = WeakKeyDictionary()
        self._loop: AbstractEventLoop | None = None
        self._watch = _Watch()

    async def bound(self, awaitable: Awaitable[_T]) -> _T:
        """Await something for no longer than it may take.

        Raises:
            TimeoutError: It took longer and was cancelled.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._watch = self._watches.setdefault(loop, _Watch())
        watch = self._watch
        began = watch.began
        task = asyncio.current_task(loop)
        if task is None or task in began or task.cancelling():
            return await self._bound_alone(awaitable)
        if not watch.is_set:
            self._set(loop, watch, self._seconds)
        began[task] = loop.time()
        try:
            result = await awaitable
        except BaseException as error:
            # It was taken out when its time was up, and cancelled by that if by nothing else.
            is_overdue = began.pop(task, None) is None and task.uncancel() == 0
            if is_overdue and isinstance(error, asyncio.CancelledError):
                raise self._overdue() from error
            raise
        if began.pop(task, None) is None:
            task.uncancel()  # It was told to stop and has come to its end all the same.
        return result

    async def _bound_alone(self, awaitable: Awaitable[_T]) -> _T:
        """Await something in a task that has a deadline here already, or is being cancelled."""
        deadline = asyncio.timeout(self._seconds)
        try:
            async with deadline:
                return await awaitable
        except TimeoutError as error:
            if deadline.expired():
                raise self._overdue() from error
            raise

    def _set(self, loop: AbstractEventLoop, watch: _Watch, seconds: float) -> None:
        watch.is_set = True
        loop.call_later(seconds, self._sweep, loop, watch, loop.time() + seconds)

    def _sweep(self, loop: AbstractEventLoop, watch: _Watch, due: float) -> None:
        now = loop.time()
        if watch.chances and now - due > _LATE_SECONDS:
            watch.chances -= 1
            self._set(loop, watch, min(now - due, self._seconds))
            return
        watch.chances = _CHANCES
        for task, began in list(watch.began.items()):
            rest_seconds = began + self._seconds - now
            if rest_seconds > 0:
                self._set(loop, watch, rest_seconds)
                return
            del watch.began[task]
            task.cancel()
        watch.is_set = False


class HeedingCancellation:
    """A block in which no cancellation is lost, as drivers lose some; who cancelled would wait for its end for ever.

    A write of redis-py that has a timeout does: it is an `asyncio.wait_for`, which before CPython 3.12 returns as if
    nothing had been when it is cancelled in the turn in which the write has ended.

    Raises:
        CancelledError: The task was cancelled in the block, whatever came of that.
    """

    __slots__ = ("_before", "_task")

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._before = self._task.cancelling() if self._task else 0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        is_over = error is None or isinstance(error, Exception)
        if is_over and self._task and self._task.cancelling() > self._before:
            raise asyncio.CancelledError from error
