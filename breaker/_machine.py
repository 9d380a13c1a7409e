"""The state machine, pure: a record, what is asked, and the time in; the record afterwards and the answer out.

This is the reference for the Lua in `lua/`, and what the in-memory store and the local layer run on. The tests drive
both with the same commands and compare every answer, so a change here is a change there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from breaker._count import count
from breaker._draw import drawn
from breaker._limits import Limits, adjusted, checked_changes
from breaker._record import Record, changed, closed, next_generation, noted, opened
from breaker._types import (
    Adjust,
    Mode,
    Outcome,
    Override,
    Permitted,
    Reason,
    Recorded,
    Refused,
    Report,
    Reporting,
    State,
    Transition,
    View,
)

# While two configurations are in use, as during a rolling deploy, the record takes turns no more often than this.
_CONFIG_PAUSE_MS = 60_000
# A ramp begins with this share of the traffic; from nothing a circuit with few calls would find none let through.
_RAMP_BEGINS_AT = 0.1


def acquire(
    record: Record, permit_id: str, limits: Limits, now_ms: int, *, replica_id: str = "", may_probe: bool
) -> tuple[Record, Permitted | Refused]:
    """Ask for leave to make one call. A permit id that already holds a lease gets the same answer again."""
    record = _configured(_end_expired_mode(_created(record, limits, now_ms), now_ms), limits, replica_id, now_ms)
    limits = limits.with_settings(record.shown.settings)
    shown = record.shown
    is_healthy = shown.state is State.CLOSED and shown.mode is Mode.AUTO and not limits.ramp_ms
    if is_healthy or shown.mode is Mode.FORCED_CLOSED:
        # What follows would say the same of a healthy circuit, at ten times the cost.
        return record, _permitted(record, now_ms, reporting(shown, limits) if is_healthy else Reporting.NOTHING)
    transition = None
    may_probe = may_probe and shown.mode is not Mode.FORCED_OPEN
    if may_probe and shown.state is State.OPEN and now_ms >= shown.retry_at_ms:
        half_opened = {"state": State.HALF_OPEN, "generation": next_generation(record, now_ms)}
        record = noted(record, Transition.HALF_OPENED, replica_id, "", now_ms, **half_opened)
        transition = Transition.HALF_OPENED
    half_open = record.shown.state is State.HALF_OPEN
    if may_probe and half_open and record.probes.get(permit_id, 0) > now_ms:
        return record, _permitted(record, now_ms, Reporting.ALL)
    refused = refusal(view(record, now_ms), limits, may_probe=may_probe) or _held_back(
        record, permit_id, limits, now_ms
    )
    if refused is not None:
        return record, refused
    live = {token: deadline for token, deadline in record.probes.items() if deadline > now_ms}
    if may_probe and half_open and len(live) < limits.probe_limit:
        record = changed(replace(record, probes={**live, permit_id: now_ms + limits.lease_ms}))
        return record, _permitted(record, now_ms, Reporting.ALL, transition)
    if record.shown.state is not State.CLOSED:
        # Metrics only: what the machine would refuse goes through, and stays out of its counts.
        return record, _permitted(record, now_ms, Reporting.NOTHING)
    return record, _permitted(record, now_ms, reporting(record.shown, limits))


def refusal(seen: View, limits: Limits, *, may_probe: bool) -> Refused | None:
    """Tell what `acquire` would answer to any newcomer, if that is no; changes nothing.

    Args:
        seen: The circuit.
        limits: The thresholds in force.
        may_probe: Whether the newcomer may become a probe.
    """
    if seen.mode is Mode.FORCED_OPEN:
        # Without an end the mode gives no moment to come back at; the cooldown is as good a pause as any.
        rest_ms = _mode_rest_ms(seen, seen.now_ms) or limits.cooldown_ms
        reason = Reason.FORCED_OPEN
    elif seen.mode is not Mode.AUTO:
        return None
    elif seen.state is State.OPEN and seen.now_ms < seen.retry_at_ms:
        rest_ms, reason = seen.retry_at_ms - seen.now_ms, Reason.OPEN
    elif seen.state is not State.CLOSED and (
        not may_probe or (seen.state is State.HALF_OPEN and seen.probes_out >= limits.probe_limit)
    ):
        # Who waits for another's probe and sees none yet waits for as long as one may take.
        rest_ms = seen.probe_until_ms - seen.now_ms if seen.probes_out else limits.lease_ms
        reason = Reason.PROBING
    else:
        return None
    mode_rest_ms = _mode_rest_ms(seen, seen.now_ms)
    return Refused(seen.state, seen.generation, seen.mode, reason, rest_ms, seen.last_error, mode_rest_ms)


def reporting(seen: View, limits: Limits) -> Reporting:
    """Tell which outcomes of a closed circuit's calls change anything."""
    return Reporting.FAILURES if limits.consecutive and not seen.run else Reporting.COUNTED


