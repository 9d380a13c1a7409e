"""Which blocks of a breaker are open, and whose they are."""

from __future__ import annotations

import threading

from breaker.sync._permit import Permit

# Its number among the calls that are watched, which grows, its permit, and the thread that entered it.
Block = tuple[int, Permit, threading.Thread]


class OpenBlocks:
    """Finds the block that is left.

    That is the innermost of the thread that leaves one. A block may also be left in another thread than it was entered
    in, by a generator or an exit stack: then it is the newest there is, and rather one whose thread has ended, since
    that thread cannot leave it any more.

    Attributes:
        lock: For finding a block and taking it out.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        # Each thread's are replaced as a whole, and there is no thread without any: a signal handler that enters and
        # leaves a block in the middle of this, or raises, leaves nothing half done.
        self._of_threads: dict[threading.Thread, tuple[Block, ...]] = {}

    def enter(self, block: Block) -> None:
        """Note that a thread has entered a block."""
        with self.lock:
            self._of_threads[block[2]] = (*self._of_threads.get(block[2], ()), block)

    def innermost(self) -> Block | None:
        """Find the block that this thread leaves; None when none is open."""
        with self.lock:
            blocks, thread = self._of_threads, threading.current_thread()
            if thread not in blocks:
                if not blocks:
                    return None
                thread = max(blocks, key=lambda other: (not other.is_alive(), blocks[other][-1][0]))
            return blocks[thread][-1]

    def take_out(self, block: Block) -> None:
        """Note that a block was left, or not entered after all."""
        with self.lock:
            others = [other for other in self._of_threads.get(block[2], ()) if other is not block]
            if others:
                self._of_threads[block[2]] = (*others,)
            else:
                self._of_threads.pop(block[2], None)
