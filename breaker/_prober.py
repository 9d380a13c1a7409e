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
from breaker._types import Outcome, Reporting

_log = logging.getLogger("breaker")

# How long it waits at least; a probe that decided nothing has to wait longer before the next.
_SHORTEST_WAIT_SECONDS = 0.01
_PAUSE_SECONDS = 1.0
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
        self._probe = probe
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._closed = False

    def look(self) -> None:
        """Look at the circuit, of which there is news: whether it has to be probed, and when."""
        self._news.set()
        if self._closed or self._circuit.probe_wait_seconds() is None:
            return
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._news = asyncio.Event()
            # Not in the context of the call that brought the news: its trace has no part in this.
            self._task = loop.create_task(self._until_closed(), context=Context())

    async def aclose(self) -> None:
        """End it for good."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _until_closed(self) -> None:
        while (wait_seconds := self._circuit.probe_wait_seconds()) is not None:
            if wait_seconds > 0:
                if await self._is_news_within(min(wait_seconds, _LONGEST_WAIT_SECONDS)):
                    continue
            else:
                await asyncio.sleep(_SHORTEST_WAIT_SECONDS)
            await self._find_out()

    async def _is_news_within(self, seconds: float) -> bool:
        self._news.clear()
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
            await self._is_news_within(self._circuit.limits.cooldown_ms / 1000)
            return
        try:
            verdict, error = await self._outcome()
        except asyncio.CancelledError:
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
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return Outcome.FAILURE, error  # Of something that the probe itself waited for.
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the probe found out
            _log.debug("%s: the background probe failed: %s", self._circuit.name, type(error).__name__)
            return Outcome.FAILURE if deadline.expired() else self._judge.of_error(error), error
        return self._judge.of_result(result), None
