"""What the guard of a store makes of commands that end in strange ways."""

from __future__ import annotations

import asyncio

import pytest

from breaker._store_guard import StoreGuard


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
