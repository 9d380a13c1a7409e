"""Outcomes that a rate has not been told yet, so that a healthy call sends nothing by itself."""

from __future__ import annotations

from dataclasses import replace

from breaker._types import Report


class Tally:
    """Gathers reports of one generation into one."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: Report | None = None

    def __bool__(self) -> bool:
        """Tell whether anything waits."""
        return self._waiting is not None

    def add(self, report: Report) -> None:
        """Let a report wait."""
        self._waiting = self._with_waiting(report)

    def take(self, report: Report | None = None) -> Report | None:
        """Return everything that waits, together with a report if there is one."""
        whole = self._waiting if report is None else self._with_waiting(report)
        self._waiting = None
        return whole

    def _with_waiting(self, report: Report) -> Report:
        waiting = self._waiting
        if waiting is None or waiting.generation != report.generation:
            return report  # What belongs to another generation would be stale on arrival.
        return replace(report, calls=report.calls + waiting.calls, slow=report.slow + waiting.slow)
