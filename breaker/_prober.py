"""The background probe: finds out whether the dependency is back, so that no caller has to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Protocol

from breaker._call import Call
from breaker._circuit import Circuit
from breaker._errors import CallNotPermittedError
from breaker._judge import Judge, Verdict
from breaker._steps import NothingToAwaitError, returning_coroutines
from breaker._types import Outcome, Reporting

_log = logging.getLogger("breaker")

# How long it waits at least; a probe that decided nothing has to wait longer before the next.
_SHORTEST_WAIT_SECONDS = 0.01
_PAUSE_SECONDS = 1.0
# So much earlier a moment has to be to be another one.
_CLOCKS_SECONDS = 0.001
# And at most: a store may tell nothing of what an operator changes.
_LONGEST_WAIT_SECONDS = 60.0


class Asking(Protocol):
    """What a probe needs of the way to the store."""

    async def ask(self, *, in_background: bool = False) -> Call:
        """Ask for leave to make one call."""
        ...

    async def settle(self, call: Call, verdict: Verdict, error: BaseException | str | None = None) -> None:
        """Settle it."""
        ...


class Prober:
    """Competes for the probe's place each time that it may be free, and makes the call that finds out.

    Args:
        circuit: The circuit.
        link: Asks and settles.
        judge: Says what the probe's end means.
        probe: The call.
    """

    def __init__(self, circuit: Circuit, link: Asking, judge: Judge, probe: Callable[[], Awaitable[object]]) -> None:
        self._circuit = circuit
        self._link = link
        self._judge = judge
        self._probe = returning_coroutines(probe)
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        # What was waited for last: in which circumstances, and until when.
        self._known: tuple[object, ...] = ()
        self._due = 0.0
        self._closed = False

    def look(self) -> None:
        """Look at the circuit, of which there may be news: whether it has to be probed, and when."""
        wait_seconds = self._circuit.probe_wait_seconds()
        loop = asyncio.get_running_loop()
        if (
            self._circumstances(wait_seconds) != self._known
            or loop.time() + (wait_seconds or 0.0) < self._due - _CLOCKS_SECONDS
        ):
            self._news.set()
        if self._closed or wait_seconds is None:
            return
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._news = asyncio.Event()
            # Not in the context of the call that brought the news: its trace has no part in this.
            self._task = loop.create_task(self._until_closed(), context=Context())

    async def aclose(self) -> None:
        """End it for good."""
        self._closed = True
        task = self._task
        # In an event loop that has ended it never comes to an end, and nothing of it either.
        if task is not None and task.get_loop() is asyncio.get_running_loop() and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task])

    async def _until_closed(self) -> None:
        while (wait_seconds := self._circuit.probe_wait_seconds()) is not None and not self._closed:
            if wait_seconds > 0:
                if await self._is_news_within(min(wait_seconds, _LONGEST_WAIT_SECONDS)):
                    continue
            else:
                await asyncio.sleep(_SHORTEST_WAIT_SECONDS)
            await self._find_out()

    def _circumstances(self, wait_seconds: float | None) -> tuple[object, ...]:
        known = self._circuit.known
        return wait_seconds is None, known.generation, known.mode, self._circuit.guard

    async def _is_news_within(self, seconds: float, *, may_come_earlier: bool = True) -> bool:
        self._news.clear()
        self._known = self._circumstances(self._circuit.probe_wait_seconds())
        self._due = asyncio.get_running_loop().time() + seconds if may_come_earlier else 0.0
        try:
            async with asyncio.timeout(seconds):
                return await self._news.wait()
        except TimeoutError:
            return False

    async def _find_out(self) -> None:
        try:
            call = await self._link.ask(in_background=True)
        except CallNotPermittedError:
            return
        if call.permit.reporting is not Reporting.ALL:
            # Everything goes through, so that nothing can be found out; whoever ends that makes news.
            await self._is_news_within(self._circuit.limits.cooldown_ms / 1000, may_come_earlier=False)
            return
        try:
            verdict, error = await self._outcome()
        except BaseException:
            await self._link.settle(call, Outcome.IGNORED)
            raise
        await self._link.settle(call, verdict, error)
        if verdict is Outcome.IGNORED:
            await asyncio.sleep(_PAUSE_SECONDS)  # The place is free again, and the same would come out at once.

    async def _outcome(self) -> tuple[Verdict, BaseException | None]:
        deadline = asyncio.timeout(self._circuit.config.call_timeout_seconds)
        try:
            async with deadline:
                result = await self._probe()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            if isinstance(error, NothingToAwaitError):  # As it will each time.
                _log.warning("%s: the background probe finds nothing out: %s", self._circuit.name, error)
            _log.debug("%s: the background probe failed: %s", self._circuit.name, type(error).__name__)
            if deadline.expired() or not isinstance(error, Exception):
                return Outcome.FAILURE, error  # A cancellation would be of something that the probe itself waited for.
            return self._judge.of_error(error), error
        return self._judge.of_result(result), None
