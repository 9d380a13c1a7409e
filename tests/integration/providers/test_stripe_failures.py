"""Every row of the table of outcomes, played on a real socket to the real SDK."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass

import pytest

from service.providers.base import Declined, Executed, FailureKind, Health, ProviderError
from tests.integration.providers.stripe_talk import CLIENT_SECRET, REQUEST, error, intent, stripe_at
from tests.integration.providers.wire import (
    Move,
    answer,
    full_backlog,
    hang,
    nobody_listening,
    playing,
    raw,
    reset,
)

HTML = b"<html><body>Service Unavailable</body></html>"
NO, UNKNOWN = Executed.NO, Executed.UNKNOWN
SICK, HEALTHY, SAYS_NOTHING = Health.SICK, Health.HEALTHY, Health.SAYS_NOTHING


@dataclass(frozen=True)
class Meant:
    """What a failure must say about itself."""

    kind: FailureKind
    executed: Executed
    health: Health
    repeat: bool = False
    code: str | None = None
    retry_after_seconds: float | None = None


LOST = Meant(FailureKind.CONNECTION_LOST, UNKNOWN, SICK, repeat=True)
EDGE = Meant(FailureKind.SERVER_ERROR, UNKNOWN, SICK, repeat=True)
NONSENSE = Meant(FailureKind.BAD_RESPONSE, UNKNOWN, SICK, repeat=True)
REFUSED = Meant(FailureKind.REQUEST_REFUSED, NO, HEALTHY)
CREDENTIALS = Meant(FailureKind.CREDENTIALS_REFUSED, NO, SAYS_NOTHING)
LIMITED = Meant(FailureKind.RATE_LIMITED, NO, SAYS_NOTHING)
REPLAYED = Meant(FailureKind.REPLAYED_ERROR, UNKNOWN, SAYS_NOTHING)
REDIRECT = Meant(FailureKind.BAD_RESPONSE, UNKNOWN, SICK)

ROWS: dict[str, tuple[Move, Meant]] = {
    "read timeout": (hang, Meant(FailureKind.TIMED_OUT, UNKNOWN, SICK, repeat=True)),
    "reset": (reset, LOST),
    "closed without an answer": (raw(b""), LOST),
    "closed within the headers": (raw(b"HTTP/1.1 200 OK\r\nContent-Le"), LOST),
    "closed within the body": (raw(b'HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"object"'), LOST),
    "not HTTP": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), LOST),
    "body not as encoded as it says": (answer(200, b"plain", Content_Encoding="gzip"), NONSENSE),
    "409 key in use": (
        answer(409, error("idempotency_error", code="idempotency_key_in_use"), Retry_After="2"),
        Meant(
            FailureKind.KEY_IN_USE,
            UNKNOWN,
            SAYS_NOTHING,
            repeat=True,
            code="idempotency_key_in_use",
            retry_after_seconds=2.0,
        ),
    ),
    "409 of a proxy": (answer(409, HTML), EDGE),
    "400 same key, other parameters": (
        answer(400, error("idempotency_error")),
        Meant(FailureKind.KEY_REUSED, UNKNOWN, SAYS_NOTHING),
    ),
    "429 with Retry-After": (
        answer(429, error("invalid_request_error", code="rate_limit"), Retry_After="3"),
        Meant(FailureKind.RATE_LIMITED, NO, SAYS_NOTHING, repeat=True, code="rate_limit", retry_after_seconds=3.0),
    ),
    "429 without Retry-After": (answer(429, error("invalid_request_error")), LIMITED),
    "429 lock timeout": (
        answer(429, error("invalid_request_error", code="lock_timeout")),
        Meant(FailureKind.RATE_LIMITED, NO, SAYS_NOTHING, repeat=True, code="lock_timeout"),
    ),
    "429 of an edge": (
        answer(429, HTML, Retry_After="1"),
        Meant(FailureKind.RATE_LIMITED, NO, SAYS_NOTHING, repeat=True, retry_after_seconds=1.0),
    ),
    "400 rate limit, the old way": (
        answer(400, error("invalid_request_error", code="rate_limit")),
        Meant(FailureKind.RATE_LIMITED, NO, SAYS_NOTHING, code="rate_limit"),
    ),
    "500 JSON": (answer(500, error("api_error")), Meant(FailureKind.SERVER_ERROR, UNKNOWN, SICK)),
    "500 replayed": (answer(500, error("api_error"), Idempotent_Replayed="true"), REPLAYED),
    "500 HTML": (answer(500, HTML), EDGE),
    "502 HTML": (answer(502, HTML), EDGE),
    "503 HTML": (
        answer(503, HTML, Retry_After="7"),
        Meant(FailureKind.SERVER_ERROR, UNKNOWN, SICK, repeat=True, retry_after_seconds=7.0),
    ),
    "503 JSON of a gateway": (
        answer(503, {"status": 503, "error": "Service Unavailable"}, Retry_After="7"),
        Meant(FailureKind.SERVER_ERROR, UNKNOWN, SICK, repeat=True, retry_after_seconds=7.0),
    ),
    "503 of the provider": (answer(503, error("api_error")), EDGE),
    "504 empty": (answer(504), EDGE),
    "401": (answer(401, error("invalid_request_error")), CREDENTIALS),
    "403": (answer(403, error("invalid_request_error")), CREDENTIALS),
    "401 of a proxy": (answer(401, {"error": {"message": "who are you", "code": "not_stripes"}}), EDGE),
    "403 of a firewall": (answer(403, HTML), EDGE),
    "400 validation": (
        answer(400, error("invalid_request_error", code="amount_too_small")),
        Meant(FailureKind.REQUEST_REFUSED, NO, HEALTHY, code="amount_too_small"),
    ),
    "404": (
        answer(404, error("invalid_request_error", code="resource_missing")),
        Meant(FailureKind.REQUEST_REFUSED, NO, HEALTHY, code="resource_missing"),
    ),
    "422": (answer(422, error("invalid_request_error")), REFUSED),
    "400 state conflict": (
        answer(400, error("invalid_request_error", code="payment_intent_unexpected_state")),
        Meant(FailureKind.REQUEST_REFUSED, UNKNOWN, HEALTHY, code="payment_intent_unexpected_state"),
    ),
    "400 HTML": (answer(400, HTML), EDGE),
    "402 HTML": (answer(402, HTML), EDGE),
    "404 HTML": (answer(404, HTML), EDGE),
    "400 whose error is a word": (answer(400, {"error": "invalid_request"}), EDGE),
    "400 whose error is nothing": (answer(400, {"error": None}), EDGE),
    "400 whose error is a list": (answer(400, {"error": ["no"]}), EDGE),
    "405 of the provider": (
        answer(405, error("invalid_request_error", code="odd")),
        Meant(FailureKind.BAD_RESPONSE, UNKNOWN, SICK, repeat=True, code="odd"),
    ),
    "200 HTML": (answer(200, HTML), NONSENSE),
    "200 empty": (answer(200), NONSENSE),
    "200 cut JSON": (
        answer(200, b'{"object": "payment_intent", "client_secret": "' + CLIENT_SECRET.encode()),
        NONSENSE,
    ),
    "200 not UTF-8": (answer(200, b"\xff\xfe"), NONSENSE),
    "200 null": (answer(200, None), NONSENSE),
    "200 list": (answer(200, []), NONSENSE),
    "200 number": (answer(200, 7), NONSENSE),
    "200 object of no kind": (answer(200, {}), NONSENSE),
    "200 charge": (answer(200, intent(object="charge")), NONSENSE),
    "200 without id": (answer(200, intent(id=None)), NONSENSE),
    "200 other amount": (answer(200, intent(amount=2501)), NONSENSE),
    "200 amount as text": (answer(200, intent(amount="2500")), NONSENSE),
    "200 other currency": (answer(200, intent(currency="usd")), NONSENSE),
    "200 other operation": (
        answer(200, intent(metadata={"intent_id": "payint_1", "operation_id": "op_2"})),
        NONSENSE,
    ),
    "200 without metadata": (answer(200, intent(metadata=None)), NONSENSE),
    "200 unknown status": (answer(200, intent(status="on_holiday")), NONSENSE),
    "200 more held than asked": (answer(200, intent(amount_capturable=2501)), NONSENSE),
    "302": (answer(302, b"", Location="http://127.0.0.1:9/"), REDIRECT),
}


def meaning(failure: ProviderError) -> Meant:
    """Give what a failure says about itself."""
    return Meant(
        failure.kind,
        failure.executed,
        failure.health,
        failure.retry_same_key,
        failure.code,
        failure.retry_after_seconds,
    )


@pytest.mark.parametrize(("move", "meant"), ROWS.values(), ids=ROWS.keys())
async def test_failed_create_means_what_the_table_says(move: Move, meant: Meant) -> None:
    """Whatever goes wrong on the wire is classified, asked once, and tells no secret."""
    limits = {"read_timeout_seconds": 0.5} if move is hang else {}
    async with playing(move) as wire, stripe_at(wire.url, **limits) as provider:
        with pytest.raises(ProviderError) as failed:
            await provider.create_intent(REQUEST)
        assert meaning(failed.value) == meant
        assert len(wire.arrived) == 1
    told = "".join(traceback.format_exception(failed.value))
    assert CLIENT_SECRET not in told
    assert "sk_test_do_not_log" not in told


async def test_refused_connection_was_not_executed() -> None:
    """A port that refuses means that nothing happened and a repeat may help."""
    with nobody_listening() as url:
        async with stripe_at(url) as provider:
            with pytest.raises(ProviderError) as failed:
                await provider.create_intent(REQUEST)
    assert meaning(failed.value) == Meant(FailureKind.UNREACHABLE, NO, SICK, repeat=True)


async def test_unknown_host_was_not_executed() -> None:
    """A name that does not resolve means the same as a refused connection."""
    async with stripe_at("http://stripe.invalid") as provider:
        with pytest.raises(ProviderError) as failed:
            await provider.create_intent(REQUEST)
    assert meaning(failed.value) == Meant(FailureKind.UNREACHABLE, NO, SICK, repeat=True)


async def test_connection_that_is_never_taken_was_not_executed() -> None:
    """A full backlog ends in the connect timeout, and nothing was sent."""
    with full_backlog() as url:
        async with stripe_at(url, connect_timeout_seconds=0.2, read_timeout_seconds=300.0) as provider:
            with pytest.raises(ProviderError) as failed:
                await provider.create_intent(REQUEST)
    assert meaning(failed.value) == Meant(FailureKind.UNREACHABLE, NO, SICK, repeat=True)


async def test_exhausted_pool_is_ours_and_says_nothing_about_the_provider() -> None:
    """A call that finds no free connection was not sent and does not make the provider look sick."""
    async with (
        playing(hang) as wire,
        stripe_at(wire.url, max_connections=1, connect_timeout_seconds=0.5, read_timeout_seconds=300.0) as provider,
    ):
        first = asyncio.create_task(provider.create_intent(REQUEST))
        await wire.heard.wait()
        with pytest.raises(ProviderError) as failed:
            await provider.create_intent(REQUEST)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert meaning(failed.value) == Meant(FailureKind.OVERLOADED, NO, SAYS_NOTHING)
        assert len(wire.arrived) == 1


async def test_cancellation_passes_through() -> None:
    """A cancelled call is a cancellation, not a failure of the provider."""
    async with playing(hang) as wire, stripe_at(wire.url) as provider:
        call = asyncio.create_task(provider.create_intent(REQUEST))
        await wire.heard.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize(
    ("body", "declined"),
    [
        (
            error("card_error", code="card_declined", decline_code="insufficient_funds"),
            Declined(code="card_declined", decline_code="insufficient_funds", provider_request_id="req_7"),
        ),
        (
            error("card_error", code="authentication_required"),
            Declined(code="authentication_required", provider_request_id="req_7"),
        ),
        ({"error": {"message": "no type"}}, Declined(code="card_declined", provider_request_id="req_7")),
    ],
)
async def test_declined_card_is_a_result(body: object, declined: Declined) -> None:
    """A refused card is an answer with its reasons, not an error."""
    async with playing(answer(402, body, Request_Id="req_7")) as wire, stripe_at(wire.url) as provider:
        assert await provider.create_intent(REQUEST) == declined


async def test_failure_names_the_providers_request() -> None:
    """The request id of a failed call is kept for the provider's support, whatever the body is."""
    async with playing(answer(503, HTML, Request_Id="req_9")) as wire, stripe_at(wire.url) as provider:
        with pytest.raises(ProviderError) as failed:
            await provider.create_intent(REQUEST)
    assert failed.value.provider_request_id == "req_9"


async def test_words_that_are_no_codes_are_dropped() -> None:
    """Only short words are taken for codes, so that no card number gets into a log by way of one."""
    body = error("card_error", code="4242 4242 4242 4242", decline_code="x" * 65)
    async with playing(answer(402, body, Request_Id="a b")) as wire, stripe_at(wire.url) as provider:
        assert await provider.create_intent(REQUEST) == Declined(code="card_declined")


async def test_concurrent_calls_do_not_mix_up_their_answers() -> None:
    """Each call is judged by its own answer, however many are out."""
    moves = [answer(503, HTML, Request_Id=f"req_{number}") for number in range(20)]
    async with playing(*moves) as wire, stripe_at(wire.url) as provider:
        failures = await asyncio.gather(*(provider.create_intent(REQUEST) for _ in moves), return_exceptions=True)
    told = {failure.provider_request_id for failure in failures if isinstance(failure, ProviderError)}
    assert told == {f"req_{number}" for number in range(20)}
