"""The words of the library: states, outcomes, what is asked of a store and what it answers.

Everything here is frozen, and times are integer milliseconds of the store's clock, as in Redis. Seconds appear only in
what users read and write.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from breaker._text import cleaned

# Ten years. What lasts longer is a mistake, and soon no number that a clock or a store can hold.
MOST_SECONDS = 10 * 365 * 24 * 3600


class State(StrEnum):
    """The state of a circuit."""

    CLOSED = "closed"  # calls go through
    OPEN = "open"  # calls are refused until the cooldown is over
    HALF_OPEN = "half_open"  # probes go through, and all other calls are refused


class Mode(StrEnum):
    """Who decides about admission: the machine (`AUTO`), or an operator over its head.

    A mode changes only what is let through. The machine beneath keeps its state and goes on learning from the permits
    that it issued itself.
    """

    AUTO = "auto"  # the machine decides
    FORCED_OPEN = "forced_open"  # no call goes through
    FORCED_CLOSED = "forced_closed"  # every call goes through, and none is counted
    METRICS_ONLY = "metrics_only"  # every call goes through, and the machine goes on counting


class Outcome(StrEnum):
    """How a call ended, as far as the circuit is concerned.

    `IGNORED` settles a permit without counting it: a cancellation, a client's mistake.
    """

    SUCCESS = "success"  # the dependency is healthy
    FAILURE = "failure"  # it is not
    IGNORED = "ignored"  # nothing was learned of it


class Reporting(StrEnum):
    """Which outcomes of a permit the store wants to hear; the others would change nothing and are not sent."""

    ALL = "all"
    COUNTED = "counted"
    FAILURES = "failures"
    NOTHING = "nothing"

    def wants(self, outcome: Outcome) -> bool:
        """Tell whether an outcome is to be reported."""
        return outcome in _WANTED[self]


_WANTED = {
    Reporting.ALL: frozenset(Outcome),
    Reporting.COUNTED: frozenset({Outcome.SUCCESS, Outcome.FAILURE}),
    Reporting.FAILURES: frozenset({Outcome.FAILURE}),
    Reporting.NOTHING: frozenset[Outcome](),
}


class Transition(StrEnum):
    """What happened to a circuit, as the events stream names it."""

    TRIPPED = "tripped"  # a failure opened the circuit
    HALF_OPENED = "half_opened"  # the cooldown was over, and a call became the probe
    REOPENED = "reopened"  # a probe failed
    CLOSED = "closed"  # enough probes succeeded
    OUTLIER = "outlier"  # one replica fails while the others do not
    MODE_CHANGED = "mode_changed"  # by an operator
    MODE_EXPIRED = "mode_expired"  # at the moment that the operator gave
    SETTINGS_CHANGED = "settings_changed"  # by an operator
    CONFIG_CHANGED = "config_changed"  # a replica with another configuration came
    RESET = "reset"  # by an operator


class Reason(StrEnum):
    """Why a call was refused."""

    OPEN = "open"  # the cooldown is running
    PROBING = "probing"  # the places for probes are taken
    RAMPING = "ramping"  # the circuit has just closed and lets traffic back gradually
    FORCED_OPEN = "forced_open"  # an operator said so
    OUTLIER = "outlier"  # this replica failed alone, and only it stays away
    STORE_UNAVAILABLE = "store_unavailable"  # the store is away, and `on_store_error` is `refuse`


@dataclass(frozen=True, slots=True)
class OpenFor:
    """A failure that says itself how long to stay away, such as a 429 with `Retry-After`; opens the circuit at once.

    Attributes:
        seconds: How long; above 0, and cut to ten years. `max_cooldown_seconds` is the most that is believed.

    Raises:
        ValueError: That is no time; a classifier that raises it has failed, and the call counts as it would without
            one.
    """

    seconds: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError("OpenFor.seconds must be above 0 and finite")
        object.__setattr__(self, "seconds", min(self.seconds, MOST_SECONDS))


@dataclass(frozen=True, slots=True)
class Permitted:
    """Leave to make one call, to be settled once.

    Attributes:
        state: The circuit's state when the permit was issued; `HALF_OPEN` makes the call a probe.
        generation: The fencing token; a report counts only while the circuit is still in this generation.
        mode: The operator's mode in force.
        reporting: Which outcomes are to be reported.
        transition: `HALF_OPENED` for the call that found the cooldown over.
        mode_rest_ms: For how much longer the mode holds; 0 when it has no end, and in `AUTO`.
    """

    state: State
    generation: int
    mode: Mode
    reporting: Reporting
    transition: Transition | None = None
    mode_rest_ms: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The call must not be made now.

    Attributes:
        state: The circuit's state.
        generation: Its generation.
        mode: The operator's mode in force.
        reason: Why.
        retry_after_ms: When asking again makes sense: the rest of the cooldown, of a lease, of the ramp or of the mode.
        last_error: The word for the last failure that was counted, as `describe_error` says it.
        mode_rest_ms: For how much longer the mode holds; 0 when it has no end, and in `AUTO`.
    """

    state: State
    generation: int
    mode: Mode
    reason: Reason
    retry_after_ms: int
    last_error: str
    mode_rest_ms: int = 0


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a report.

    Attributes:
        applied: False when the report was stale (another generation, a lapsed lease) and changed nothing.
        state: The circuit's state afterwards.
        generation: Its generation afterwards.
        failures: The failures counted: in a row, or in the window.
        transition: What the report brought about, if anything.
    """

    applied: bool
    state: State
    generation: int
    failures: int
    transition: Transition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How permitted calls ended: one of them, or for a rate many together.

    Attributes:
        permit_id: The permit's id; for a probe it is the token of its lease.
        generation: The generation that the permit carries. Zero means that the answer to `acquire` was lost: only a
            lease held under this permit id is then given back, and only with `IGNORED`.
        outcome: How the call ended; `FAILURE` if any of many failed.
        error: The word for what went wrong, or an empty text.
        replica_id: Who reports.
        calls: How many calls a rate is to count.
        failures: How many of them failed.
        slow: How many of them were slow.
        open_for_ms: How long the dependency said to stay away; zero when it said nothing.
        alone: True when this replica's own calls would have tripped the circuit, so that it is an outlier if the
            fleet's do not.
    """

    permit_id: str
    generation: int
    outcome: Outcome
    error: str = ""
    replica_id: str = ""
    calls: int = 1
    failures: int = 0
    slow: int = 0
    open_for_ms: int = 0
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """An operator's word over the machine.

    Attributes:
        mode: The mode to set, as such or as its word, or None to reset the circuit (closed, nothing counted, mode
            `AUTO`; settings stay).
        reason: Why, for whoever reads the record later; 500 characters of it are kept.
        actor: Who; likewise.
        duration_ms: How long the mode holds, a whole number from 0 to ten years; zero means until it is changed.

    Raises:
        ValueError: There is no such mode, or the duration makes no sense.
    """

    mode: Mode | None
    reason: str
    actor: str
    duration_ms: int = 0

    def __post_init__(self) -> None:
        if self.mode not in (None, *Mode):
            raise ValueError(f"Override.mode must be None or one of {', '.join(Mode)}")
        most_ms = 1000 * MOST_SECONDS
        duration_ms: object = self.duration_ms
        if not isinstance(duration_ms, (int, float)) or not 0 <= duration_ms <= most_ms or duration_ms % 1:
            raise ValueError(f"Override.duration_ms must be a whole number from 0 to {most_ms} (ten years)")
        _clean_words(self)
        object.__setattr__(self, "mode", None if self.mode is None else Mode(self.mode))
        object.__setattr__(self, "duration_ms", int(self.duration_ms))

    @property
    def action(self) -> str:
        """The word for it."""
        return self.mode or "reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjust:
    """An operator's change of thresholds, in force for every replica at once and above what each was configured with.

    Attributes:
        settings: What to change, such as `{"cooldown_ms": 5000}`; None takes a setting back. The names are
            `consecutive`, `window_ms`, `minimum_calls`, `failure_percent`, `slow_percent`, `minimum_reporters`,
            `cooldown_ms`, `max_cooldown_ms`, `multiplier`, `jitter_percent`, `stable_ms`, `probe_limit`,
            `probe_successes` and `ramp_ms`. The ranges are those of the configuration, in milliseconds and percent, but
            no number may be above 10,000,000,000 (as a time 115 days), and 0 percent of failed or slow calls turns that
            threshold off.
        reason: Why; 500 characters of it are kept.
        actor: Who; likewise.
    """

    settings: Mapping[str, float | None]
    reason: str
    actor: str

    def __post_init__(self) -> None:
        _clean_words(self)


