"""Leave to make one call, in the caller's hands: for calls that are not one function, such as a streamed answer."""

from __future__ import annotations

import asyncio
from typing import Any

from breaker._call import Call
from breaker._judge import Judge, Verdict
from breaker._link import Link
from breaker._types import State


class Permit:
    """Leave to make one call, to be settled once; whatever comes after the first settling does nothing.

    A probe that is never settled keeps its place until its lease lapses. A permit has no deadline of its own: whoever
    holds it bounds the call, and settles one that took too long as a failure. A call that hangs is counted as slow all
    the same, if the policy counts slow calls.
    """

    __slots__ = ("_call", "_judge", "_link", "_settled", "_slow_timer")

    def __init__(self, call: Call, link: Link, judge: Judge, slow_call_seconds: float | None) -> None:
        self._call = call
        self._link = link
        self._judge = judge
        self._settled = False
        self._slow_timer: asyncio.TimerHandle | None = None
        if slow_call_seconds is not None:
            self._slow_timer = asyncio.get_running_loop().call_later(slow_call_seconds, self._mark_slow)

    @property
    def state(self) -> State:
        """The circuit's state when the permit was issued; `HALF_OPEN` makes the call a probe."""
        return self._call.permit.state

    @property
    def generation(self) -> int:
        """The circuit's generation when the permit was issued."""
        return self._call.permit.generation

    async def settle(self, verdict: Verdict, error: BaseException | str | None = None) -> None:
        """Say how the call ended.

        Args:
            verdict: How; an `Outcome`, or `OpenFor` when the dependency said how long to stay away.
            error: What went wrong, for the record's `last_error`: the exception, or a word of your own.
        """
        if self._settled:
            return
        self._settled = True
        if self._slow_timer is not None:
            self._slow_timer.cancel()
        await self._link.settle(self._call, verdict, error)

    async def returned(self, result: Any) -> None:
        """Say that the call returned; `classify_result` tells what that means."""
        if not self._settled:  # Or the classifier would be asked for nothing.
            await self.settle(self._judge.of_result(result))

    async def raised(self, error: BaseException) -> None:
        """Say that the call raised; `classify_error` tells what that means, and a cancellation counts as nothing."""
        if not self._settled:
            await self.settle(self._judge.of_error(error), error)

    def _mark_slow(self) -> None:
        self._settled = self._link.mark_slow(self._call) or self._settled
