"""The state machine, pure: a record, what is asked, and the time in; the record afterwards and the answer out.

This is the reference for the Lua in `lua/`, and what the in-memory store and the local layer run on. The tests drive
both with the same commands and compare every answer, so a change here is a change there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from breaker._types import (
    Limits,
    Mode,
    Outcome,
    Override,
    Permitted,
    Recorded,
    Refused,
    Report,
    Reporting,
    State,
    Transition,
    View,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything that is known of a circuit. Generation 0 means that nothing was ever asked of it."""

    state: State = State.CLOSED
    generation: int = 0
    revision: int = 0
    failures: int = 0
    opened_at_ms: int = 0
    retry_at_ms: int = 0
    reopens: int = 0
    probe_successes: int = 0
    trip_reason: str = ""
    last_error: str = ""
    tripped_by: str = ""
    mode: Mode = Mode.AUTO
    mode_reason: str = ""
    mode_actor: str = ""
    mode_until_ms: int = 0
    config: str = ""
    probes: Mapping[str, int] = field(default_factory=dict)  # probe token -> lease deadline
    window: Mapping[str, int] = field(default_factory=dict)  # permit id of a counted failure -> when


def acquire(record: Record, permit_id: str, limits: Limits, now_ms: int) -> tuple[Record, Permitted | Refused]:
    """Ask for leave to make one call. A permit id that already holds a lease gets the same answer again."""
    record = _end_expired_mode(_created(record, limits.fingerprint, now_ms), now_ms)
    if record.mode is Mode.FORCED_CLOSED:
        return record, _permitted(record, Reporting.NOTHING)
    transition = None
    may_probe = record.mode is not Mode.FORCED_OPEN
    if may_probe and record.state is State.OPEN and now_ms >= record.retry_at_ms:
        record = _changed(record, state=State.HALF_OPEN, generation=_next(record, now_ms), probe_successes=0, probes={})
        transition = Transition.HALF_OPENED
    if may_probe and record.state is State.HALF_OPEN and record.probes.get(permit_id, 0) > now_ms:
        return record, _permitted(record, Reporting.ALL)
    refused = refusal(view(record, now_ms), limits)
    if refused is not None:
        return record, refused
    if record.state is State.HALF_OPEN and _live(record, now_ms) < limits.probe_limit:
        live = {token: deadline for token, deadline in record.probes.items() if deadline > now_ms}
        record = _changed(record, probes={**live, permit_id: now_ms + limits.lease_ms})
        return record, _permitted(record, Reporting.ALL, transition)
    if record.state is not State.CLOSED:
        # Metrics only: what the machine would refuse goes through, and stays out of its counts.
        return record, _permitted(record, Reporting.NOTHING)
    return record, _permitted(record, Reporting.COUNTED if record.failures else Reporting.FAILURES)


def refusal(seen: View, limits: Limits) -> Refused | None:
    """Tell what `acquire` would answer to a newcomer, if that is no; changes nothing."""
    if seen.mode is Mode.FORCED_OPEN:
        # Without an end the mode gives no moment to come back at; the cooldown is as good a pause as any.
        rest_ms = seen.mode_until_ms - seen.now_ms if seen.mode_until_ms else limits.cooldown_ms
        reason = "forced_open"
    elif seen.mode is not Mode.AUTO:
        return None
    elif seen.state is State.OPEN and seen.now_ms < seen.retry_at_ms:
        rest_ms, reason = seen.retry_at_ms - seen.now_ms, "open"
    elif seen.state is State.HALF_OPEN and seen.probes_out >= limits.probe_limit:
        rest_ms, reason = seen.probe_until_ms - seen.now_ms, "probing"
    else:
        return None
    return Refused(seen.state, seen.generation, seen.mode, reason, rest_ms, seen.last_error)


def report(record: Record, told: Report, limits: Limits, now_ms: int) -> tuple[Record, Recorded]:
    """Settle a permit: at most once, and only in the generation that issued it."""
    given_back_unseen = told.generation == 0 and told.outcome is Outcome.IGNORED
    if record.generation == 0 or (told.generation != record.generation and not given_back_unseen):
        return record, _recorded(record, applied=False)
    if record.state is State.HALF_OPEN:
        return _report_probe(record, told, limits, now_ms)
    if record.state is State.OPEN or given_back_unseen:
        return record, _recorded(record, applied=False)
    if told.outcome is Outcome.FAILURE and told.permit_id not in record.window:
        failures = record.failures + 1
        if failures >= limits.failure_threshold:
            reason = f"{failures} consecutive failures"
            record = _opened(record, told, limits, now_ms, failures=failures, trip_reason=reason)
            return record, _recorded(record, Transition.TRIPPED)
        window = {**record.window, told.permit_id: now_ms}
        record = _changed(record, failures=failures, last_error=told.error, window=window)
    elif told.outcome is Outcome.SUCCESS and record.failures:
        record = _changed(record, failures=0, window={})
    return record, _recorded(record)


