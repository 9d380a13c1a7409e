"""How a breaker is configured: frozen, checked at construction, in seconds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from breaker._errors import ConfigError
from breaker._limits import MAX_MULTIPLIER, Limits
from breaker._types import MOST_SECONDS

# A lease begins when the store gives the place and must not lapse before the report is there, or a probe that was cut
# off would always come late and its circuit never reopen. Between the two lie the call and two commands of the store,
# each of which takes its timeout at most: 0.25 s by default.
_LEAST_LEASE_MARGIN_SECONDS = 0.5
_LEASE_MARGIN_SECONDS = 1.0
_AT_MOST = f"and at most ten years ({MOST_SECONDS} s)"


# Braces would move the cluster hash tag, control characters would spoil every terminal that shows the name, and halves
# of characters (lone surrogates) cannot be sent.
_NAME = re.compile(r"[^\s{}\x00-\x1f\x7f\ud800-\udfff]{1,200}")


def check_name(name: str) -> str:
    """Return a circuit's name if it can be one, or raise `ConfigError`."""
    _require(_NAME.fullmatch(name) is not None, f"a name is 1 to 200 characters without spaces or braces: {name!r}")
    return name


# Shares travel in percent with four decimals, and counts are to stay whole numbers for every reader.
_LEAST_SHARE = 0.000001
_MOST_COUNT = 10**10


class Consistency(StrEnum):
    """How far a replica relies on its own copy of a circuit."""

    MIRRORED = "mirrored"  # a copy, kept fresh by messages, answers while it can; a healthy call costs no command
    STRICT = "strict"  # every call asks the store first


class OnStoreError(StrEnum):
    """What happens to a call while the store is away."""

    LOCAL = "local"  # a local breaker with the same policy guards this replica
    PERMIT = "permit"  # every call goes through
    REFUSE = "refuse"  # no call goes through


