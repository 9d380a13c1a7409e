"""What the adapter sends, and what it reads from the answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from service.providers.base import (
    Executed,
    FailureKind,
    Health,
    ProviderError,
    ProviderIntent,
    ProviderOperation,
    ProviderStatus,
)
from tests.integration.providers.stripe_talk import CLIENT_SECRET, REQUEST, error, intent, stripe_at
from tests.integration.providers.wire import Move, answer, playing, raw

CREATED_AFTER = datetime(2026, 11, 1, tzinfo=UTC)


def listing(*found: Any, more: bool = False) -> Move:
    """Answer with one page of a list."""
    return answer(200, {"object": "list", "url": "/v1/payment_intents", "has_more": more, "data": found})


def foreign(number: int) -> dict[str, Any]:
    """Give an intent that another operation created."""
    return intent(id=f"pi_foreign_{number}", metadata={"operation_id": f"op_foreign_{number}"})


async def test_create_sends_the_operation_as_key_and_what_finds_it_again() -> None:
    """One form-encoded POST: manual capture, lower-case currency, our ids as metadata, the operation's id as key."""
    async with playing(answer(200, intent())) as wire, stripe_at(wire.url) as provider:
        await provider.create_intent(REQUEST)
    (sent,) = wire.arrived
    assert (sent.method, sent.target) == ("POST", "/v1/payment_intents")
    assert sent.headers["idempotency-key"] == "op_1"
    assert sent.headers["authorization"] == "Bearer sk_test_do_not_log"
    assert parse_qs(sent.body) == {
        "amount": ["2500"],
        "currency": ["eur"],
        "capture_method": ["manual"],
        "metadata[intent_id]": ["payint_1"],
        "metadata[operation_id]": ["op_1"],
        "metadata[return_url]": ["https://shop.example/back"],
    }


async def test_repeated_create_sends_the_same_bytes() -> None:
    """The same operation is the same request, or Stripe would refuse the key."""
    async with playing(answer(200, intent())) as wire, stripe_at(wire.url) as provider:
        await provider.create_intent(REQUEST)
        await provider.create_intent(REQUEST)
    first, second = wire.arrived
    assert (first.body, first.headers["idempotency-key"]) == (second.body, second.headers["idempotency-key"])


async def test_created_intent_is_read() -> None:
    """A definite yes carries what the payer and the books need."""
    async with playing(answer(200, intent(), Request_Id="req_1")) as wire, stripe_at(wire.url) as provider:
        made = await provider.create_intent(REQUEST)
    assert made == ProviderIntent(
        provider_intent_id="pi_1",
        status=ProviderStatus.REQUIRES_ACTION,
        amount=2500,
        currency="EUR",
        client_secret=CLIENT_SECRET,
        provider_request_id="req_1",
    )


async def test_retrieve_reads_the_intent_that_was_asked_for() -> None:
    """One GET with the id in the path."""
    held = intent(status="requires_capture", amount_capturable=2500)
    async with playing(answer(200, held)) as wire, stripe_at(wire.url) as provider:
        read = await provider.retrieve_intent("pi_1")
    assert (read.status, read.amount_authorized, read.amount_captured) == (ProviderStatus.AUTHORIZED, 2500, 0)
    assert (wire.arrived[0].method, wire.arrived[0].target) == ("GET", "/v1/payment_intents/pi_1")


@pytest.mark.parametrize(
    "move",
    [answer(200, intent(id="pi_2")), answer(200, intent(object="charge")), answer(402, error("card_error"))],
    ids=["another intent", "another kind", "a decline of nothing"],
)
async def test_retrieve_believes_no_other_object(move: Move) -> None:
    """An answer about something else is no answer."""
    async with playing(move) as wire, stripe_at(wire.url) as provider:
        with pytest.raises(ProviderError) as failed:
            await provider.retrieve_intent("pi_1")
    assert failed.value.kind is FailureKind.BAD_RESPONSE


