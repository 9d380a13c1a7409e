"""What a failed call to Stripe means: was it executed, what does it say about Stripe's health, can a repeat help?

Decided by the types of the SDK's and httpx's errors, by status and by Stripe's error code, never by a message's text.
The two tables are read from the top; the first row that fits decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

import httpx
import stripe

from service.providers.base import Declined, Executed, FailureKind, Health, ProviderError
from service.providers.stripe_http import Answer

# Codes of a request that came too late or twice: whether the wish is fulfilled, only the object itself can tell.
_STATE_CONFLICTS = frozenset(
    {"charge_already_captured", "charge_already_refunded", "intent_invalid_state", "payment_intent_unexpected_state"}
)
# Stripe's codes and request ids are short words. Anything else could be anything, a card number included, and must not
# reach a log or the database by way of an error.
_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_RETRY_AFTER_DIGITS = 6


class Meaning(NamedTuple):
    """What one row of a table says."""

    kind: FailureKind
    executed: Executed
    health: Health
    retry_same_key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An error answer, as the rows look at it.

    Attributes:
        error: What the SDK made of it.
        status: The HTTP status.
        from_stripe: Whether the body is Stripe's, and not that of a proxy, an edge or a captive portal.
        code: Stripe's error code.
        replayed: Whether it is the stored answer to an earlier request with the same key.
        retry_after_seconds: What the answer asks to wait.
    """

    error: Exception
    status: int
    from_stripe: bool
    code: str | None
    replayed: bool
    retry_after_seconds: float | None


def _is_limit(reply: Reply) -> bool:
    # 429 means the same whoever says it, and Stripe has also said it with a 400.
    return reply.status == HTTPStatus.TOO_MANY_REQUESTS or isinstance(reply.error, stripe.RateLimitError)


def _says_when(reply: Reply) -> bool:
    # Without a word about when, a repeat would only add to the load. A lock is held for moments.
    return reply.retry_after_seconds is not None or reply.code == "lock_timeout"


def _is_validation(reply: Reply) -> bool:
    return isinstance(reply.error, stripe.InvalidRequestError) or reply.status == HTTPStatus.UNPROCESSABLE_ENTITY


_NO_CONNECTION = Meaning(FailureKind.UNREACHABLE, Executed.NO, Health.SICK, retry_same_key=True)
_POOL_EXHAUSTED = Meaning(FailureKind.OVERLOADED, Executed.NO, Health.SAYS_NOTHING)
_SILENCE = Meaning(FailureKind.TIMED_OUT, Executed.UNKNOWN, Health.SICK, retry_same_key=True)
_LOST = Meaning(FailureKind.CONNECTION_LOST, Executed.UNKNOWN, Health.SICK, retry_same_key=True)
_NONSENSE = Meaning(FailureKind.BAD_RESPONSE, Executed.UNKNOWN, Health.SICK, retry_same_key=True)
_REDIRECT = Meaning(FailureKind.BAD_RESPONSE, Executed.UNKNOWN, Health.SICK)
# The 500 came at the first attempt; all that is stored under the key is that, whatever Stripe's health is now.
_REPLAYED = Meaning(FailureKind.REPLAYED_ERROR, Executed.UNKNOWN, Health.SAYS_NOTHING)
# Stripe keeps a 500 of its own under the key, so the same key would only bring it back.
_STORED_500 = Meaning(FailureKind.SERVER_ERROR, Executed.UNKNOWN, Health.SICK)
# Also for a 4xx that is not Stripe's: something on the way failed to pass the request on. Most likely nothing was
# executed, but nobody who could know has said so.
_SERVER_ERROR = Meaning(FailureKind.SERVER_ERROR, Executed.UNKNOWN, Health.SICK, retry_same_key=True)
_LIMITED = Meaning(FailureKind.RATE_LIMITED, Executed.NO, Health.SAYS_NOTHING)
_LIMITED_FOR_NOW = Meaning(FailureKind.RATE_LIMITED, Executed.NO, Health.SAYS_NOTHING, retry_same_key=True)
_KEY_IN_USE = Meaning(FailureKind.KEY_IN_USE, Executed.UNKNOWN, Health.SAYS_NOTHING, retry_same_key=True)
_KEY_REUSED = Meaning(FailureKind.KEY_REUSED, Executed.UNKNOWN, Health.SAYS_NOTHING)
_CREDENTIALS = Meaning(FailureKind.CREDENTIALS_REFUSED, Executed.NO, Health.SAYS_NOTHING)
_CONFLICT = Meaning(FailureKind.REQUEST_REFUSED, Executed.UNKNOWN, Health.HEALTHY)
_REFUSED = Meaning(FailureKind.REQUEST_REFUSED, Executed.NO, Health.HEALTHY)

