"""Which blocks of a breaker are open, and whose they are."""

from __future__ import annotations

import threading

from breaker.sync._permit import Permit

# Its number among the calls that are watched, which grows, and its permit.
_Block = tuple[int, Permit]


class OpenBlocks:
    """Finds the block that is left.

    That is the innermost of the thread that leaves one. A block may also be left in another thread than it was entered
    in, by a generator or an exit stack: then it is the newest there is, and rather one whose thread has ended, since
    that thread cannot leave it any more.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # Each thread's are replaced as a whole, and there is no thread without any: a signal handler that enters and
        # leaves a block in the middle of this, or raises, leaves nothing half done.
        self._of_threads: dict[threading.Thread, tuple[_Block, ...]] = {}

    def enter(self, number: int, permit: Permit) -> None:
        """Note that this thread has entered a block."""
        with self._lock:
            thread = threading.current_thread()
            self._of_threads[thread] = (*self._of_threads.get(thread, ()), (number, permit))

    def leave(self) -> _Block | None:
        """Take out the block that this thread leaves; None when none is open."""
        with self._lock:
            blocks, thread = self._of_threads, threading.current_thread()
            if thread not in blocks:
                if not blocks:
                    return None
                thread = max(blocks, key=lambda other: (not other.is_alive(), blocks[other][-1][0]))
            *others, block = blocks[thread]
            if others:
                blocks[thread] = (*others,)
            else:
                del blocks[thread]
            return block
