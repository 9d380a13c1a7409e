"""How a call is timed: in short rounds, so that a machine whose speed drifts is the same machine for every row."""

from __future__ import annotations

import gc
import random
import statistics
import time
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

# The median of that many rounds counts; one round of one row takes about so long.
ROUNDS = 120
_ROUND_SECONDS = 0.01
_LEAST_CALLS = 20

# As much as fits into a processor's own cache, since that is what a neighbour on the host takes away.
_PACE_NUMBERS = 20_000
_PACE_WARM_UP = 50
# How many times the usual time is a disturbance; those that were seen made it three to thirteen times as long.
_PACE_SLOW = 2


class UnexpectedOutcomeError(Exception):
    """A call that should have been refused was made, so what was timed is not what the row says."""


@dataclass(slots=True)
class Series:
    """One thing that is timed.

    Attributes:
        call: What is called; awaited unless `blocking`.
        refusal: What every call raises, when it is the refusal that is timed.
        blocking: Whether the call is an ordinary function.
        calls: How many in a round; found out by `calibrate`.
    """

    call: Callable[[], Any]
    refusal: type[Exception] | None = None
    blocking: bool = False
    calls: int = 0
    times_us: list[float] = field(default_factory=list)

    @property
    def median_us(self) -> float:
        """The median of the rounds, microseconds for a call."""
        return statistics.median(self.times_us)

    def ratio_to(self, base: Series) -> float:
        """The median of what this takes in a round as a multiple of what another takes in the same round."""
        return statistics.median(mine / its for mine, its in zip(self.times_us, base.times_us, strict=True))

    async def run(self, calls: int) -> None:
        """Call that many times."""
        if self.refusal is None:
            await (_call if self.blocking else _await)(self.call, calls)
        else:
            await (_call_refused if self.blocking else _await_refused)(self.call, self.refusal, calls)

    async def calibrate(self) -> None:
        """Find out how many calls make a round."""
        calls, seconds = _LEAST_CALLS, 0.0
        while (seconds := await self._seconds(calls)) < _ROUND_SECONDS / 4:
            calls *= 2
        self.calls = max(_LEAST_CALLS, int(calls * _ROUND_SECONDS / seconds))

    async def measure(self) -> None:
        """Time one round."""
        self.times_us.append(await self._seconds(self.calls) / self.calls * 1e6)

    async def _seconds(self, calls: int) -> float:
        started = time.perf_counter()
        await self.run(calls)
        return time.perf_counter() - started


class Pace:
    """Tells whether the machine is as fast as it usually is, by what one and the same work takes.

    A neighbour on the host can take the shared caches away for tens of milliseconds, in which everything here takes
    several times as long; the kernel does not see that, and counts no stolen time. What is measured is processor time,
    so that programs of this machine's own that wait for the same processor slow nothing.
    """

    def __init__(self) -> None:
        # In no order, so that the processor cannot fetch them before they are asked for.
        self._numbers = random.Random(0).sample(range(_PACE_NUMBERS), _PACE_NUMBERS)
        self._usual_ns = sorted(self._work_ns() for _ in range(_PACE_WARM_UP))

    def is_slow(self) -> bool:
        """Do the work, and tell whether it took more than twice as long as it usually did so far."""
        self._work_ns()  # whatever ran before has the caches, and that slows nobody down but itself
        taken_ns = self._work_ns()
        insort(self._usual_ns, taken_ns)
        return taken_ns > _PACE_SLOW * self._usual_ns[len(self._usual_ns) // 2]

    def _work_ns(self) -> int:
        started_ns = time.thread_time_ns()
        sum(self._numbers)
        return time.thread_time_ns() - started_ns


async def measure(series: Sequence[Series], progress: Callable[[], None]) -> None:
    """Time every series in turn, round by round."""
    for one in series:
        await one.calibrate()
    # What the set-up left behind is not collected at the expense of whichever row comes first.
    gc.collect()
    gc.freeze()
    for _ in range(ROUNDS):
        for one in series:
            await one.measure()
        progress()
    gc.unfreeze()


# Four plain loops rather than one with a wrapper around the call: a wrapper costs as much as a good breaker.


async def _await(call: Callable[[], Any], calls: int) -> None:
    for _ in range(calls):
        await call()


async def _call(call: Callable[[], Any], calls: int) -> None:
    for _ in range(calls):
        call()


async def _await_refused(call: Callable[[], Any], refusal: type[Exception], calls: int) -> None:
    for _ in range(calls):
        try:
            await call()
        except refusal:
            continue
        raise UnexpectedOutcomeError


async def _call_refused(call: Callable[[], Any], refusal: type[Exception], calls: int) -> None:
    for _ in range(calls):
        try:
            call()
        except refusal:
            continue
        raise UnexpectedOutcomeError