def ramp_rest_ms(seen: View, limits: Limits) -> int:
    """Tell for how much longer a circuit lets only a part of the traffic through."""
    if seen.state is not State.CLOSED or seen.mode is not Mode.AUTO or not seen.closed_at_ms:
        return 0
    rest_ms = seen.closed_at_ms + limits.ramp_ms - seen.now_ms
    # More than all of it is left where the clock was set back since: nobody knows of how much, so the ramp is over.
    return rest_ms if 0 < rest_ms <= limits.ramp_ms else 0


def report(record: Record, told: Report, limits: Limits, now_ms: int) -> tuple[Record, Recorded]:
    """Settle a permit: at most once, and only in the generation that issued it."""
    shown = record.shown
    given_back_unseen = told.generation == 0 and told.outcome is Outcome.IGNORED
    if not shown.generation or (told.generation != shown.generation and not given_back_unseen):
        return record, _recorded(record, applied=False)
    if shown.state is State.HALF_OPEN:
        return _report_probe(record, told, limits, now_ms)
    if shown.state is State.OPEN or given_back_unseen:
        return record, _recorded(record, applied=False)
    if told.outcome is Outcome.IGNORED:
        return record, _recorded(record)
    return _report_closed(record, told, limits, now_ms)


def control(record: Record, action: Override | Adjust, now_ms: int) -> Record:
    """Carry out an operator's action.

    Raises:
        ConfigError: There is no such setting, or its value makes no sense.
    """
    record = _end_expired_mode(_created(record, None, now_ms), now_ms)
    if isinstance(action, Adjust):
        settings = adjusted(record.shown.settings, checked_changes(action.settings))
        return noted(record, Transition.SETTINGS_CHANGED, action.actor, action.reason, now_ms, settings=settings)
    if action.mode is None:
        forgotten = {**_NO_MODE, "reopens": 0, "closed_at_ms": 0}
        return closed(record, Transition.RESET, action.actor, action.reason, now_ms, **forgotten)
    mode = {
        "mode": action.mode,
        "mode_reason": action.reason,
        "mode_actor": action.actor,
        "mode_until_ms": now_ms + action.duration_ms if action.duration_ms else 0,
    }
    changes = _NO_MODE if action.mode is Mode.AUTO else mode
    return noted(record, Transition.MODE_CHANGED, action.actor, action.reason, now_ms, **changes)


def view(record: Record, now_ms: int) -> View:
    """Show a record as it is at a moment."""
    live = [deadline for deadline in record.probes.values() if deadline > now_ms]
    shown = record.shown._replace(now_ms=now_ms, probes_out=len(live), probe_until_ms=min(live, default=0))
    return shown._replace(**_NO_MODE) if _mode_expired(record, now_ms) else shown


_NO_MODE: dict[str, Any] = {"mode": Mode.AUTO, "mode_reason": "", "mode_actor": "", "mode_until_ms": 0}


def _report_closed(record: Record, told: Report, limits: Limits, now_ms: int) -> tuple[Record, Recorded]:
    shown = record.shown
    in_force = limits.with_settings(shown.settings)
    record, changes, reason = count(record, told, in_force, now_ms)
    if reason or told.open_for_ms:
        # A close that seems to lie in the future, since the clock was set back, is one of just now.
        flapping = shown.closed_at_ms and max(0, now_ms - shown.closed_at_ms) < in_force.stable_ms
        reopens = shown.reopens + 1 if flapping else 0
        failures = changes.get("failures", record.shown.failures)
        record = opened(
            record, Transition.TRIPPED, told, limits, now_ms, reason=reason, reopens=reopens, failures=failures
        )
        return record, _recorded(record, Transition.TRIPPED)
    if told.alone and told.replica_id != shown.outlier:
        changes["outlier"] = told.replica_id
        record = noted(record, Transition.OUTLIER, told.replica_id, told.error, now_ms, **changes)
    elif told.outcome is Outcome.SUCCESS and told.replica_id and told.replica_id == shown.outlier:
        record = changed(record, **changes, outlier="")
    elif changes:
        record = changed(record, **changes)
    return record, _recorded(record)


