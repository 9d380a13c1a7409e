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
        """Let a report wait; one of an earlier generation than what waits would be stale on arrival."""
        if self._waiting is None or report.generation >= self._waiting.generation:
            self._waiting = _together(report, self._waiting)

    def take(self, report: Report | None = None) -> Report | None:
        """Return everything that waits, together with a report if there is one, unless that is of an earlier generation."""
        waiting = self._waiting
        if report is not None and waiting is not None and report.generation < waiting.generation:
            return report
        self._waiting = None
        return waiting if report is None else _together(report, waiting)


def _together(report: Report, waiting: Report | None) -> Report:
    if waiting is None or waiting.generation != report.generation:
        return report
    return replace(report, calls=report.calls + waiting.calls, slow=report.slow + waiting.slow)
