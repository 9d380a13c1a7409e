"""The record of a circuit, and the few ways in which it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from breaker._draw import drawn
from breaker._limits import Limits
from breaker._types import LogEntry, Outcome, Report, State, Transition, View
from breaker._window import Window

# Entries kept of the events; Redis trims its stream approximately, to no fewer than these.
MAX_EVENTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything that is known of a circuit. Generation 0 means that nothing was ever asked of it.

    Attributes:
        name: The circuit's; empty in a replica's own layer, where only the jitter misses it.
        shown: What everybody may see, without what only the clock tells.
        probes: Probe token → lease deadline.
        counted: Permit id of a failure in a row → when.
        window: What a rate counts.
        reporters: Replica → its last failure that was counted.
        events: The newest entries of the events stream, oldest first.
    """

    name: str = ""
    shown: View = field(default_factory=View)
    probes: Mapping[str, int] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)
    window: Window = field(default_factory=dict)
    reporters: Mapping[str, int] = field(default_factory=dict)
    events: tuple[LogEntry, ...] = ()


def opened(
    record: Record, kind: Transition, told: Report, limits: Limits, now_ms: int, *, reason: str, **also: Any
) -> Record:
    """Open the circuit, for as long as the dependency said or the configuration has it."""
    shown = record.shown
    in_force, generation = limits.with_settings(shown.settings), next_generation(record, now_ms)
    if told.open_for_ms:
        reason, cooldown_ms = "rate limited", min(told.open_for_ms, in_force.max_cooldown_ms)
    else:
        cooldown_ms = _cooldown_ms(record.name, in_force, also["reopens"], generation)
    return noted(
        _without_calls(record),
        kind,
        told.replica_id,
        reason,
        now_ms,
        state=State.OPEN,
        generation=generation,
        opened_at=_iso(now_ms),
        opened_at_ms=now_ms,
        retry_at_ms=now_ms + cooldown_ms,
        trip_reason=reason,
        # A success may be the call that completes a rate's minimum.
        last_error=told.error if told.outcome is Outcome.FAILURE else shown.last_error,
        tripped_by=told.replica_id,
        run=0,
        outlier="",
        config=limits.text,
        config_before=shown.config if shown.config != limits.text else shown.config_before,
        config_at_ms=now_ms,
        probe_successes=0,
        **also,
    )


def _cooldown_ms(name: str, limits: Limits, reopens: int, generation: int) -> int:
    """Return how long to stay open: as configured at first, and longer with each reopening."""
    # The exponent is bounded only to keep the power finite; the maximum cuts it long before.
    grown_ms = min(
        limits.cooldown_ms * limits.multiplier ** min(reopens, 64), max(limits.cooldown_ms, limits.max_cooldown_ms)
    )
    # Drawn from the name and from the generation, a moment in milliseconds: circuits that trip together do not probe in
    # step.
    return int(grown_ms * (1 + limits.jitter_percent / 100 * (drawn(f"{name} {generation}") / 1000)))


def closed(record: Record, kind: Transition, by: str, reason: str, now_ms: int, **also: Any) -> Record:
    """Close the circuit, and count anew."""
    return noted(
        _without_calls(record),
        kind,
        by,
        reason,
        now_ms,
        state=State.CLOSED,
        generation=next_generation(record, now_ms),
        failures=0,
        run=0,
        calls=0,
        slow_calls=0,
        opened_at="",
        opened_at_ms=0,
        retry_at_ms=0,
        outlier="",
        probe_successes=0,
        **also,
    )


def _without_calls(record: Record) -> Record:
    """Forget everything that belongs to the generation that ends."""
    return replace(record, probes={}, counted={}, window={}, reporters={})


def changed(record: Record, **changes: Any) -> Record:
    """Change what everybody sees, which is a new revision."""
    return replace(record, shown=record.shown._replace(revision=record.shown.revision + 1, **changes))


def noted(record: Record, kind: Transition, by: str, reason: str, now_ms: int, **changes: Any) -> Record:
    """Change what everybody sees, with an entry in the events."""
    record = changed(record, **changes)
    shown = record.shown
    entry = LogEntry(
        kind=kind, state=shown.state, generation=shown.generation, mode=shown.mode, by=by, reason=reason, at_ms=now_ms
    )
    return replace(record, events=(*record.events[-MAX_EVENTS + 1 :], entry))


def next_generation(record: Record, now_ms: int) -> int:
    """Return the number of the generation that a transition begins."""
    # Never lower than the clock, so that a generation stays unique when a failover loses the last writes.
    return max(record.shown.generation + 1, now_ms)


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
