"""The guard around the real adapter, on a real socket."""

from __future__ import annotations

import pytest

from breaker import BreakerConfig, Consecutive, MemoryStore
from service.providers.base import CallRefusedError, Executed, FailureKind, Health, ProviderError
from service.providers.guarded import GuardedProvider
from service.providers.stripe import StripeProvider
from tests.integration.providers.stripe_talk import REQUEST, error, intent, stripe_at
from tests.integration.providers.wire import Move, answer, drip, hang, playing, raw, reset


def guard(provider: StripeProvider, **options: float) -> GuardedProvider:
    """Put the adapter behind circuits in memory."""
    config = BreakerConfig(policy=Consecutive(3), call_timeout_seconds=options.pop("call_timeout_seconds", 4.0))
    return GuardedProvider(provider, MemoryStore(), config, backoff_seconds=0.001)


async def test_slow_drip_ends_with_the_time_of_the_attempt() -> None:
    """A byte now and then defeats every read timeout; the attempt's whole time ends it, and it is not repeated."""
    async with playing(drip) as wire, stripe_at(wire.url) as stripe:
        with pytest.raises(ProviderError) as failed:
            await guard(stripe, call_timeout_seconds=0.5).create_intent(REQUEST)
        assert len(wire.arrived) == 1
    failure = failed.value
    assert (failure.kind, failure.executed, failure.health) == (FailureKind.TIMED_OUT, Executed.UNKNOWN, Health.SICK)
    assert not failure.retry_same_key


@pytest.mark.parametrize("first", [hang, reset, raw(b""), answer(503), answer(200, b"<html>")])
async def test_lost_answer_is_asked_for_again_with_the_same_key(first: Move) -> None:
    """After an attempt of unknown outcome the repeat brings the one object, by the same key and the same bytes."""
    limits = {"read_timeout_seconds": 1.0} if first is hang else {}
    async with playing(first, answer(200, intent())) as wire, stripe_at(wire.url, **limits) as stripe:
        made = await guard(stripe).create_intent(REQUEST)
    assert getattr(made, "provider_intent_id", None) == "pi_1"
    first_sent, second_sent = wire.arrived
    assert first_sent.headers["idempotency-key"] == second_sent.headers["idempotency-key"] == "op_1"
    assert first_sent.body == second_sent.body


async def test_stored_500_is_asked_for_once_and_three_of_them_open_the_circuit() -> None:
    """Each 500 is one request on the wire; after the third nothing goes over it any more."""
    async with playing(answer(500, error("api_error"))) as wire, stripe_at(wire.url) as stripe:
        guarded = guard(stripe)
        for sent in (1, 2, 3):
            with pytest.raises(ProviderError):
                await guarded.create_intent(REQUEST)
            assert len(wire.arrived) == sent
        with pytest.raises(CallRefusedError):
            await guarded.create_intent(REQUEST)
        assert len(wire.arrived) == 3


async def test_declined_cards_leave_the_circuit_closed() -> None:
    """Whoever tests stolen cards cannot take the payments down."""
    async with playing(answer(402, error("card_error", code="card_declined"))) as wire, stripe_at(wire.url) as stripe:
        guarded = guard(stripe)
        for _ in range(5):
            await guarded.create_intent(REQUEST)
        assert len(wire.arrived) == 5
