"""What the guard of a store makes of commands that end in strange ways."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from breaker import StoreUnavailableError
from breaker._store_guard import Presence, StoreGuard


@pytest.mark.parametrize("answers", [True, False])
async def test_a_cancellation_that_the_driver_loses_cancels_all_the_same(answers: bool) -> None:
    """Whoever cancelled waits for the task's end, which such a driver would put off for ever."""
    guard, began = StoreGuard(60, 1), asyncio.Event()

    async def loses_it() -> str:
        try:
            began.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not answers:
                raise ConnectionError("no connection") from None
        return "PONG"

    task = asyncio.create_task(guard.run(loses_it))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert guard.away == []


def test_a_store_that_is_away_is_tried_by_one_call_and_one_look_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the pages promise: before a second is over by nobody, after it by the first of many."""
    presence, seconds = Presence(), 1000.0
    monkeypatch.setattr("breaker._store_guard.time", SimpleNamespace(monotonic=lambda: seconds))

    def tried(*, reads: bool) -> int:
        """Count who is let through of five that ask at this moment."""
        through = 0
        for _ in range(5):
            try:
                presence.check(reads=reads)
            except StoreUnavailableError:
                continue
            through += 1
        return through

    presence.note_absence(OSError(), presence.check())
    for _ in range(2):
        seconds += 0.9375
        assert (tried(reads=False), tried(reads=True)) == (0, 0)
        seconds += 0.0625
        assert (tried(reads=False), tried(reads=True)) == (1, 1)


async def test_a_command_from_before_the_store_came_back_takes_it_away_no_more() -> None:
    """Of those that wait for a frozen server some are answered when it goes on; the others say nothing of it then."""
    guard, thawed = StoreGuard(60, 9), asyncio.Event()

    async def answers() -> str:
        await thawed.wait()
        return "PONG"

    async def is_too_late() -> str:
        await thawed.wait()
        await asyncio.sleep(0)
        raise TimeoutError("no answer")

    async def fails() -> str:
        raise TimeoutError("no answer")

    answered, late = (asyncio.create_task(guard.run(command)) for command in (answers, is_too_late))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError):
        await guard.run(fails)
    assert guard.away == [""]
    thawed.set()
    assert await answered == "PONG"
    with pytest.raises(StoreUnavailableError):
        await late
    assert guard.away == []
    with pytest.raises(StoreUnavailableError):
        await guard.run(fails)
    assert guard.away == [""]