async def test_find_lists_since_then_and_matches_the_operation() -> None:
    """The intent is found by the operation id stored with it, among those created since."""
    async with playing(listing(foreign(1), intent(), foreign(2))) as wire, stripe_at(wire.url) as provider:
        found = await provider.find_intent("op_1", created_after=CREATED_AFTER)
    assert found is not None
    assert found.provider_intent_id == "pi_1"
    query = parse_qs(urlsplit(wire.arrived[0].target).query)
    assert query == {"created[gte]": [str(int(CREATED_AFTER.timestamp()))], "limit": ["100"]}


async def test_find_turns_the_pages() -> None:
    """The search goes on behind the last intent of a page, with the same filter."""
    async with playing(listing(foreign(1), more=True), listing(intent())) as wire, stripe_at(wire.url) as provider:
        found = await provider.find_intent("op_1", created_after=CREATED_AFTER)
    assert found is not None
    query = parse_qs(urlsplit(wire.arrived[1].target).query)
    assert query["starting_after"] == ["pi_foreign_1"]
    assert query["created[gte]"] == [str(int(CREATED_AFTER.timestamp()))]


async def test_find_says_when_there_is_none() -> None:
    """A list without the operation is a definite: the provider has none."""
    async with playing(listing(foreign(1))) as wire, stripe_at(wire.url) as provider:
        assert await provider.find_intent("op_1", created_after=CREATED_AFTER) is None


async def test_find_that_comes_to_no_end_is_unknown_and_no_sickness() -> None:
    """Behind a thousand intents the search gives up without saying that there is none."""
    page = listing(*(foreign(number) for number in range(100)), more=True)
    async with playing(page) as wire, stripe_at(wire.url) as provider:
        with pytest.raises(ProviderError) as failed:
            await provider.find_intent("op_1", created_after=CREATED_AFTER)
    assert (failed.value.executed, failed.value.health) == (Executed.UNKNOWN, Health.HEALTHY)
    assert len(wire.arrived) == 10


@pytest.mark.parametrize(
    "pages",
    [
        [answer(200, intent())],
        [answer(200, None)],
        [answer(200, {"object": "list"})],
        [listing(7)],
        [listing(foreign(1), more=True), answer(200, [])],
        [listing(foreign(1), more=True), answer(503)],
        [listing(intent(amount=0))],
    ],
    ids=["no list", "null", "no data", "no objects", "second page no list", "second page 503", "found but nonsense"],
)
async def test_find_takes_no_nonsense_for_none(pages: list[Move]) -> None:
    """Only a proper list can say that there is none."""
    async with playing(*pages) as wire, stripe_at(wire.url) as provider:
        with pytest.raises(ProviderError) as failed:
            await provider.find_intent("op_1", created_after=CREATED_AFTER)
    assert (failed.value.executed, failed.value.health) == (Executed.UNKNOWN, Health.SICK)


async def test_connection_lost_between_pages_is_told_as_that() -> None:
    """The answer to the first page says nothing about the failure of the second."""
    async with playing(listing(foreign(1), more=True), raw(b"")) as wire, stripe_at(wire.url) as provider:
        with pytest.raises(ProviderError) as failed:
            await provider.find_intent("op_1", created_after=CREATED_AFTER)
    assert failed.value.kind is FailureKind.CONNECTION_LOST


async def test_our_own_bug_comes_through_as_it_is() -> None:
    """A key that no header can carry is our mistake, and nobody else is blamed for it."""
    async with playing(answer(200, intent())) as wire, stripe_at(wire.url) as provider:
        with pytest.raises(UnicodeEncodeError):
            await provider.create_intent(replace(REQUEST, operation_id="öp_1"))
    assert wire.arrived == []


async def test_adapter_alone_refuses_nothing() -> None:
    """Circuits are the guard's affair."""
    async with stripe_at("http://stripe.invalid") as provider:
        assert provider.name == "stripe"
        assert await provider.peek(ProviderOperation.CREATE_INTENT) is None


@pytest.mark.parametrize("key", ["", "sk_test_1\n", "sk test", "sk_tést"])
async def test_key_that_cannot_be_sent_is_refused_without_being_told(key: str) -> None:
    """A key with a line end behind it is refused at construction; the message does not contain it."""
    with pytest.raises(ValueError, match="must be printable") as refused:
        async with stripe_at("http://stripe.invalid", api_key=key):
            pass
    assert not key or key not in str(refused.value)
