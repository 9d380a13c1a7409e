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


class Bucket(NamedTuple):
    """When a bucket began, and how much time it holds, in ms; that tells how far back whoever wrote it looks."""

    began_ms: int
    width_ms: int


Window = Mapping[Bucket, Counts]


def count(window: Window, told: Report, window_ms: int, now_ms: int) -> tuple[Window, Counts]:
    """Count what was told in the bucket of now, and add up what lies in the window, whoever told of it."""
    width_ms = window_ms // BUCKETS
    current = Bucket(now_ms - now_ms % width_ms, width_ms)
    counted = Counts(told.calls, told.failures, told.slow)
    after = dict(swept(window, now_ms))
    if any(counted):
        after[current] = after.get(current, Counts()).plus(counted)
    sums = Counts()
    for bucket, counts in after.items():
        if _in_window(bucket.began_ms, width_ms, now_ms):
            sums = sums.plus(counts)
    return after, sums


def swept(window: Window, now_ms: int) -> Window:
    """Forget each bucket that is out of the window of whoever wrote it.

    Replicas with windows of several lengths may share a circuit, as during a rolling deploy: a short one must not take
    away what a long one counts.
    """
    return {bucket: counts for bucket, counts in window.items() if _in_window(*bucket, now_ms)}


def _in_window(began_ms: int, width_ms: int, now_ms: int) -> bool:
    """Tell whether a bucket lies in the window that ends now and is ten times as long as that width."""
    return now_ms - now_ms % width_ms - width_ms * BUCKETS < began_ms <= now_ms


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