_WITHOUT_ANSWER: tuple[tuple[tuple[type[BaseException], ...], Meaning], ...] = (
    ((httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError), _NO_CONNECTION),
    ((httpx.PoolTimeout,), _POOL_EXHAUSTED),
    ((httpx.ReadTimeout, httpx.WriteTimeout), _SILENCE),
    ((httpx.RemoteProtocolError, httpx.NetworkError, OSError), _LOST),
    ((httpx.DecodingError,), _NONSENSE),
)

_ANSWERED: tuple[tuple[Callable[[Reply], bool], Meaning], ...] = (
    (lambda reply: reply.status < HTTPStatus.MULTIPLE_CHOICES, _NONSENSE),
    (lambda reply: reply.status < HTTPStatus.BAD_REQUEST, _REDIRECT),
    (lambda reply: reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR and reply.replayed, _REPLAYED),
    (lambda reply: reply.status == HTTPStatus.INTERNAL_SERVER_ERROR and reply.from_stripe, _STORED_500),
    (lambda reply: reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR, _SERVER_ERROR),
    (lambda reply: _is_limit(reply) and _says_when(reply), _LIMITED_FOR_NOW),
    (_is_limit, _LIMITED),
    (lambda reply: not reply.from_stripe, _SERVER_ERROR),
    (lambda reply: reply.status == HTTPStatus.CONFLICT, _KEY_IN_USE),
    (lambda reply: isinstance(reply.error, stripe.IdempotencyError), _KEY_REUSED),
    (lambda reply: isinstance(reply.error, (stripe.AuthenticationError, stripe.PermissionError)), _CREDENTIALS),
    (lambda reply: reply.code in _STATE_CONFLICTS, _CONFLICT),
    (_is_validation, _REFUSED),
    (lambda _: True, _NONSENSE),
)


def classify(error: Exception, answer: Answer | None) -> Declined | ProviderError | None:
    """Say what a failed call means.

    Args:
        error: What the SDK raised. Some bodies that are not Stripe's make it stumble with errors of no type of its own.
        answer: What came back, if anything did.

    Returns:
        The result or the error to give to the caller; None when the error is our own bug and means nothing.
    """
    if isinstance(error, stripe.APIConnectionError):
        return _without_answer(error.__cause__)
    if answer is None:
        return None
    details = _details(error)
    code = _word(details.get("code"))
    if isinstance(error, stripe.CardError):
        return Declined(
            code=code or "card_declined",
            decline_code=_word(details.get("decline_code")),
            provider_request_id=_request_id(answer),
        )
    reply = Reply(
        error=error,
        status=answer.status,
        from_stripe=isinstance(details.get("type"), str),
        code=code,
        replayed=answer.headers.get("idempotent-replayed") == "true",
        retry_after_seconds=_retry_after_seconds(answer),
    )
    meaning = next(meaning for fits, meaning in _ANSWERED if fits(reply))
    return _error(meaning, answer, code=code if reply.from_stripe else None)


def nonsense(answer: Answer | None) -> ProviderError:
    """Say that an answer, though the SDK took it, is not about the payment intent that was asked for."""
    return _error(_NONSENSE, answer)


def _without_answer(cause: BaseException | None) -> ProviderError | None:
    for types, meaning in _WITHOUT_ANSWER:
        if isinstance(cause, types):
            return _error(meaning, None)
    return None  # such as a malformed header: nothing went over the wire, and nothing ever will


def _error(meaning: Meaning, answer: Answer | None, *, code: str | None = None) -> ProviderError:
    return ProviderError(
        meaning.kind,
        executed=meaning.executed,
        health=meaning.health,
        retry_same_key=meaning.retry_same_key,
        retry_after_seconds=_retry_after_seconds(answer),
        code=code,
        provider_request_id=_request_id(answer),
    )


def _details(error: Exception) -> dict[str, object]:
    body = error.json_body if isinstance(error, stripe.StripeError) else None
    details = body.get("error") if isinstance(body, dict) else None
    return details if isinstance(details, dict) else {}


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _request_id(answer: Answer | None) -> str | None:
    return _word(answer.headers.get("request-id")) if answer else None


def _retry_after_seconds(answer: Answer | None) -> float | None:
    value = answer.headers.get("retry-after", "") if answer else ""
    return float(value) if value.isdecimal() and len(value) <= _MAX_RETRY_AFTER_DIGITS else None
