"""What one run measured, and which goals that meets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.fleet import REPLICAS, Many, Trips
from tests.benchmarks.ours import (
    EVALSHA,
    EVALSHA_UNBOUNDED,
    HEARD,
    MIRRORED,
    STRICT,
    UNGUARDED,
    WAITS,
    WAITS_MIRRORED,
)
from tests.benchmarks.peers import YARDSTICK
from tests.benchmarks.silence import BOUND_SECONDS
from tests.benchmarks.subjects import Subject
from tests.benchmarks.timing import Series

# How many mirrored calls are made in front of a server that lists every command.
QUIET_CALLS = 10_000


@dataclass(frozen=True, slots=True)
class Goal:
    """A promise, and what was measured.

    Attributes:
        limit: The most that it may be.
        unit: Written behind both numbers.
    """

    what: str
    measured: float
    limit: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        return self.measured <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One run.

    Attributes:
        subjects: Everything that was timed.
        closed_commands: Commands that the server saw in `QUIET_CALLS` mirrored calls.
        refused_commands: The same for mirrored refusals.
        rate_commands: The same for mirrored calls whose outcomes are counted, which are reported in batches.
        trips: When a fleet saw a trip.
        messages: When as many processes that do nothing else received a message of that size.
        silence_seconds: For how long each replica relied on its copy after its connection died silently.
        idle_commands: Commands in a second from an idle fleet.
        many: A replica with many circuits.
        key_bytes: What the keys of one circuit take in Redis: one that is healthy, one that is open.
    """

    subjects: list[Subject]
    closed_commands: int
    refused_commands: int
    rate_commands: int
    trips: Trips
    messages: Trips
    silence_seconds: list[float]
    idle_commands: float
    many: Many
    key_bytes: dict[str, int]

    def subject(self, name: str) -> Subject:
        """Find a subject by its name; the first, where a library comes both with Redis and without."""
        return next(one for one in self.subjects if one.name == name)

    def ratio(self, name: str, base: str) -> float:
        """Compare two closed calls."""
        return self.subject(name).closed.ratio_to(self.subject(base).closed)

    def refused(self, name: str) -> Series:
        """Find the refused calls of a subject that refuses."""
        refused = self.subject(name).refused
        assert refused is not None
        return refused

    def goals(self) -> list[Goal]:
        """Hold what was measured against what was promised."""
        refused = self.refused(MIRRORED)
        return [
            Goal(f"closed, mirrored: ratio to {YARDSTICK}, closed", self.ratio(MIRRORED, YARDSTICK), 0.6),
            Goal(f"closed, mirrored: commands in {QUIET_CALLS:,} calls", self.closed_commands, 0),
            Goal("refused, mirrored", refused.median_us, 1.5, "µs"),
            Goal(f"refused, mirrored: commands in {QUIET_CALLS:,} calls", self.refused_commands, 0),
            Goal(f"closed, strict: ratio to {EVALSHA}", self.ratio(STRICT, EVALSHA), 1.15),
            Goal(
                f"a trip is seen by the last of {REPLICAS} replicas, p99 of the undisturbed",
                percentile(self.trips.last, 0.99),
                10,
                "ms",
            ),
            Goal("a copy is relied on after its link died, at most", self.silence_seconds[-1], BOUND_SECONDS, "s"),
        ]

    def asides(self) -> list[tuple[str, float]]:
        """Numbers that no goal is set for, and that a reader will ask for."""
        refused, raised = self.refused(MIRRORED), self.refused(UNGUARDED)
        return [
            ("refused, mirrored: ratio to a call that raises by itself", refused.ratio_to(raised)),
            (f"closed, strict: ratio to {EVALSHA_UNBOUNDED}", self.ratio(STRICT, EVALSHA_UNBOUNDED)),
            ("closed, mirrored, with a listener: ratio to one without", self.ratio(HEARD, MIRRORED)),
            ("closed, mirrored, a call that waits once: ratio to no breaker", self.ratio(WAITS_MIRRORED, WAITS)),
            (f"closed, mirrored, FailureRate: commands in {QUIET_CALLS:,} calls made at once", self.rate_commands),
        ]


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that this share of sorted values does not exceed; infinity when there are no values."""
    if not ordered:
        return math.inf
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
