"""What a store is to hear of calls: how one of them ended, or for a rate many together."""

from __future__ import annotations

from dataclasses import replace

from breaker._call import Call
from breaker._judge import Verdict
from breaker._replica import Replica
from breaker._types import OpenFor, Outcome, Report


class Reports:
    """Writes the reports of one replica on one circuit, and gathers what a rate need not hear at once.

    What waits belongs to one generation, the newest that was heard of: anything earlier would be stale on arrival.

    Args:
        replica: Who reports.

    Attributes:
        generation: Of what waits.
    """

    __slots__ = ("_calls", "_replica", "_slow", "generation")

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.generation = self._calls = self._slow = 0

    def of(self, call: Call, verdict: Verdict, error: str = "") -> Report:
        """Write how a call ended."""
        if isinstance(verdict, OpenFor):
            outcome, open_for_ms = Outcome.FAILURE, max(1, round(verdict.seconds * 1000))
        else:
            outcome, open_for_ms = verdict, 0
        failed = outcome is Outcome.FAILURE
        return Report(
            permit_id=call.permit_id,
            generation=call.permit.generation,
            outcome=outcome,
            error=error if failed else "",
            replica_id=self._replica.id,
            calls=0 if call.counted else 1,
            failures=int(failed),
            open_for_ms=open_for_ms,
        )

    def given_back_unseen(self, permit_id: str) -> Report:
        """Give back a place that a lost answer may have granted."""
        return Report(permit_id=permit_id, generation=0, outcome=Outcome.IGNORED, replica_id=self._replica.id)

    def gather(self, generation: int, slow: int = 0) -> None:
        """Let a call wait to be told of together with others."""
        if generation > self.generation:
            self.generation, self._calls, self._slow = generation, 0, 0
        if generation == self.generation:
            self._calls += 1
            self._slow += slow

    def with_waiting(self, report: Report) -> Report:
        """Add what waits to a report of the same generation."""
        if report.generation != self.generation:
            return report
        calls, slow = self._calls, self._slow
        self._calls = self._slow = 0
        return replace(report, calls=report.calls + calls, slow=report.slow + slow)

    @property
    def are_waiting(self) -> bool:
        """Whether any calls wait."""
        return self._calls > 0

    def flush(self) -> Report | None:
        """Take what waits, to report it now."""
        if not self._calls:
            return None
        return self.with_waiting(
            Report(
                permit_id=self._replica.permit_id(),
                generation=self.generation,
                outcome=Outcome.SUCCESS,
                replica_id=self._replica.id,
                calls=0,
            )
        )

    def forget(self) -> None:
        """Drop what waits: the store has gone back to an earlier generation, which may be in force again."""
        self.generation = self._calls = self._slow = 0