@dataclass(frozen=True, slots=True)
class Consecutive:
    """Trip after this many failures in a row, counted over the whole fleet.

    Attributes:
        failures: 1 or more.

    Raises:
        ConfigError: It is less.
    """

    failures: int = 3

    def __post_init__(self) -> None:
        _require(_is_whole(self.failures), "Consecutive.failures must be a whole number, 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRate:
    """Trip when too large a share of the fleet's calls fails, or is slow.

    Attributes:
        threshold: The share of failed calls that trips, 0.000001 to 1.
        window_seconds: The span over which calls count, in ten buckets; 1 or more.
        minimum_calls: How many calls the window must hold before a share means anything; 1 or more.
        slow_call_seconds: From when on a call is slow, above 0; it is counted while it still hangs. None counts no call
            as slow, and neither does a value above the call timeout, which ends a call first.
        slow_rate_threshold: The share of slow calls that trips, 0.000001 to 1.

    Raises:
        ConfigError: A value is out of its range; the message names it.
    """

    threshold: float = 0.5
    window_seconds: float = 60.0
    minimum_calls: int = 20
    slow_call_seconds: float | None = None
    slow_rate_threshold: float = 1.0

    def __post_init__(self) -> None:
        for name in ("threshold", "slow_rate_threshold"):
            share = getattr(self, name)
            _require(_LEAST_SHARE <= share <= 1, f"FailureRate.{name} must be at least {_LEAST_SHARE:f} and at most 1")
        _require(1 <= self.window_seconds <= MOST_SECONDS, f"FailureRate.window_seconds must be 1 or more, {_AT_MOST}")
        _require(_is_whole(self.minimum_calls), "FailureRate.minimum_calls must be a whole number, 1 or more")
        slow = self.slow_call_seconds
        _require(slow is None or _positive(slow), f"FailureRate.slow_call_seconds must be above 0, {_AT_MOST}, or None")


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """A breaker's configuration. No time in it is longer than ten years.

    Attributes:
        policy: When to trip.
        minimum_reporters: How many distinct replicas must have failed before the fleet's circuit trips; 1 or more.
            Above 1 a replica that fails alone stays away by itself for a cooldown, and the record names it as the
            outlier.
        cooldown_seconds: How long the circuit stays open before a probe is let through; above 0.
        cooldown_multiplier: What the cooldown grows by each time the circuit opens again before it has been closed for
            `stable_after_seconds`; 1 to 100.
        max_cooldown_seconds: The longest that a cooldown grows to, its jitter not counted, and the most of a
            `Retry-After` that is believed; above 0. A `cooldown_seconds` above it is kept as it is.
        cooldown_jitter: How much of itself a cooldown may be longer, 0 to 1, so that circuits that trip together do not
            probe in step.
        stable_after_seconds: How long the circuit must have been closed for its flapping to be forgotten; 0 or more.
        call_timeout_seconds: How long a guarded call may take before it is cancelled and counted as a failure; above 0.
            None leaves calls unbounded, and `lease_seconds` must then be given. The timeout has to be here rather than
            around the breaker: a deadline outside arrives as a cancellation, which counts as nothing.
        probe_limit: How many probes may be out at once, fleet-wide; 1 or more.
        probe_successes: How many probes must succeed before the circuit closes; 1 or more.
        lease_seconds: How long a probe keeps its place when its caller is never heard of again; above 0, at least half
            a second more than the call timeout, and by default a second more. It has to cover the call and two commands
            of the store: with a store's timeout above 0.25 s give it more.
        ramp_seconds: How long a circuit that has closed takes to let all of the traffic back, beginning with a tenth of
            it; 0 or more, and 0 lets all of it back at once.
        consistency: Whether a replica answers from its own copy of the circuit. `mirrored` costs no command on the
            healthy path; its copy is behind by the time that a message takes, or by the store's heartbeat and timeout
            together when a connection dies silently.
        flush_seconds: How long a replica gathers successes for a rate before it reports them together; above 0.
        on_store_error: What happens while the store is away.
        idle_seconds: How long the store remembers a circuit that nobody uses; at least the cooldown and the lease
            together. A circuit in an operator's mode, or with an operator's settings, is kept.

    Raises:
        ConfigError: A value makes no sense; the message names it.
    """

    policy: Consecutive | FailureRate = field(default_factory=Consecutive)
    minimum_reporters: int = 1
    cooldown_seconds: float = 30.0
    cooldown_multiplier: float = 1.0
    max_cooldown_seconds: float = 600.0
    cooldown_jitter: float = 0.0
    stable_after_seconds: float = 300.0
    call_timeout_seconds: float | None = 10.0
    probe_limit: int = 1
    probe_successes: int = 1
    lease_seconds: float | None = None
    ramp_seconds: float = 0.0
    consistency: Consistency = Consistency.MIRRORED
    flush_seconds: float = 0.1
    on_store_error: OnStoreError = OnStoreError.LOCAL
    idle_seconds: float = 7 * 24 * 3600.0

    def __post_init__(self) -> None:
        for name in ("cooldown_seconds", "max_cooldown_seconds", "flush_seconds", "idle_seconds"):
            _require(_positive(getattr(self, name)), f"{name} must be above 0, {_AT_MOST}")
        for name in ("stable_after_seconds", "ramp_seconds"):
            _require(0 <= getattr(self, name) <= MOST_SECONDS, f"{name} must be 0 or more, {_AT_MOST}")
        for name in ("probe_limit", "probe_successes", "minimum_reporters"):
            _require(_is_whole(getattr(self, name)), f"{name} must be a whole number, 1 or more")
        multiplier = self.cooldown_multiplier
        _require(1 <= multiplier <= MAX_MULTIPLIER, f"cooldown_multiplier must be between 1 and {MAX_MULTIPLIER}")
        _require(0 <= self.cooldown_jitter <= 1, "cooldown_jitter must be between 0 and 1")
        timeout, lease = self.call_timeout_seconds, self.lease_seconds
        _require(timeout is None or _positive(timeout), f"call_timeout_seconds must be above 0, {_AT_MOST}, or None")
        _require(lease is None or _positive(lease), f"lease_seconds must be above 0, {_AT_MOST}")
        _require(
            timeout is not None or lease is not None,
            "without call_timeout_seconds, lease_seconds must say how long a silent probe keeps its place",
        )
        _require(
            timeout is None or lease is None or round(lease - timeout, 6) >= _LEAST_LEASE_MARGIN_SECONDS,
            f"lease_seconds must exceed call_timeout_seconds by {_LEAST_LEASE_MARGIN_SECONDS} s, or the report of a "
            "probe that hangs would come after its lease",
        )
        _require(
            self.idle_seconds >= self.cooldown_seconds + self._lease_seconds(),
            "idle_seconds must cover the cooldown and a lease, or an open circuit would be forgotten",
        )
        _accept_the_word(self, "consistency", Consistency)
        _accept_the_word(self, "on_store_error", OnStoreError)

    def limits(self) -> Limits:
        """Translate into what a store needs."""
        return Limits(
            **self._trip_limits(),
            minimum_reporters=self.minimum_reporters,
            cooldown_ms=_milliseconds(self.cooldown_seconds),
            multiplier=round(self.cooldown_multiplier, 4),
            max_cooldown_ms=_milliseconds(self.max_cooldown_seconds),
            jitter_percent=_percent(self.cooldown_jitter),
            stable_ms=round(self.stable_after_seconds * 1000),
            probe_limit=self.probe_limit,
            probe_successes=self.probe_successes,
            ramp_ms=round(self.ramp_seconds * 1000),
            lease_ms=_milliseconds(self._lease_seconds()),
            idle_ms=_milliseconds(self.idle_seconds),
        )

    def _trip_limits(self) -> dict[str, Any]:
        policy = self.policy
        if isinstance(policy, Consecutive):
            return {"consecutive": policy.failures}
        return {
            "window_ms": _milliseconds(policy.window_seconds),
            "minimum_calls": policy.minimum_calls,
            "failure_percent": _percent(policy.threshold),
            "slow_percent": _percent(policy.slow_rate_threshold) if policy.slow_call_seconds else 0,
        }

    def _lease_seconds(self) -> float:
        if self.lease_seconds is not None:
            return self.lease_seconds
        return (self.call_timeout_seconds or 0.0) + _LEASE_MARGIN_SECONDS


def _accept_the_word(config: BreakerConfig, field_name: str, words: type[StrEnum]) -> None:
    """Let a field be given as its plain word, and refuse any other word."""
    try:
        object.__setattr__(config, field_name, words(getattr(config, field_name)))
    except ValueError as error:
        raise ConfigError(f"{field_name} must be one of {', '.join(words)}") from error


def _positive(seconds: float) -> bool:
    return 0 < seconds <= MOST_SECONDS


def _milliseconds(seconds: float) -> int:
    # At least one, so that nothing above zero becomes no time at all.
    return max(1, round(seconds * 1000))


def _is_whole(number: float) -> bool:
    return 1 <= number <= _MOST_COUNT and number == int(number)


def _percent(share: float) -> float:
    # Down and not to the nearest, or two of three calls would miss a threshold of 2/3.
    return math.floor(round(share * 1_000_000, 3)) / 10_000


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001
    if not holds:
        raise ConfigError(otherwise)
