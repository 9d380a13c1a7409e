"""What a failure rate counts: calls in time buckets, and when their shares say that the circuit should trip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from breaker._limits import Limits
from breaker._types import Report

# The window moves on by a tenth of itself: fine enough that nobody waits long for an old failure to leave, and the
# memory stays at ten buckets whatever the traffic.
BUCKETS = 10


class Counts(NamedTuple):
    """How many calls, how many of them failed, how many were slow."""

    calls: int = 0
    failures: int = 0
    slow: int = 0

    def plus(self, other: Counts) -> Counts:
        """Add two of them."""
        return Counts(self.calls + other.calls, self.failures + other.failures, self.slow + other.slow)


Window = Mapping[int, Counts]  # when a bucket began, ms → what it holds


def count(window: Window, told: Report, window_ms: int, now_ms: int) -> tuple[Window, Counts]:
    """Count what was told in the bucket of now, forget what is out of the window, and add up what is in it."""
    # A bucket is named by its moment, not by a number, so that replicas whose windows differ, as during a rolling
    # deploy, can read each other's.
    bucket_ms = window_ms // BUCKETS
    current = now_ms - now_ms % bucket_ms
    live = {began: counts for began, counts in window.items() if current - bucket_ms * BUCKETS < began <= now_ms}
    live[current] = live.get(current, Counts()).plus(Counts(told.calls, told.failures, told.slow))
    sums = Counts()
    for counts in live.values():
        sums = sums.plus(counts)
    return live, sums


def verdict(sums: Counts, limits: Limits) -> str:
    """Say why the circuit should trip, or nothing if it should not."""
    if sums.calls < limits.minimum_calls:
        return ""
    for part, percent, what in (
        (sums.failures, limits.failure_percent, "failed"),
        (sums.slow, limits.slow_percent, "were slow"),
    ):
        if percent and part * 100 >= percent * sums.calls:
            return f"{part} of {sums.calls} calls {what}"
    return ""
