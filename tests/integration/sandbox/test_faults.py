"""Each fault as the official SDK meets it, and what it leaves behind."""

from __future__ import annotations

import httpx
import pytest
import stripe as sdk
from stripe import PaymentIntent, StripeClient

from tests.integration.sandbox.talk import FORM, INTENTS, create, sdk_on_httpx, stripe_at, until
from tests.support.sandbox import Sandbox

pytestmark = sdk_on_httpx


async def ask(stripe: StripeClient, key: str = "key") -> PaymentIntent:
    """Ask for an intent through the SDK."""
    return await stripe.v1.payment_intents.create_async({"amount": 2500, "currency": "eur"}, {"idempotency_key": key})


def causes(error: BaseException) -> list[type[BaseException]]:
    """Follow an exception down to what happened on the wire."""
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    return [type(link) for link in chain]


async def test_slow_answer_comes_too_late_but_happens(sandbox: Sandbox) -> None:
    """A caller that gives up on a slow provider does not undo what it asked for; the same key finds the intent."""
    sandbox.fault("slow", delay_ms=500, times=1)
    async with stripe_at(sandbox.url, read_timeout_seconds=0.1) as hasty:
        with pytest.raises(sdk.APIConnectionError) as gave_up:
            await ask(hasty)
    assert httpx.ReadTimeout in causes(gave_up.value)
    await until(lambda: bool(sandbox.effects))
    async with stripe_at(sandbox.url) as patient:
        assert (await ask(patient)).id == sandbox.effects[0]["payment_intent"]
    assert len(sandbox.effects) == 1


