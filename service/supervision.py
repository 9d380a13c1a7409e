"""Work that goes on when whoever asked for it has gone: a client that hangs up must not abort a charge."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class TaskSupervisor:
    """Keeps tasks alive until they are done or the process has no more time."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do the work in a task of its own and wait for it; cancelling the wait does not cancel the work."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_tell)
            raise

    async def drain(self, limit_seconds: float) -> None:
        """Wait for all work, but no longer than the limit; what is left is cancelled, and its leases lapse."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=limit_seconds)
        for task in late:
            task.cancel()
        if late:
            _log.error("work_abandoned_at_shutdown", tasks=len(late))
            # A cancelled task may take its time as well; the process does not.
            await asyncio.wait(late, timeout=1.0)


def _tell(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.info("unattended_work_ended", error=type(error).__name__, detail=str(error))