def control(record: Record, override: Override, now_ms: int) -> Record:
    """Carry out an operator's action."""
    record = _end_expired_mode(_created(record, "", now_ms), now_ms)
    if override.mode is None:
        return _closed(record, now_ms, reopens=0, **_NO_MODE)
    if override.mode is Mode.AUTO:
        return _changed(record, **_NO_MODE)
    return _changed(
        record,
        mode=override.mode,
        mode_reason=override.reason,
        mode_actor=override.actor,
        mode_until_ms=now_ms + override.duration_ms if override.duration_ms else 0,
    )


def view(record: Record, now_ms: int) -> View:
    """Show a record as it is at a moment."""
    if _mode_expired(record, now_ms):
        record = replace(record, **_NO_MODE)  # type: ignore[arg-type]
    live = [deadline for deadline in record.probes.values() if deadline > now_ms]
    return View(
        state=record.state,
        generation=record.generation,
        revision=record.revision,
        failures=record.failures,
        opened_at=_iso(record.opened_at_ms) if record.opened_at_ms else "",
        opened_at_ms=record.opened_at_ms,
        retry_at_ms=record.retry_at_ms,
        reopens=record.reopens,
        probe_successes=record.probe_successes,
        trip_reason=record.trip_reason,
        last_error=record.last_error,
        tripped_by=record.tripped_by,
        mode=record.mode,
        mode_reason=record.mode_reason,
        mode_actor=record.mode_actor,
        mode_until_ms=record.mode_until_ms,
        config=record.config,
        now_ms=now_ms,
        probes_out=len(live),
        probe_until_ms=min(live, default=0),
    )


_NO_MODE = {"mode": Mode.AUTO, "mode_reason": "", "mode_actor": "", "mode_until_ms": 0}


def _report_probe(record: Record, told: Report, limits: Limits, now_ms: int) -> tuple[Record, Recorded]:
    if record.probes.get(told.permit_id, 0) <= now_ms:
        return record, _recorded(record, applied=False)
    left = {token: deadline for token, deadline in record.probes.items() if token != told.permit_id}
    if told.outcome is Outcome.FAILURE:
        record = _opened(record, told, limits, now_ms, reopens=record.reopens + 1, trip_reason="probe failed")
        return record, _recorded(record, Transition.REOPENED)
    if told.outcome is Outcome.SUCCESS:
        successes = record.probe_successes + 1
        if successes >= limits.probe_successes:
            record = _closed(record, now_ms, reopens=0)
            return record, _recorded(record, Transition.CLOSED)
        record = _changed(record, probes=left, probe_successes=successes)
    else:
        record = _changed(record, probes=left)
    return record, _recorded(record)


def _created(record: Record, fingerprint: str, now_ms: int) -> Record:
    if record.generation:
        return record
    return replace(record, generation=_next(record, now_ms), revision=1, config=fingerprint)


def _end_expired_mode(record: Record, now_ms: int) -> Record:
    return _changed(record, **_NO_MODE) if _mode_expired(record, now_ms) else record


def _mode_expired(record: Record, now_ms: int) -> bool:
    return 0 < record.mode_until_ms <= now_ms


def _opened(record: Record, told: Report, limits: Limits, now_ms: int, **also: object) -> Record:
    return _changed(
        record,
        state=State.OPEN,
        generation=_next(record, now_ms),
        opened_at_ms=now_ms,
        retry_at_ms=now_ms + limits.cooldown_ms,
        last_error=told.error,
        tripped_by=told.replica_id,
        config=limits.fingerprint,
        probe_successes=0,
        probes={},
        window={},
        **also,
    )


def _closed(record: Record, now_ms: int, **also: object) -> Record:
    return _changed(
        record,
        state=State.CLOSED,
        generation=_next(record, now_ms),
        failures=0,
        opened_at_ms=0,
        retry_at_ms=0,
        probe_successes=0,
        probes={},
        window={},
        **also,
    )


def _changed(record: Record, **changes: object) -> Record:
    return replace(record, revision=record.revision + 1, **changes)  # type: ignore[arg-type]


def _next(record: Record, now_ms: int) -> int:
    # Never lower than the clock, so that a generation stays unique when a failover loses the last writes.
    return max(record.generation + 1, now_ms)


def _live(record: Record, now_ms: int) -> int:
    return sum(deadline > now_ms for deadline in record.probes.values())


def _permitted(record: Record, reporting: Reporting, transition: Transition | None = None) -> Permitted:
    return Permitted(record.state, record.generation, record.mode, reporting, transition)


def _recorded(record: Record, transition: Transition | None = None, *, applied: bool = True) -> Recorded:
    return Recorded(applied, record.state, record.generation, record.failures, transition)


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
