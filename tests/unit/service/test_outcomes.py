"""The table that decides about money: what each answer makes of the operation, the intent and the request."""

from __future__ import annotations

import pytest

from service.payments.outcomes import Answer, never_arrived, not_found_out, settle
from service.payments.states import IntentStatus, OperationStatus
from service.providers.base import (
    CallRefusedError,
    CreateIntent,
    Declined,
    Executed,
    FailureKind,
    Health,
    ProviderError,
    ProviderIntent,
    ProviderStatus,
)

REQUEST = CreateIntent(
    operation_id="op", intent_id="payint_1", amount=500, currency="EUR", return_url="https://shop.example/"
)
MADE = ProviderIntent(provider_intent_id="pi_1", status=ProviderStatus.AUTHORIZED, amount=500, currency="EUR")
NO, UNKNOWN = Executed.NO, Executed.UNKNOWN


def failed(kind: FailureKind, executed: Executed = UNKNOWN, code: str | None = None) -> ProviderError:
    """Make a failed call's error."""
    return ProviderError(kind, executed=executed, health=Health.SICK, code=code)


# answer, then the operation's status when sent first and when sent again, the intent's status, the client's status
TABLE: list[tuple[Answer, str, str, str, int | None]] = [
    (MADE, "succeeded", "succeeded", "locked", None),
    (Declined(code="card_declined"), "declined", "declined", "failed", 402),
    (CallRefusedError("c", 1), "rejected", "unknown", "submitting", 503),
    (failed(FailureKind.UNREACHABLE, NO), "rejected", "unknown", "submitting", 424),
    (failed(FailureKind.TIMED_OUT), "unknown", "unknown", "submitting", 424),
    (failed(FailureKind.CONNECTION_LOST), "unknown", "unknown", "submitting", 424),
    (failed(FailureKind.SERVER_ERROR), "unknown", "unknown", "submitting", 424),
    (failed(FailureKind.REPLAYED_ERROR), "unknown", "unknown", "submitting", 424),
    (failed(FailureKind.RATE_LIMITED, NO), "rejected", "unknown", "submitting", 424),
    (failed(FailureKind.BAD_RESPONSE), "unknown", "unknown", "submitting", 502),
    (failed(FailureKind.BAD_RESPONSE, NO), "rejected", "unknown", "submitting", 502),
    (failed(FailureKind.KEY_IN_USE), "unknown", "unknown", "submitting", 424),
    (failed(FailureKind.KEY_REUSED), "manual_review", "manual_review", "review", 500),
    (failed(FailureKind.CREDENTIALS_REFUSED, NO), "rejected", "unknown", "submitting", 502),
    (failed(FailureKind.REQUEST_REFUSED, NO, "amount_too_small"), "rejected", "rejected", "failed", 422),
    (failed(FailureKind.REQUEST_REFUSED, NO, "amount_too_large"), "rejected", "rejected", "failed", 422),
    (failed(FailureKind.REQUEST_REFUSED, NO, "parameter_unknown"), "rejected", "rejected", "submitting", 500),
    (failed(FailureKind.OVERLOADED, NO), "rejected", "unknown", "submitting", 503),
]


@pytest.mark.parametrize(
    ("answer", "first", "again", "intent", "status"), TABLE, ids=[str(row[0])[:60] for row in TABLE]
)
def test_each_answer_has_one_meaning(answer: Answer, first: str, again: str, intent: str, status: int | None) -> None:
    """A definite yes, a definite no and an unknown end are never taken for each other."""
    for resent, operation in ((False, first), (True, again)):
        settlement = settle(answer, REQUEST, resent=resent)
        assert (settlement.operation.value, settlement.intent.value) == (operation, intent)
        assert (settlement.error.status_code if settlement.error else None) == status


def test_the_table_is_complete() -> None:
    """A new kind of failure must be given a meaning."""
    assert {row[0].kind for row in TABLE if isinstance(row[0], ProviderError)} == set(FailureKind)


@pytest.mark.parametrize("kind", FailureKind)
def test_unknown_end_is_never_told_as_not_executed(kind: FailureKind) -> None:
    """Whatever a repeat says, a payer is not told that nothing happened while the first send is open."""
    error = settle(failed(kind, NO), REQUEST, resent=True).error
    assert error is not None
    assert error.members.get("outcome") in {None, "unknown"}


@pytest.mark.parametrize("change", [{"amount": 501}, {"currency": "USD"}])
def test_intent_of_another_amount_is_not_ours_to_judge(change: dict[str, object]) -> None:
    """An intent under our operation's name with another amount goes to a person."""
    facts = {"provider_intent_id": "pi", "status": ProviderStatus.AUTHORIZED, "amount": 500, "currency": "EUR"}
    settlement = settle(ProviderIntent(**(facts | change)), REQUEST, resent=False)  # type: ignore[arg-type]
    assert settlement.operation is OperationStatus.MANUAL_REVIEW
    assert settlement.intent is IntentStatus.REVIEW


@pytest.mark.parametrize("error", [failed(FailureKind.UNREACHABLE, NO), CallRefusedError("c", 1)])
def test_search_that_failed_leaves_the_end_unknown(error: ProviderError | CallRefusedError) -> None:
    """Not being able to ask is no answer."""
    assert not_found_out(error).operation is OperationStatus.UNKNOWN


def test_what_never_arrived_is_rejected_and_may_be_tried_again() -> None:
    """The intent waits for its next operation."""
    assert (never_arrived().operation, never_arrived().intent) == (OperationStatus.REJECTED, IntentStatus.SUBMITTING)
