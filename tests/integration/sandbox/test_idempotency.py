"""Idempotency keys, row by row as Stripe v1 documents them."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import stripe as sdk
from stripe import StripeClient

from tests.integration.sandbox.talk import INTENTS, create, sdk_on_httpx, stripe_at, until
from tests.support.sandbox import Sandbox

pytestmark = sdk_on_httpx


async def test_same_key_and_parameters_replay_the_answer_to_the_byte(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """A repeat creates nothing and says whose answer it is; the order of the parameters does not matter."""
    first = await create(http, "key")
    again = await http.post(
        INTENTS,
        data={"currency": "eur", "capture_method": "manual", "amount": "2500"},
        headers={"Idempotency-Key": "key"},
    )
    assert (again.status_code, again.content) == (200, first.content)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Original-Request"] == first.headers["Request-Id"] != again.headers["Request-Id"]
    assert len(sandbox.effects_of("created")) == 1


async def test_same_key_with_other_parameters_is_an_error(stripe: StripeClient, sandbox: Sandbox) -> None:
    """A key stands for one request; other parameters are refused, and the first answer stays."""
    await stripe.v1.payment_intents.create_async({"amount": 2500, "currency": "eur"}, {"idempotency_key": "key"})
    with pytest.raises(sdk.IdempotencyError):
        await stripe.v1.payment_intents.create_async({"amount": 2501, "currency": "eur"}, {"idempotency_key": "key"})
    assert len(sandbox.effects) == 1


async def test_same_key_at_another_endpoint_is_an_error(stripe: StripeClient, sandbox: Sandbox) -> None:
    """One key for two kinds of operation is refused, as one in two would otherwise be lost."""
    options: sdk.RequestOptions = {"idempotency_key": "key"}
    intent = await stripe.v1.payment_intents.create_async({"amount": 2500, "currency": "eur"}, options)
    with pytest.raises(sdk.IdempotencyError, match="same endpoint"):
        await stripe.v1.payment_intents.cancel_async(intent.id, {}, options)
    assert not sandbox.effects_of("canceled")


async def test_keys_of_two_merchants_do_not_meet(stripe: StripeClient, sandbox: Sandbox) -> None:
    """Keys are scoped to the API key that they come with."""
    async with stripe_at(sandbox.url, api_key="sk_test_other") as other:
        for client in (stripe, other):
            await client.v1.payment_intents.create_async(
                {"amount": 2500, "currency": "eur"}, {"idempotency_key": "key"}
            )
    assert len(sandbox.effects_of("created")) == 2


async def test_key_in_use_is_a_conflict_until_the_first_answer(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """While the first request runs, a repeat is told so with 409; afterwards it gets the answer."""
    sandbox.fault("slow", delay_ms=2_000, times=1)
    running = asyncio.create_task(create(http, "key"))
    await until(lambda: bool(sandbox.requests))
    early = await create(http, "key")
    assert early.status_code == 409
    assert early.json()["error"]["code"] == "idempotency_key_in_use"
    other = await create(http, "key", amount="2501")
    assert other.json()["error"]["type"] == "idempotency_error"
    first = await running
    assert (await create(http, "key")).content == first.content
    assert len(sandbox.effects) == 1


async def test_ten_at_once_with_one_key_have_one_effect(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Of ten concurrent requests with one key one creates the intent; the others are replays of it or conflicts."""
    sandbox.fault("slow", delay_ms=100)
    answers = await asyncio.gather(*(create(http, "key") for _ in range(10)))
    [intent] = {answer.json()["id"] for answer in answers if answer.status_code == 200}
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert [effect["payment_intent"] for effect in sandbox.effects] == [intent]


async def test_stored_500_is_replayed_after_recovery(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """A 500 belongs to its key: the healthy provider repeats it, and only a new key gets through."""
    sandbox.fault("error_500", times=1)
    failed = await create(http, "key")
    again = await create(http, "key")
    assert failed.status_code == again.status_code == 500
    assert again.content == failed.content
    assert again.headers["Idempotent-Replayed"] == "true"
    assert not sandbox.effects
    assert (await create(http, "another key")).status_code == 200


async def test_stored_answer_stays_when_the_provider_starts_to_fail(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """What a key was answered it is answered again, whatever new requests meet."""
    first = await create(http, "key")
    sandbox.fault("error_500")
    assert (await create(http, "key")).content == first.content
    assert (await create(http, "another key")).status_code == 500


async def test_decline_and_refused_state_change_are_stored(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Errors of the execution itself are answers like others: the same card is not tried twice under one key."""
    intent = (await create(http)).json()["id"]
    for action, form in (("confirm", {"payment_method": "pm_card_chargeDeclined"}), ("capture", {})):
        headers = {"Idempotency-Key": action}
        first = await http.post(f"{INTENTS}/{intent}/{action}", data=form, headers=headers)
        again = await http.post(f"{INTENTS}/{intent}/{action}", data=form, headers=headers)
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["Idempotent-Replayed"] == "true"
    assert len(sandbox.effects) == 1


async def test_what_never_began_is_not_stored(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """After a refusal of the key, the rate or the parameters, the same idempotency key is as good as new."""
    assert (await create(http, "key", amount="0")).status_code == 400
    assert (await create(http, "key", milestone="1")).status_code == 400
    sandbox.fault("rate_limited", times=1)
    assert (await create(http, "key")).status_code == 429
    assert (await http.post(INTENTS, headers={"Idempotency-Key": "key"}, auth=("pk_test_1", ""))).status_code == 401
    created = await create(http, "key")
    assert created.status_code == 200
    assert "Idempotent-Replayed" not in created.headers


async def test_reads_ignore_keys(http: httpx.AsyncClient) -> None:
    """A key on a GET means nothing: the same key reads two different things."""
    for _ in range(2):
        listed = await http.get(INTENTS, headers={"Idempotency-Key": "key"})
        assert "Idempotent-Replayed" not in listed.headers
        await create(http)
    assert len((await http.get(INTENTS, headers={"Idempotency-Key": "key"})).json()["data"]) == 2


async def test_key_that_is_too_long_is_refused(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Keys have at most 255 characters."""
    assert (await create(http, "k" * 255)).status_code == 200
    assert (await create(http, "k" * 256)).status_code == 400
    assert len(sandbox.effects) == 1
