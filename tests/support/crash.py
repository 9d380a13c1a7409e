"""Stopping a coroutine dead at any of its awaits, as a process that is killed there would."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

# A collected coroutine runs its `finally` blocks, and a killed process does not: the dead are kept.
_graveyard: list[Any] = []


class KilledError(BaseException):
    """The coroutine was stopped; it will never go on."""


class KilledAt:
    """Awaits a coroutine up to its n-th suspension, and never resumes it from there.

    Args:
        coroutine: The victim.
        suspension: Which suspension is its last, from 1 on.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], suspension: int) -> None:
        self._coroutine = coroutine
        self._left = suspension

    def __await__(self) -> Generator[Any, Any, Any]:
        sent: Any = None
        error: BaseException | None = None
        while True:
            try:
                waiting_for = self._coroutine.throw(error) if error else self._coroutine.send(sent)
            except StopIteration as end:
                return end.value
            self._left -= 1
            if self._left == 0:
                _graveyard.append((self._coroutine, waiting_for))
                raise KilledError
            sent, error = None, None
            try:
                sent = yield waiting_for
            except BaseException as thrown:  # noqa: BLE001 - whatever it is belongs to the coroutine
                error = thrown


class CancelledAt:
    """Awaits a coroutine and cancels its task at the n-th suspension.

    Args:
        coroutine: The victim.
        suspension: Where it is cancelled, from 1 on.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], suspension: int) -> None:
        self._coroutine = coroutine
        self._left = suspension

    def __await__(self) -> Generator[Any, Any, Any]:
        sent: Any = None
        error: BaseException | None = None
        while True:
            try:
                waiting_for = self._coroutine.throw(error) if error else self._coroutine.send(sent)
            except StopIteration as end:
                return end.value
            self._left -= 1
            if self._left == 0:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            sent, error = None, None
            try:
                sent = yield waiting_for
            except BaseException as thrown:  # noqa: BLE001 - the same
                error = thrown
