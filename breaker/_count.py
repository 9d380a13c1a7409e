"""What a closed circuit counts, and when that says that it should trip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from breaker import _window
from breaker._limits import Limits
from breaker._record import Record
from breaker._types import Outcome, Report

# For so long a replica that saw a failure in a row is a witness. A run has no window, but a failure of last week, of a
# replica that is long gone, says nothing of today.
_RUN_SPAN_MS = 3_600_000

Counted = tuple[Record, dict[str, Any], str]


def count(record: Record, told: Report, limits: Limits, now_ms: int) -> Counted:
    """Count what was told; returns also what changes for everybody to see, and why the circuit should trip, if so."""
    if (told.outcome is Outcome.FAILURE or told.slow) and told.replica_id:
        # Kept for as long as anybody may ask, whose window is another.
        since_ms = now_ms - max(_RUN_SPAN_MS, limits.window_ms)
        recent = {who: at_ms for who, at_ms in record.reporters.items() if at_ms > since_ms}
        record = replace(record, reporters={**recent, told.replica_id: now_ms})
    record, changes, reason = (_count_run if limits.consecutive else _count_rate)(record, told, limits, now_ms)
    return record, changes, reason if _has_quorum(record, limits, now_ms) else ""


def _has_quorum(record: Record, limits: Limits, now_ms: int) -> bool:
    """Tell whether enough replicas saw failures or slow calls in the time that counts."""
    since_ms = now_ms - (_RUN_SPAN_MS if limits.consecutive else limits.window_ms)
    witnesses = sum(at_ms > since_ms for at_ms in record.reporters.values())
    return limits.minimum_reporters == 1 or witnesses >= limits.minimum_reporters


def _count_run(record: Record, told: Report, limits: Limits, now_ms: int) -> Counted:
    run = record.shown.run
    if told.outcome is Outcome.SUCCESS:
        return (_without_run(record, now_ms), {"run": 0, "failures": 0}, "") if run else (record, {}, "")
    if told.permit_id in record.counted:
        return record, {}, ""
    run += 1
    if run < limits.consecutive:
        # No more ids than a run may be long: beyond that the circuit waits for more reporters, not for more failures.
        record = replace(record, counted={**record.counted, told.permit_id: now_ms})
    reason = f"{run} consecutive failures" if run >= limits.consecutive else ""
    return record, {"run": run, "failures": run, "last_error": told.error}, reason


def _without_run(record: Record, now_ms: int) -> Record:
    """Forget the failures in a row, and who saw them unless a rate asks that too."""
    window = _window.swept(record.window, now_ms)
    return replace(record, counted={}, window=window, reporters=record.reporters if window else {})


def _count_rate(record: Record, told: Report, limits: Limits, now_ms: int) -> Counted:
    window, sums = _window.count(record.window, told, limits.window_ms, now_ms)
    # Counts change with every report, so they are neither a revision nor a message: nobody's answer depends on them.
    shown = record.shown._replace(calls=sums.calls, failures=sums.failures, slow_calls=sums.slow)
    if told.outcome is Outcome.FAILURE:
        shown = shown._replace(last_error=told.error)
    record, changes = replace(record, shown=shown, window=window), {}
    if shown.run and told.calls > told.failures + told.slow:
        # One of the calls was good, so what others count in a row is over.
        record, changes = _without_run(record, now_ms), {"run": 0}
    return record, changes, _window.verdict(sums, limits)
