"""What keeps a store that is down, slow or frozen from becoming the outage: a deadline, and a breaker of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from breaker._deadlines import Deadlines, HeedingCancellation
from breaker._errors import ScriptError, StoreUnavailableError

_T = TypeVar("_T")

_log = logging.getLogger("breaker")

# While the store is away one call in this time tries it again; every other call goes straight to the local layer.
_PAUSE_SECONDS = 1.0


class Presence:
    """Knows whether a store is away, and when to try it again; no I/O, so that tasks and threads share it.

    A server that has become a replica, or has no memory left, can be read but not written to. So what was noticed by a
    write ends with a write; and as each kind has an attempt of its own, reads take none from the writes.

    Attributes:
        degraded: True from the first command that failed until the first that succeeds again.
    """

    def __init__(self) -> None:
        self._try_again_at = {True: 0.0, False: 0.0}
        self._fails_to_write = False
        self._returns = 0
        self.degraded = False

    def check(self, *, reads: bool = False) -> int:
        """Let a command be tried, or raise `StoreUnavailableError` while the store is away.

        Returns:
            How often the store had come back before the command began.
        """
        if self.degraded:
            now = time.monotonic()
            if now < self._try_again_at[reads]:
                raise StoreUnavailableError("the store is away; the next attempt is due shortly")
            # Claimed before the attempt, so that one call at a time finds out how the store is.
            self._try_again_at[reads] = now + _PAUSE_SECONDS
        return self._returns

    def note_absence(self, error: Exception, returns: int, *, reads: bool = False) -> str:
        """Take that a command failed; returns what to log of it, if anything.

        Args:
            error: What went wrong.
            returns: What `check` gave. Whatever began before the store came back says nothing of it now: of many
                commands that wait for a frozen server, some are answered when it goes on and the others are too late.
            reads: Whether the command only reads.
        """
        if returns != self._returns:
            return ""
        self._fails_to_write = self._fails_to_write or not reads
        if self.degraded:
            return ""
        self.degraded = True
        self._try_again_at = dict.fromkeys(self._try_again_at, time.monotonic() + _PAUSE_SECONDS)
        return f"the store is away, each replica guards itself: {type(error).__name__}: {error}"

    def note_answer(self, *, reads: bool = False) -> str:
        """Take that a command succeeded; returns what to log of it, if anything."""
        if not self.degraded or (reads and self._fails_to_write):
            return ""
        self.degraded = self._fails_to_write = False
        self._returns += 1
        return "the store answers again; the shared circuits are back in force"


def log_change(words: str) -> None:
    """Log what was noted, if anything; by itself, since whatever handles it may call what is guarded."""
    if words:
        _log.warning("%s", words)


class StoreGuard:
    """Bounds every command to a store, and asks a store that is away once in a while only.

    Where the parts of a store may be away by themselves, as the nodes of a Cluster, each is asked for itself: calls for
    one that is away neither speak for the others nor take their attempts.

    Args:
        timeout_seconds: The longest that a command may take, connecting and queueing included.
        concurrency: How many commands may be out at once.
    """

    def __init__(self, timeout_seconds: float, concurrency: int) -> None:
        self._presences: dict[str, Presence] = {}
        self._deadlines = Deadlines(timeout_seconds, lambda: TimeoutError(f"no answer within {timeout_seconds:g} s"))
        self._slots = asyncio.Semaphore(concurrency)

    @property
    def away(self) -> list[str]:
        """The parts that are away."""
        return [part for part, presence in self._presences.items() if presence.degraded]

    async def run(self, command: Callable[[], Awaitable[_T]], part: str = "", *, reads: bool = False) -> _T:
        """Run a command, or raise `StoreUnavailableError`, whatever went wrong.

        Args:
            command: Sends it.
            part: Whom it is for.
            reads: Whether it only reads.
        """
        presence = self._presences.get(part)
        if presence is None:
            presence = self._presences[part] = Presence()
        returns = presence.check(reads=reads)
        try:
            with HeedingCancellation():
                reply = await self._deadlines.bound(self._in_turn(command))
        except ScriptError:
            log_change(presence.note_answer(reads=reads))  # It is there, and what is wrong is one circuit.
            raise
        except Exception as error:
            # Whatever a driver raises, beyond its own family too, must not become the outage of what is guarded.
            log_change(presence.note_absence(error, returns, reads=reads))
            raise StoreUnavailableError(f"{type(error).__name__}: {error}") from error
        log_change(presence.note_answer(reads=reads))
        return reply

    async def _in_turn(self, command: Callable[[], Awaitable[_T]]) -> _T:
        await self._slots.acquire()
        try:
            return await command()
        finally:
            self._slots.release()
