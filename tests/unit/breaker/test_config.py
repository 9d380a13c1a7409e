from __future__ import annotations

from collections.abc import Callable

import pytest

from breaker import (
    BreakerConfig,
    CircuitBreaker,
    ConfigError,
    Consecutive,
    FailureRate,
    MemoryStore,
    OnStoreError,
    RedisStore,
)

_TEN_YEARS_SECONDS = 10 * 365 * 24 * 3600


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Consecutive(2.5), "failures must be a whole number, 1 or more"),  # type: ignore[arg-type]
        (lambda: Consecutive(float("inf")), "failures must be a whole number, 1 or more"),  # type: ignore[arg-type]
        (lambda: BreakerConfig(minimum_reporters=10**11), "minimum_reporters must be a whole number, 1 or more"),
        (lambda: FailureRate(threshold=4e-7), "threshold must be at least 0.000001 and at most 1"),
        (lambda: Consecutive(0), "failures must be a whole number, 1 or more"),
        (lambda: BreakerConfig(cooldown_seconds=0), "cooldown_seconds must be above 0"),
        (lambda: BreakerConfig(cooldown_seconds=float("nan")), "cooldown_seconds must be above 0"),
        (lambda: BreakerConfig(max_cooldown_seconds=0), "max_cooldown_seconds must be above 0"),
        (lambda: BreakerConfig(flush_seconds=0), "flush_seconds must be above 0"),
        (lambda: BreakerConfig(stable_after_seconds=-1), "stable_after_seconds must be 0 or more"),
        (lambda: BreakerConfig(ramp_seconds=-1), "ramp_seconds must be 0 or more"),
        (lambda: BreakerConfig(ramp_seconds=float("inf")), "ramp_seconds must be 0 or more"),
        (lambda: BreakerConfig(cooldown_multiplier=0.99), "cooldown_multiplier must be between 1 and 100"),
        (lambda: BreakerConfig(cooldown_multiplier=100.01), "cooldown_multiplier must be between 1 and 100"),
        (lambda: BreakerConfig(cooldown_multiplier=float("nan")), "cooldown_multiplier must be between 1 and 100"),
        (lambda: BreakerConfig(cooldown_jitter=-0.01), "cooldown_jitter must be between 0 and 1"),
        (lambda: BreakerConfig(cooldown_jitter=1.01), "cooldown_jitter must be between 0 and 1"),
        (lambda: BreakerConfig(minimum_reporters=0), "minimum_reporters must be a whole number, 1 or more"),
        (lambda: BreakerConfig(cooldown_seconds=30, idle_seconds=40.999), "idle_seconds must cover"),
        (lambda: BreakerConfig(consistency="eventual"), "consistency must be one of mirrored, strict"),  # type: ignore[arg-type]
        (lambda: FailureRate(threshold=0), "threshold must be at least 0.000001 and at most 1"),
        (lambda: FailureRate(threshold=1.01), "threshold must be at least 0.000001 and at most 1"),
        (lambda: FailureRate(slow_rate_threshold=0), "slow_rate_threshold must be at least 0.000001 and at most 1"),
        (lambda: FailureRate(slow_rate_threshold=1.01), "slow_rate_threshold must be at least 0.000001 and at most 1"),
        (lambda: FailureRate(window_seconds=0.999), "window_seconds must be 1 or more"),
        (lambda: FailureRate(window_seconds=float("inf")), "window_seconds must be 1 or more"),
        (lambda: FailureRate(minimum_calls=0), "minimum_calls must be a whole number, 1 or more"),
        (lambda: FailureRate(slow_call_seconds=0), "slow_call_seconds must be above 0"),
        (lambda: BreakerConfig(probe_limit=0), "probe_limit must be a whole number, 1 or more"),
        (lambda: BreakerConfig(probe_successes=0), "probe_successes must be a whole number, 1 or more"),
        (lambda: BreakerConfig(call_timeout_seconds=-1), "call_timeout_seconds must be above 0"),
        (lambda: BreakerConfig(lease_seconds=0), "lease_seconds must be above 0"),
        (lambda: BreakerConfig(call_timeout_seconds=None), "without call_timeout_seconds, lease_seconds"),
        (lambda: BreakerConfig(call_timeout_seconds=5, lease_seconds=4), "must exceed call_timeout_seconds by 0.5 s"),
        (lambda: BreakerConfig(call_timeout_seconds=5, lease_seconds=5), "must exceed call_timeout_seconds by 0.5 s"),
        (lambda: BreakerConfig(call_timeout_seconds=5, lease_seconds=5.499), "must exceed call_timeout_seconds by"),
        (lambda: BreakerConfig(idle_seconds=0), "idle_seconds must be above 0"),
        (lambda: BreakerConfig(idle_seconds=30), "idle_seconds must cover"),
        (lambda: BreakerConfig(on_store_error="explode"), "on_store_error must be one of local, permit, refuse"),  # type: ignore[arg-type]
        (lambda: FailureRate(window_seconds=1e15), "window_seconds must be 1 or more, and at most ten years"),
        (lambda: FailureRate(slow_call_seconds=1e15), "slow_call_seconds must be above 0, and at most ten years"),
        (lambda: BreakerConfig(idle_seconds=float("inf")), "idle_seconds must be .* at most ten years"),
        (lambda: BreakerConfig(cooldown_seconds=1e15), "cooldown_seconds must be .* at most ten years"),
        (lambda: BreakerConfig(max_cooldown_seconds=1e15), "max_cooldown_seconds must be .* at most ten years"),
        (lambda: BreakerConfig(stable_after_seconds=1e15), "stable_after_seconds must be .* at most ten years"),
        (lambda: BreakerConfig(call_timeout_seconds=1e15), "call_timeout_seconds must be .* at most ten years"),
        (lambda: BreakerConfig(lease_seconds=1e15), "lease_seconds must be .* at most ten years"),
        (lambda: BreakerConfig(ramp_seconds=1e15), "ramp_seconds must be .* at most ten years"),
        (lambda: BreakerConfig(flush_seconds=1e15), "flush_seconds must be .* at most ten years"),
        (lambda: BreakerConfig(idle_seconds=_TEN_YEARS_SECONDS + 1), "idle_seconds must be .* at most ten years"),
        (lambda: CircuitBreaker("a b", MemoryStore()), "a name is 1 to 200 characters"),
        (lambda: CircuitBreaker("a\udcff", MemoryStore()), "a name is 1 to 200 characters"),
        (lambda: CircuitBreaker("{a}", MemoryStore()), "a name is 1 to 200 characters"),
        (lambda: CircuitBreaker("", MemoryStore()), "a name is 1 to 200 characters"),
        (lambda: RedisStore.from_url("redis://x", heartbeat_seconds=0), "heartbeat_seconds must be above 0"),
        (lambda: RedisStore.from_url("http://x"), "a Redis URL begins with redis://"),
        (lambda: RedisStore.from_url("redis://x", prefix="breaker"), "prefix must end with a colon"),
        (lambda: RedisStore.from_url("redis://x", timeout_seconds=0), "timeout_seconds must be above 0"),
    ],
)
def test_nonsense_is_refused_at_construction(make: Callable[[], object], complaint: str) -> None:
    """Whatever makes no sense is refused where it is written, with a message that names it."""
    with pytest.raises(ConfigError, match=complaint):
        make()


