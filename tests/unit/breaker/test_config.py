from __future__ import annotations

from collections.abc import Callable

import pytest

from breaker import BreakerConfig, CircuitBreaker, ConfigError, Consecutive, MemoryStore, OnStoreError, RedisStore


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Consecutive(0), "failures must be 1 or more"),
        (lambda: BreakerConfig(cooldown_seconds=0), "cooldown_seconds must be above 0"),
        (lambda: BreakerConfig(cooldown_seconds=float("nan")), "cooldown_seconds must be above 0"),
        (lambda: BreakerConfig(probe_limit=0), "probe_limit must be 1 or more"),
        (lambda: BreakerConfig(probe_successes=0), "probe_successes must be 1 or more"),
        (lambda: BreakerConfig(call_timeout_seconds=-1), "call_timeout_seconds must be above 0"),
        (lambda: BreakerConfig(lease_seconds=0), "lease_seconds must be above 0"),
        (lambda: BreakerConfig(call_timeout_seconds=None), "without call_timeout_seconds, lease_seconds"),
        (lambda: BreakerConfig(call_timeout_seconds=5, lease_seconds=4), "must not be below call_timeout_seconds"),
        (lambda: BreakerConfig(idle_seconds=0), "idle_seconds must be above 0"),
        (lambda: BreakerConfig(idle_seconds=30), "idle_seconds must cover"),
        (lambda: BreakerConfig(on_store_error="explode"), "on_store_error must be one of local, permit, refuse"),  # type: ignore[arg-type]
        (lambda: CircuitBreaker("a b", MemoryStore()), "a name is 1 to 200 characters"),
        (lambda: CircuitBreaker("{a}", MemoryStore()), "a name is 1 to 200 characters"),
        (lambda: CircuitBreaker("", MemoryStore()), "a name is 1 to 200 characters"),
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
