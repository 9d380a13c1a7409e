"""Blocks of `async with breaker`: each settles its own permit, whoever enters and leaves them in which order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest

from breaker import BreakerConfig, CallTimeoutError, CircuitBreaker, MemoryStore, State
from tests.support.replica import ProviderDownError, until
from tests.support.stores import ManualClock


@pytest.fixture
def store() -> MemoryStore:
    """An in-memory store whose clock stands still."""
    return MemoryStore(ManualClock())


async def seen(store: MemoryStore, name: str) -> tuple[State, int]:
    """Read a circuit: its state, and the failures counted."""
    view = await store.snapshot(name)
    assert view is not None
    return view.state, view.failures


async def read(breaker: CircuitBreaker, items: int, *, fails: bool) -> AsyncIterator[int]:
    """Give items out of a guarded block."""
    async with breaker:
        for item in range(items):
            yield item
        if fails:
            raise ProviderDownError


async def test_generators_that_take_turns_settle_their_own_circuits(store: MemoryStore) -> None:
    """The sick dependency's block ends while the healthy one's is still open, entered after it."""
    sick, healthy = CircuitBreaker("sick", store), CircuitBreaker("healthy", store)
    for _ in range(3):
        failing, working = read(sick, 1, fails=True), read(healthy, 2, fails=False)
        await anext(failing)
        await anext(working)
        with pytest.raises(ProviderDownError):
            await anext(failing)
        assert [item async for item in working] == [1]
    assert await seen(store, "sick") == (State.OPEN, 3)
    assert await seen(store, "healthy") == (State.CLOSED, 0)


async def test_a_block_may_be_entered_in_a_task_that_was_made_for_it(store: MemoryStore) -> None:
    """An exit stack bounds the entering; the block is left by the task that goes on, with its own result."""
    breaker = CircuitBreaker("c", store)

    async def call(error: Exception | None = None) -> str:
        async with AsyncExitStack() as stack:
            await asyncio.create_task(stack.enter_async_context(breaker))
            if error is not None:
                raise error
            return "charged"

    assert await call() == "charged"
    with pytest.raises(ProviderDownError):
        await call(ProviderDownError())
    assert await seen(store, "c") == (State.CLOSED, 1)
    assert not breaker._open_blocks._of_tasks


async def test_a_block_of_a_task_that_has_ended_is_left_before_that_of_one_that_runs(store: MemoryStore) -> None:
    """Two blocks are open; the one that its own task cannot leave any more is the one that another leaves."""
    breaker = CircuitBreaker("c", store)
    may_end = asyncio.Event()

    async def works_on() -> None:
        async with breaker:
            await may_end.wait()

    entered = asyncio.create_task(breaker.__aenter__())
    await entered
    running = asyncio.create_task(works_on())
    await until(lambda: len(breaker._open_blocks._of_tasks) == 2)
    await breaker.__aexit__(ProviderDownError, ProviderDownError(), None)
    assert list(breaker._open_blocks._of_tasks) == [running]
    await breaker.__aexit__(None, None, None)
    may_end.set()
    await running
    assert await seen(store, "c") == (State.CLOSED, 0)


async def test_leaving_a_block_that_nobody_entered_does_nothing(store: MemoryStore) -> None:
    """A breaker never raises where a call has ended."""
    await CircuitBreaker("c", store).__aexit__(None, None, None)


async def test_an_abandoned_generator_leaves_nothing_behind(store: MemoryStore) -> None:
    """Its block is closed with it."""
    breaker = CircuitBreaker("c", store)
    for _ in range(3):
        async for _ in read(breaker, 3, fails=False):
            break
    await until(lambda: not breaker._open_blocks._of_tasks)


async def test_a_block_that_takes_too_long_is_a_failure(store: MemoryStore) -> None:
    """The deadline of a block is its own."""
    breaker = CircuitBreaker("c", store, BreakerConfig(call_timeout_seconds=0.01))
    with pytest.raises(CallTimeoutError):
        async with breaker:
            await asyncio.Event().wait()
    assert await seen(store, "c") == (State.CLOSED, 1)


def test_a_block_that_is_closed_after_its_event_loop_is_left_in_silence() -> None:
    """The collector of garbage may do that; nothing complains, and nothing of the block is kept."""
    breaker = CircuitBreaker("c", MemoryStore())

    async def stays() -> None:
        async with breaker:
            await asyncio.Event().wait()

    async def enter() -> Coroutine[Any, Any, None]:
        staying = stays()
        staying.send(None)
        return staying

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        staying = loop.run_until_complete(enter())
    staying.close()
    assert not breaker._open_blocks._of_tasks
