"""The adapter against the provider sandbox: the same wire protocol, kept by somebody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from breaker import BreakerConfig, MemoryStore
from service.providers.base import Declined, Executed, FailureKind, Health, ProviderError, ProviderIntent
from service.providers.guarded import GuardedProvider
from service.providers.stripe import StripeProvider
from tests.integration.providers.stripe_talk import REQUEST, stripe_at
from tests.support.sandbox import Sandbox


@pytest_asyncio.fixture
async def provider(sandbox: Sandbox) -> AsyncIterator[StripeProvider]:
    """The adapter, pointed at the sandbox."""
    template = sandbox.url + "/pay/{payment_intent}?client_secret={client_secret}"
    async with stripe_at(sandbox.url, checkout_url_template=template) as stripe:
        yield stripe


async def created(provider: StripeProvider | GuardedProvider) -> ProviderIntent:
    """Create the intent, which must succeed."""
    made = await provider.create_intent(REQUEST)
    assert isinstance(made, ProviderIntent)
    return made


async def find(provider: StripeProvider) -> ProviderIntent | None:
    """Look for the operation among the intents of the last minutes."""
    return await provider.find_intent("op_1", created_after=datetime.now(UTC) - timedelta(minutes=5))


async def test_intent_is_created_read_and_found(provider: StripeProvider) -> None:
    """All three ways lead to one intent, with the payer's page."""
    made = await created(provider)
    read = await provider.retrieve_intent(made.provider_intent_id)
    found = await find(provider)
    assert found is not None
    assert made.checkout_url is not None
    assert made.checkout_url.endswith(f"/pay/{made.provider_intent_id}?client_secret={made.client_secret}")
    assert made.provider_request_id
    assert replace(read, provider_request_id=None) == replace(made, provider_request_id=None)
    assert replace(found, provider_request_id=None) == replace(made, provider_request_id=None)


async def test_nothing_is_found_before_it_exists(provider: StripeProvider) -> None:
    """An operation that never arrived has no intent."""
    assert await find(provider) is None


async def test_repeat_after_a_lost_answer_gives_the_same_intent(sandbox: Sandbox, provider: StripeProvider) -> None:
    """The effect happened once; the repeat with the same key learns of it."""
    sandbox.fault("lose_response", path="POST /v1/payment_intents", times=1)
    with pytest.raises(ProviderError) as failed:
        await provider.create_intent(REQUEST)
    assert (failed.value.executed, failed.value.retry_same_key) == (Executed.UNKNOWN, True)
    made = await created(provider)
    found = await find(provider)
    assert found is not None
    assert found.provider_intent_id == made.provider_intent_id
    assert len(sandbox.effects_of("created")) == 1


async def test_guard_repeats_over_a_lost_answer(sandbox: Sandbox, provider: StripeProvider) -> None:
    """Behind the guard the caller never notices, and there is one intent."""
    sandbox.fault("lose_response", path="POST /v1/payment_intents", times=1)
    await created(GuardedProvider(provider, MemoryStore(), BreakerConfig(call_timeout_seconds=4.0)))
    assert len(sandbox.effects_of("created")) == 1


async def test_intent_behind_a_500_is_found(sandbox: Sandbox, provider: StripeProvider) -> None:
    """The 500 comes back under its key for ever, but what it hid can be looked up."""
    sandbox.fault("error_after_effect", path="POST /v1/payment_intents", times=1)
    with pytest.raises(ProviderError) as first:
        await provider.create_intent(REQUEST)
    assert (first.value.kind, first.value.retry_same_key) == (FailureKind.SERVER_ERROR, False)
    with pytest.raises(ProviderError) as second:
        await provider.create_intent(REQUEST)
    assert (second.value.kind, second.value.health) == (FailureKind.REPLAYED_ERROR, Health.SAYS_NOTHING)
    assert await find(provider) is not None
    assert len(sandbox.effects_of("created")) == 1


async def test_same_key_with_other_parameters_is_our_bug(provider: StripeProvider) -> None:
    """The provider refuses it, and the adapter says whose mistake it is."""
    await created(provider)
    with pytest.raises(ProviderError) as failed:
        await provider.create_intent(replace(REQUEST, amount=2501))
    assert failed.value.kind is FailureKind.KEY_REUSED


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("error_500", FailureKind.SERVER_ERROR),
        ("error_503", FailureKind.SERVER_ERROR),
        ("rate_limited", FailureKind.RATE_LIMITED),
        ("garbage", FailureKind.BAD_RESPONSE),
        ("reset", FailureKind.CONNECTION_LOST),
    ],
)
async def test_every_fault_is_recognised(
    sandbox: Sandbox, provider: StripeProvider, mode: str, kind: FailureKind
) -> None:
    """Each fault that the sandbox plays is one that the table knows."""
    sandbox.fault(mode)
    with pytest.raises(ProviderError) as failed:
        await provider.create_intent(REQUEST)
    assert failed.value.kind is kind
    assert (failed.value.retry_after_seconds is not None) == (mode == "rate_limited")


async def test_decline_is_recognised(sandbox: Sandbox, provider: StripeProvider) -> None:
    """A declined card comes as a result."""
    sandbox.fault("declined")
    assert isinstance(await provider.create_intent(REQUEST), Declined)


async def test_unknown_intent_is_refused(provider: StripeProvider) -> None:
    """Reading what does not exist is a definite no of a healthy provider."""
    with pytest.raises(ProviderError) as failed:
        await provider.retrieve_intent("pi_unknown")
    assert (failed.value.kind, failed.value.code) == (FailureKind.REQUEST_REFUSED, "resource_missing")