def test_the_lease_covers_the_call_by_construction() -> None:
    """By default a probe keeps its place longer than its call may last."""
    limits = BreakerConfig(call_timeout_seconds=4).limits()
    assert limits.lease_ms == 5_000


def test_a_given_lease_is_kept() -> None:
    """A lease that covers the call is taken as it is, also for calls without a timeout."""
    assert BreakerConfig(call_timeout_seconds=None, lease_seconds=60).limits().lease_ms == 60_000


def test_nothing_above_zero_becomes_no_time_at_all() -> None:
    """A duration below a millisecond is a millisecond."""
    assert BreakerConfig(cooldown_seconds=0.0001).limits().cooldown_ms == 1


def test_the_fingerprint_can_be_read() -> None:
    """Who compares two replicas sees what differs."""
    fingerprint = BreakerConfig(policy=Consecutive(5), cooldown_seconds=10).limits().text
    assert fingerprint == "consecutive=5 cooldown_ms=10000 lease_ms=11000"


def test_a_plain_word_will_do_for_on_store_error() -> None:
    """Settings give text; the text is checked and becomes the enum."""
    assert BreakerConfig(on_store_error="refuse").on_store_error is OnStoreError.REFUSE  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: BreakerConfig(cooldown_multiplier=1, cooldown_jitter=0, minimum_reporters=1, stable_after_seconds=0),
        lambda: BreakerConfig(cooldown_multiplier=100, cooldown_jitter=1, ramp_seconds=0),
        lambda: BreakerConfig(call_timeout_seconds=5, lease_seconds=5.5),
        lambda: BreakerConfig(call_timeout_seconds=0.7, lease_seconds=1.2),
        lambda: BreakerConfig(cooldown_seconds=30, idle_seconds=41),
        lambda: BreakerConfig(idle_seconds=_TEN_YEARS_SECONDS, ramp_seconds=_TEN_YEARS_SECONDS),
        lambda: FailureRate(window_seconds=_TEN_YEARS_SECONDS, slow_call_seconds=_TEN_YEARS_SECONDS),
        lambda: FailureRate(threshold=1, slow_rate_threshold=1, window_seconds=1, minimum_calls=1),
        lambda: FailureRate(threshold=0.0001, slow_rate_threshold=0.0001, slow_call_seconds=0.001),
        lambda: CircuitBreaker("n" * 200, MemoryStore()),
    ],
)
def test_the_bounds_themselves_are_accepted(make: Callable[[], object]) -> None:
    """What is just sensible is not nonsense."""
    make()


@pytest.mark.parametrize(
    ("share", "percent"),
    [(1.0, 100), (0.5, 50), (0.29, 29), (0.07, 7), (1 / 3, 33.3333), (2 / 3, 66.6666), (0.0001, 0.01)],
)
def test_a_share_is_never_more_than_was_asked_for(share: float, percent: float) -> None:
    """As percent with four decimals, cut and not rounded up, so that the share itself still reaches it."""
    limits = BreakerConfig(policy=FailureRate(threshold=share, slow_call_seconds=1, slow_rate_threshold=share)).limits()
    assert (limits.failure_percent, limits.slow_percent) == (percent, percent)


def test_a_rate_counts_no_slowness_unless_asked_to() -> None:
    """Without `slow_call_seconds` the share of slow calls is off, whatever its threshold."""
    limits = BreakerConfig(policy=FailureRate(slow_rate_threshold=0.5)).limits()
    assert (limits.slow_percent, limits.failure_percent, limits.window_ms, limits.minimum_calls) == (0, 50, 60_000, 20)
    assert limits.consecutive == 0