async def test_slow_is_slow_for_reads_and_replays_too(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Everything of a slow provider is slow, not only what executes."""
    await create(http, "key")
    sandbox.fault("slow", delay_ms=60_000)
    hasty = httpx.Timeout(10, read=0.2)
    for request in (
        http.get(INTENTS, timeout=hasty),
        http.post(INTENTS, data=FORM, headers={"Idempotency-Key": "key"}, timeout=hasty),
    ):
        with pytest.raises(httpx.ReadTimeout):
            await request


async def test_hang_never_answers_and_does_nothing(sandbox: Sandbox) -> None:
    """A caller without a timeout would wait for ever; nothing happens meanwhile."""
    sandbox.fault("hang")
    async with stripe_at(sandbox.url, read_timeout_seconds=0.2) as stripe:
        with pytest.raises(sdk.APIConnectionError) as gave_up:
            await ask(stripe)
    assert httpx.ReadTimeout in causes(gave_up.value)
    assert not sandbox.effects


async def test_slow_drip_sends_single_bytes(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Bytes keep coming, so that no read times out, and the answer is far from complete."""
    sandbox.fault("slow_drip", delay_ms=50)
    async with http.stream("POST", INTENTS, data=FORM, timeout=5) as answer:
        received = answer.aiter_raw()
        start = b"".join([await anext(received) for _ in range(3)])
    assert start.startswith(b"{\n ")
    assert len(start) < int(answer.headers["Content-Length"])
    assert len(sandbox.effects) == 1


async def test_slow_drip_gives_the_right_answer_in_the_end(stripe: StripeClient, sandbox: Sandbox) -> None:
    """Whoever waits long enough gets the intent that was created."""
    sandbox.fault("slow_drip", delay_ms=0)
    assert (await ask(stripe)).id == sandbox.effects[0]["payment_intent"]


async def test_reset_breaks_the_connection_before_anything(stripe: StripeClient, sandbox: Sandbox) -> None:
    """The caller sees a real TCP reset, and nothing happened."""
    sandbox.fault("reset")
    with pytest.raises(sdk.APIConnectionError) as broken:
        await ask(stripe)
    assert ConnectionResetError in causes(broken.value)
    assert not sandbox.effects


async def test_error_500_is_an_api_error_without_effect(stripe: StripeClient, sandbox: Sandbox) -> None:
    """A 500 is in Stripe's shape, with a request id, for changes and for reads."""
    sandbox.fault("error_500")
    for failing in (ask(stripe), stripe.v1.payment_intents.list_async()):
        with pytest.raises(sdk.APIError) as failed:
            await failing
        assert failed.value.http_status == 500
        assert failed.value.error is not None
        assert failed.value.error.type == "api_error"
        assert (failed.value.request_id or "").startswith("req_")
    assert not sandbox.effects


async def test_error_503_is_a_page_of_the_edge(stripe: StripeClient, sandbox: Sandbox) -> None:
    """A 503 is not Stripe's: no error object, no request id, nothing stored under the key."""
    sandbox.fault("error_503", times=1)
    with pytest.raises(sdk.APIError) as failed:
        await ask(stripe)
    assert (failed.value.http_status, failed.value.error, failed.value.request_id) == (503, None, None)
    assert not sandbox.effects
    assert (await ask(stripe)).status == "requires_payment_method"


async def test_rate_limited_says_when_to_come_back(stripe: StripeClient, sandbox: Sandbox) -> None:
    """A 429 names the seconds to wait, and nothing happened."""
    sandbox.fault("rate_limited")
    with pytest.raises(sdk.RateLimitError) as limited:
        await ask(stripe)
    assert limited.value.headers is not None
    assert int(limited.value.headers["Retry-After"]) >= 1
    assert not sandbox.effects


async def test_declined_refuses_the_card_and_leaves_reads_alone(stripe: StripeClient, sandbox: Sandbox) -> None:
    """A 402 carries the decline code, is kept under the key, and no read is answered with it."""
    sandbox.fault("declined", times=1)
    assert not (await stripe.v1.payment_intents.list_async()).data
    for _ in range(2):
        with pytest.raises(sdk.CardError) as declined:
            await ask(stripe)
        assert declined.value.code == "card_declined"
        assert declined.value.error is not None
        assert declined.value.error.decline_code == "generic_decline"
    assert not sandbox.effects


async def test_garbage_is_200_with_nonsense(stripe: StripeClient, sandbox: Sandbox) -> None:
    """A success that is not the provider's own; nothing happened."""
    sandbox.fault("garbage")
    with pytest.raises(sdk.APIError) as nonsense:
        await ask(stripe)
    assert nonsense.value.http_status == 200
    assert not sandbox.effects


async def test_lost_response_happened_and_can_be_fetched_with_the_key(stripe: StripeClient, sandbox: Sandbox) -> None:
    """The connection ends without an answer, the intent exists, and a repeat with the key returns just that one."""
    sandbox.fault("lose_response", times=1)
    with pytest.raises(sdk.APIConnectionError) as lost:
        await ask(stripe)
    assert httpx.RemoteProtocolError in causes(lost.value)
    [effect] = sandbox.effects
    assert (await ask(stripe)).id == effect["payment_intent"]
    assert len(sandbox.effects) == 1


async def test_lost_response_without_the_key_makes_a_second_intent(stripe: StripeClient, sandbox: Sandbox) -> None:
    """This is what keys are for: a repeat with a fresh one doubles the effect."""
    sandbox.fault("lose_response", times=1)
    with pytest.raises(sdk.APIConnectionError):
        await ask(stripe)
    await ask(stripe, "fresh")
    assert len(sandbox.effects) == 2


async def test_error_after_effect_hides_what_happened_behind_a_500(stripe: StripeClient, sandbox: Sandbox) -> None:
    """The 500 sticks to the key, so only a look at the provider's own list tells that the intent exists."""
    sandbox.fault("error_after_effect", times=1)
    for _ in range(2):
        with pytest.raises(sdk.APIError) as failed:
            await ask(stripe)
        assert failed.value.http_status == 500
    [found] = (await stripe.v1.payment_intents.list_async()).data
    assert [effect["payment_intent"] for effect in sandbox.effects] == [found.id]


async def test_sandbox_stays_well_after_broken_connections(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Callers that vanish in the middle of any fault leave nothing stuck behind: the next request is served."""
    for mode in ("hang", "slow_drip", "reset", "lose_response"):
        sandbox.fault(mode)
        for _ in range(5):
            with pytest.raises(httpx.TransportError):
                await http.post(INTENTS, data=FORM, timeout=httpx.Timeout(5, read=0.05))
    sandbox.heal()
    assert (await create(http)).status_code == 200