# Of an operator's words. Every replica gets them with each message.
_MOST_CHARACTERS = 500


def _clean_words(action: Override | Adjust) -> None:
    """Keep of an operator's words what can be kept."""
    for name in ("reason", "actor"):
        object.__setattr__(action, name, cleaned(getattr(action, name), _MOST_CHARACTERS))


# Not a dataclass, because every replica makes one of every message: a frozen one of this size costs five times as much.
class View(NamedTuple):
    """A circuit as it was at one moment; all but what the clock makes of it is in the hash of `redis-cli HGETALL` too.

    Attributes:
        state: The circuit's state.
        generation: Its generation.
        revision: Changes with every change in a generation, so that of two views the newer one can be told.
        failures: Failures in a row, or in the window, as the last report counted them.
        run: Failures in a row, as replicas with `Consecutive` count them beside others; a success ends them.
        calls: Calls in the window as of the last report; a rate counts them, `Consecutive` does not.
        slow_calls: Slow calls likewise.
        opened_at: When the circuit opened, as text (UTC); empty while it is closed.
        opened_at_ms: The same as a moment; zero while it is closed.
        retry_at_ms: When the cooldown is over; zero while the circuit is closed.
        reopens: How often the circuit opened again before it had been closed for long; the cooldown grows with it.
        closed_at_ms: When a probe closed the circuit last.
        probe_successes: Probes that have succeeded since the cooldown was over.
        trip_reason: Why the circuit opened last.
        last_error: The last failure that was counted, in the words of `describe_error`.
        tripped_by: The replica whose report opened it last.
        outlier: A replica that fails while the others do not.
        mode: The operator's mode in force.
        mode_reason: Why it was set.
        mode_actor: Who set it.
        mode_until_ms: When it ends by itself; zero when it does not.
        settings: What an operator changed of the thresholds, as text.
        config: The configuration of the replica that brought one last, as text.
        config_before: The one before that, as text; while a deploy is under way the two take turns.
        config_at_ms: When the last one came.
        now_ms: The store's clock when the view was taken; every moment here is on that clock.
        probes_out: Probes whose lease has not lapsed.
        probe_until_ms: When the first of those leases lapses; zero when there is none.
        replicas: How many replicas follow the circuit's messages, as far as the server knows.
    """

    state: State = State.CLOSED
    generation: int = 0
    revision: int = 0
    failures: int = 0
    run: int = 0
    calls: int = 0
    slow_calls: int = 0
    opened_at: str = ""
    opened_at_ms: int = 0
    retry_at_ms: int = 0
    reopens: int = 0
    closed_at_ms: int = 0
    probe_successes: int = 0
    trip_reason: str = ""
    last_error: str = ""
    tripped_by: str = ""
    outlier: str = ""
    mode: Mode = Mode.AUTO
    mode_reason: str = ""
    mode_actor: str = ""
    mode_until_ms: int = 0
    settings: str = ""
    config: str = ""
    config_before: str = ""
    config_at_ms: int = 0
    now_ms: int = 0
    probes_out: int = 0
    probe_until_ms: int = 0
    replicas: int = 0

    @property
    def retry_after_seconds(self) -> float:
        """How long until the circuit may let a call through by itself; 0 when it may now, or when nobody can tell."""
        if self.mode in {Mode.FORCED_CLOSED, Mode.METRICS_ONLY}:
            return 0.0
        if self.mode is Mode.FORCED_OPEN:
            until_ms = self.mode_until_ms
        elif self.state is State.OPEN:
            until_ms = self.retry_at_ms
        else:
            until_ms = self.probe_until_ms
        return max(0, until_ms - self.now_ms) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One entry of a circuit's events stream: a transition, or what an operator did.

    Attributes:
        kind: What happened.
        state: The circuit's state afterwards.
        generation: Its generation afterwards.
        mode: The operator's mode afterwards.
        by: The replica or the operator.
        reason: Why.
        at_ms: When, on the store's clock.
    """

    kind: Transition
    state: State
    generation: int
    mode: Mode
    by: str
    reason: str
    at_ms: int
