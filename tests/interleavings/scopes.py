"""What is searched: small numbers, so that everything that can happen with them is looked at."""

from __future__ import annotations

from dataclasses import dataclass

from breaker import BreakerConfig, Consecutive, FailureRate
from tests.interleavings.records import bucket_ms_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is searched.

    Attributes:
        tick_ms: What time passes by; whole buckets where a rate counts.
        abstains: Whether replicas may ask and leave probing to others, as they do that have a background probe.
        most_calls: Nobody asks while a rate's window holds more; without that it could hold any number.
        strays: How many callers that turned away may have mail on the way at once.
        repeats: Whether the server may get questions and reports twice.
        losses: Whether the server may lose all data.
        operator: What an operator may do: actions with their duration in ms, 0 for no end.
        depth: How many steps deep; None until nothing new is found.
    """

    name: str
    config: BreakerConfig
    replicas: int = 3
    tick_ms: int = 1
    abstains: bool = False
    most_calls: int = 0
    strays: int = 1
    repeats: bool = True
    losses: bool = False
    operator: tuple[tuple[str, int], ...] = ()
    depth: int | None = None

    @property
    def bucket_ms(self) -> int:
        """How long a rate's bucket is."""
        return bucket_ms_of(self.config.limits())

    @property
    def rounds_apart(self) -> bool:
        """Whether all leases of one half-open round are over before the next can begin."""
        limits = self.config.limits()
        return limits.cooldown_ms >= limits.lease_ms and not self.losses and not self.operator


_MODES = ("forced_open", "forced_closed", "metrics_only")


def config(
    *, threshold: int = 2, probe_limit: int = 1, probe_successes: int = 1, cooldown_ms: int = 3, lease_ms: int = 2
) -> BreakerConfig:
    """A configuration whose every millisecond is looked at."""
    return BreakerConfig(
        policy=Consecutive(threshold),
        cooldown_seconds=cooldown_ms / 1000,
        call_timeout_seconds=None,
        lease_seconds=lease_ms / 1000,
        probe_limit=probe_limit,
        probe_successes=probe_successes,
    )


ONE_PROBE = Scope(name="one probe", config=config(), strays=2)
TWO_PROBES = Scope(name="two probes, two successes", config=config(probe_limit=2, probe_successes=2))
ABSTAINERS = Scope(name="replicas that leave probing to others", config=config(), abstains=True)
LONG_LEASE = Scope(
    name="leases longer than the cooldown", config=config(probe_limit=2, cooldown_ms=2, lease_ms=3), strays=1
)
LOSSES = Scope(name="the server loses its data", config=config(), losses=True)
OPERATOR = Scope(
    name="an operator",
    config=config(),
    strays=0,
    operator=(("reset", 0), ("auto", 0), *((mode, duration_ms) for mode in _MODES for duration_ms in (0, 2))),
)
# The window goes on by half of itself, so that a bucket is new, in the middle, or out.
RATE = Scope(
    name="a failure rate",
    config=BreakerConfig(
        policy=FailureRate(threshold=0.5, window_seconds=1, minimum_calls=2),
        cooldown_seconds=1,
        call_timeout_seconds=None,
        lease_seconds=0.5,
    ),
    tick_ms=500,
    most_calls=3,
)

ALL = (ONE_PROBE, TWO_PROBES, LONG_LEASE, RATE, ABSTAINERS, LOSSES, OPERATOR)
