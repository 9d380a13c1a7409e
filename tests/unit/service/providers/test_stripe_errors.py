"""The rows of the table of outcomes that cannot be played on a loopback socket."""

from __future__ import annotations

import httpx
import pytest
import stripe

from service.providers.base import Executed, FailureKind, Health, ProviderError
from service.providers.stripe_errors import classify
from service.providers.stripe_http import Answer


def no_answer(cause: Exception) -> stripe.APIConnectionError:
    """Give what the transport raises for this cause."""
    error = stripe.APIConnectionError("no answer")  # type: ignore[no-untyped-call]
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "kind", "executed"),
    [
        (httpx.ProxyError("no tunnel"), FailureKind.UNREACHABLE, Executed.NO),
        (httpx.WriteTimeout("slow"), FailureKind.TIMED_OUT, Executed.UNKNOWN),
        (httpx.WriteError("gone"), FailureKind.CONNECTION_LOST, Executed.UNKNOWN),
        (httpx.ReadError("gone"), FailureKind.CONNECTION_LOST, Executed.UNKNOWN),
        (OSError("gone"), FailureKind.CONNECTION_LOST, Executed.UNKNOWN),
    ],
)
def test_connection_that_failed_means_what_the_table_says(
    cause: Exception, kind: FailureKind, executed: Executed
) -> None:
    """Without a connection nothing was executed; once something may have been sent, nobody knows."""
    meaning = classify(no_answer(cause), None)
    assert isinstance(meaning, ProviderError)
    assert (meaning.kind, meaning.executed, meaning.health) == (kind, executed, Health.SICK)
    assert meaning.retry_same_key


@pytest.mark.parametrize(
    "error",
    [TypeError("ours"), no_answer(httpx.LocalProtocolError("ours")), no_answer(httpx.UnsupportedProtocol("ours"))],
)
def test_our_own_bug_means_nothing(error: Exception) -> None:
    """What could not even be sent says nothing about the provider."""
    assert classify(error, None) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("-1", None),
        ("1.5", None),
        ("9999999", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_believed_in_whole_seconds_and_within_reason(value: str, seconds: float | None) -> None:
    """A date, a fraction or months are treated as if nothing had been said."""
    meaning = classify(stripe.APIError(), Answer(503, {"retry-after": value}))
    assert isinstance(meaning, ProviderError)
    assert meaning.retry_after_seconds == seconds
