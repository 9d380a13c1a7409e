"""Which blocks of a breaker are open, and whose they are."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from breaker._permit import Permit

_Block = tuple[Permit, asyncio.Timeout]


class OpenBlocks:
    """Finds the block that is left.

    That is the innermost of the task that leaves one. A block may also be left by another task than entered it: by one
    that was made for that, as `wait_for` does, or an async generator's. Then it is the newest there is, and rather one
    whose task has ended, since that task cannot leave it any more.
    """

    def __init__(self) -> None:
        self._of_tasks: dict[asyncio.Task[Any] | None, list[_Block]] = {}

    def enter(self, permit: Permit, deadline: asyncio.Timeout) -> None:
        """Note that this task has entered a block."""
        self._of_tasks.setdefault(asyncio.current_task(), []).append((permit, deadline))

    def leave(self) -> _Block | None:
        """Take out the block that this task leaves; None when none is open."""
        blocks, task = self._of_tasks, None
        with contextlib.suppress(RuntimeError):  # Closed after its event loop, as by the collector of garbage.
            task = asyncio.current_task()
        if task not in blocks:
            ended = (other for other in reversed(blocks) if other is None or other.done())
            task = next(ended, next(reversed(blocks), None))
        opened = blocks.get(task)
        if opened is None:
            return None
        block = opened.pop()
        if not opened:
            del blocks[task]
        return block
