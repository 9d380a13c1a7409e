"""What the search says of a circuit: no names, no numbers of generations, and of moments only what is left of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Trace(NamedTuple):
    """What the record holds of one permit.

    Attributes:
        lease_ms: The rest of its lease; 0 when it has lapsed and is still there, -1 when there is none.
        counted: Whether its failure is among those that are counted.
    """

    lease_ms: int = -1
    counted: bool = False

    def later(self, ms: int) -> Trace:
        """The same after some time."""
        return Trace(max(0, self.lease_ms - ms), self.counted) if self.lease_ms > 0 else self


NO_TRACE = Trace()


class Bucket(NamedTuple):
    """Calls of a rate's window.

    Attributes:
        age: Buckets since; what is out of the window lies together at the first age that is.
    """

    age: int
    calls: int
    failures: int


BUCKETS = 10  # in a window


class Core(NamedTuple):
    """What else of a record decides what happens; moments are what is left of them, in ms, 0 when they are over.

    Attributes:
        failures: In a row; a rate has buckets instead.
        mode_ms: -1 when the mode has no end.
    """

    state: str = "absent"
    failures: int = 0
    retry_ms: int = 0
    probe_successes: int = 0
    mode: str = "auto"
    mode_ms: int = -1
    buckets: tuple[Bucket, ...] = ()

    def later(self, ms: int, bucket_ms: int) -> Core:
        """The same after some time, which is a number of whole buckets if there are buckets."""
        return self._replace(
            retry_ms=max(0, self.retry_ms - ms),
            mode_ms=max(0, self.mode_ms - ms) if self.mode_ms >= 0 else -1,
            buckets=put_together(bucket._replace(age=bucket.age + ms // bucket_ms) for bucket in self.buckets)
            if bucket_ms
            else (),
        )


def put_together(buckets: Iterable[Bucket]) -> tuple[Bucket, ...]:
    """Add up what is in the same bucket."""
    sums: dict[int, tuple[int, int]] = {}
    for age, calls, failures in buckets:
        before = sums.get(min(age, BUCKETS), (0, 0))
        sums[min(age, BUCKETS)] = before[0] + calls, before[1] + failures
    return tuple(Bucket(age, *sums[age]) for age in sorted(sums))


ABSENT = Core()


class Question(NamedTuple):
    """What is asked of a circuit.

    Attributes:
        verb: `acquire`, `report`, `give_back` (the answer to `acquire` was lost) or `control`.
        word: The outcome of a report, the action of an operator, `abstain` for who asks but leaves probing to others.
        fresh: Whether a report carries the generation that the record is in.
        duration_ms: How long an operator's mode holds; 0 without an end.
    """

    verb: str
    word: str = ""
    fresh: bool = False
    duration_ms: int = 0


class Case(NamedTuple):
    """A question put to a circuit: by whom, and who else has left a trace there."""

    core: Core
    others: tuple[Trace, ...]
    own: Trace
    question: Question


class Effect(NamedTuple):
    """What a question did, and what was answered.

    Attributes:
        others: The others' traces afterwards, in the order of the case.
        untouched: Not a byte of the circuit changed, its revision and its events included.
        moved: The generation changed.
        rose: The generation is higher than before and not behind the clock.
        told: The state that the answer names.
        current: The answer names the generation that the record is in.
        known: The answer names a generation at all.
        word: `permitted`, `refused`, `recorded`, `stale` or `done`.
        wants: Which outcomes a permit asks to be reported.
    """

    core: Core
    others: tuple[Trace, ...]
    own: Trace
    untouched: bool
    moved: bool
    rose: bool
    told: str
    current: bool
    known: bool
    word: str
    wants: str = ""
    reason: str = ""
    retry_after_ms: int = 0
