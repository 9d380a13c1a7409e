"""One timer for many calls that may all take equally long."""

from __future__ import annotations

import asyncio
import time
from typing import Any


class Deadlines:
    """Cancels calls that take too long; what `asyncio.timeout` does for one call, at a fraction of its cost.

    Every call may take the same time, so they expire in the order in which they began, and one timer for the oldest of
    them is enough: a call that ends in time costs an entry in a dictionary. Only for tasks that nobody is cancelling
    and that have no other call here; the rest belongs to `asyncio.timeout`.

    Args:
        seconds: How long a call may take.

    Attributes:
        running: When each task's call began; whoever begins a call puts it here and calls `watch`.
        watching: Whether the timer is set.
    """

    __slots__ = ("_seconds", "running", "watching")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.running: dict[asyncio.Task[Any], float] = {}
        self.watching = False

    def watch(self) -> None:
        """Set the timer; to be called by the first who begins a call while nobody watches."""
        self.watching = True
        self._set_timer(self._seconds)

    def is_expired(self, task: asyncio.Task[Any], error: BaseException | None) -> bool:
        """Tell whether a call that has ended was cancelled by its deadline, and by nothing else."""
        if self.running.pop(task, None) is not None:
            return False
        # It was taken out when its time was up.
        return task.uncancel() == 0 and isinstance(error, asyncio.CancelledError)

    def _set_timer(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        now = time.monotonic()
        for task, began in list(self.running.items()):
            rest_seconds = began + self._seconds - now
            if rest_seconds > 0:
                self._set_timer(rest_seconds)
                return
            del self.running[task]
            task.cancel()
        self.watching = False