def _report_probe(record: Record, told: Report, limits: Limits, now_ms: int) -> tuple[Record, Recorded]:
    if record.probes.get(told.permit_id, 0) <= now_ms:
        return record, _recorded(record, applied=False)
    if told.outcome is Outcome.FAILURE:
        record = opened(
            record, Transition.REOPENED, told, limits, now_ms, reason="probe failed", reopens=record.shown.reopens + 1
        )
        return record, _recorded(record, Transition.REOPENED)
    successes = record.shown.probe_successes + (told.outcome is Outcome.SUCCESS)
    if told.outcome is Outcome.SUCCESS and successes >= limits.with_settings(record.shown.settings).probe_successes:
        record = closed(record, Transition.CLOSED, told.replica_id, "probe succeeded", now_ms, closed_at_ms=now_ms)
        return record, _recorded(record, Transition.CLOSED)
    left = {token: deadline for token, deadline in record.probes.items() if token != told.permit_id}
    record = changed(replace(record, probes=left), probe_successes=successes)
    return record, _recorded(record)


def _held_back(record: Record, permit_id: str, limits: Limits, now_ms: int) -> Refused | None:
    """Refuse the part of the traffic that a ramp does not let through yet."""
    shown = view(record, now_ms)
    rest_ms = ramp_rest_ms(shown, limits)
    if not rest_ms:
        return None
    share = max((limits.ramp_ms - rest_ms) / limits.ramp_ms, _RAMP_BEGINS_AT)
    if drawn(permit_id) < 1000 * share:
        return None
    return Refused(shown.state, shown.generation, shown.mode, Reason.RAMPING, rest_ms, shown.last_error)


def _created(record: Record, limits: Limits | None, now_ms: int) -> Record:
    if record.shown.generation:
        return record
    config = {} if limits is None else {"config": limits.text, "config_at_ms": now_ms}
    return changed(record, generation=next_generation(record, now_ms), **config)


def _configured(record: Record, limits: Limits, replica_id: str, now_ms: int) -> Record:
    shown = record.shown
    if shown.config == limits.text or now_ms - shown.config_at_ms < _CONFIG_PAUSE_MS:
        return record
    changes = {"config": limits.text, "config_before": shown.config, "config_at_ms": now_ms}
    if limits.text == shown.config_before or not shown.config:
        # There was none before, as where an operator came first. Or a deploy is stuck, and two go on taking turns: one
        # entry says so, a thousand would push the operators' out.
        return changed(record, **changes)
    return noted(record, Transition.CONFIG_CHANGED, replica_id, shown.config, now_ms, **changes)


def _end_expired_mode(record: Record, now_ms: int) -> Record:
    if not _mode_expired(record, now_ms):
        return record
    return noted(record, Transition.MODE_EXPIRED, "", "", now_ms, **_NO_MODE)


def _mode_expired(record: Record, now_ms: int) -> bool:
    return 0 < record.shown.mode_until_ms <= now_ms


def _mode_rest_ms(shown: View, now_ms: int) -> int:
    """Tell for how much longer an operator's mode holds; 0 when it has no end, or there is none."""
    return shown.mode_until_ms - now_ms if shown.mode is not Mode.AUTO and shown.mode_until_ms else 0


def _permitted(record: Record, now_ms: int, what: Reporting, transition: Transition | None = None) -> Permitted:
    shown = record.shown
    rest_ms = _mode_rest_ms(shown, now_ms)
    return Permitted(shown.state, shown.generation, shown.mode, what, transition, rest_ms)


def _recorded(record: Record, transition: Transition | None = None, *, applied: bool = True) -> Recorded:
    shown = record.shown
    return Recorded(applied, shown.state, shown.generation, shown.failures, transition)
