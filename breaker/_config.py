"""How a breaker is configured: frozen, checked at construction, in seconds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import StrEnum

from breaker._errors import ConfigError
from breaker._types import Limits

# Besides the call itself, the lease of a probe has to cover the way there and back, or a slow but finished probe would
# report after its place was given to another.
_LEASE_MARGIN_SECONDS = 1.0


# Braces would move the cluster hash tag, and control characters would spoil every terminal that shows the name.
_NAME = re.compile(r"[^\s{}\x00-\x1f\x7f]{1,200}")


def check_name(name: str) -> str:
    """Return a circuit's name if it can be one, or raise `ConfigError`."""
    _require(_NAME.fullmatch(name) is not None, f"a name is 1 to 200 characters without spaces or braces: {name!r}")
    return name


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
    """

    failures: int = 3

    def __post_init__(self) -> None:
        _require(self.failures >= 1, "Consecutive.failures must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """A breaker's configuration.

    Attributes:
        policy: When to trip.
        cooldown_seconds: How long the circuit stays open before a probe is let through; above 0.
        call_timeout_seconds: How long a guarded call may take before it is cancelled and counted as a failure; above 0.
            None leaves calls unbounded, and `lease_seconds` must then be given. The timeout has to be here rather than
            around the breaker: a deadline outside arrives as a cancellation, which counts as nothing.
        probe_limit: How many probes may be out at once, fleet-wide; 1 or more.
        probe_successes: How many probes must succeed before the circuit closes; 1 or more.
        lease_seconds: How long a probe keeps its place when its caller is never heard of again; by default the call
            timeout and a second, and never less than the call timeout.
        consistency: Whether a replica answers from its own copy of the circuit. `mirrored` costs nothing on the healthy
            path; its copy is behind by the time a message takes, or by a heartbeat when a connection dies silently.
        on_store_error: What happens while the store is away.
        idle_seconds: How long the store remembers a circuit that nobody uses; at least the cooldown and the lease.
            A circuit in an operator's mode is kept.

    Raises:
        ConfigError: A value makes no sense; the message names it.
    """

    policy: Consecutive = field(default_factory=Consecutive)
    cooldown_seconds: float = 30.0
    call_timeout_seconds: float | None = 10.0
    probe_limit: int = 1
    probe_successes: int = 1
    lease_seconds: float | None = None
    consistency: Consistency = Consistency.MIRRORED
    on_store_error: OnStoreError = OnStoreError.LOCAL
    idle_seconds: float = 7 * 24 * 3600.0

    def __post_init__(self) -> None:
        _require(_positive(self.cooldown_seconds), "cooldown_seconds must be above 0")
        _require(self.probe_limit >= 1, "probe_limit must be 1 or more")
        _require(self.probe_successes >= 1, "probe_successes must be 1 or more")
        timeout, lease = self.call_timeout_seconds, self.lease_seconds
        _require(timeout is None or _positive(timeout), "call_timeout_seconds must be above 0, or None")
        _require(lease is None or _positive(lease), "lease_seconds must be above 0")
        _require(
            timeout is not None or lease is not None,
            "without call_timeout_seconds, lease_seconds must say how long a silent probe keeps its place",
        )
        _require(
            timeout is None or lease is None or lease >= timeout,
            "lease_seconds must not be below call_timeout_seconds, or a second probe would start beside a running one",
        )
        _require(_positive(self.idle_seconds), "idle_seconds must be above 0")
        _require(
            self.idle_seconds >= self.cooldown_seconds + self._lease_seconds(),
            "idle_seconds must cover the cooldown and a lease, or an open circuit would be forgotten",
        )
        _accept_the_word(self, "consistency", Consistency)
        _accept_the_word(self, "on_store_error", OnStoreError)

    def limits(self) -> Limits:
        """Translate into what a store needs."""
        cooldown_ms, lease_ms = _milliseconds(self.cooldown_seconds), _milliseconds(self._lease_seconds())
        return Limits(
            failure_threshold=self.policy.failures,
            cooldown_ms=cooldown_ms,
            probe_limit=self.probe_limit,
            probe_successes=self.probe_successes,
            lease_ms=lease_ms,
            idle_ms=_milliseconds(self.idle_seconds),
            # Readable rather than hashed: who compares two replicas wants to see what differs.
            fingerprint=f"consecutive={self.policy.failures} cooldown_ms={cooldown_ms} lease_ms={lease_ms} "
            f"probes={self.probe_successes}/{self.probe_limit}",
        )

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
    return math.isfinite(seconds) and seconds > 0


def _milliseconds(seconds: float) -> int:
    # At least one, so that nothing above zero becomes no time at all.
    return max(1, round(seconds * 1000))


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001
    if not holds:
        raise ConfigError(otherwise)
