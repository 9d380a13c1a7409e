"""What the provider's answer makes of an operation, of its intent and of the client's request. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import InternalError, ServiceError
from service.payments.errors import (
    AmountRefusedError,
    CardDeclinedError,
    OverloadedError,
    PaymentRetryError,
    PspBadResponseError,
    PspMisconfiguredError,
    ServiceUnavailableError,
)
from service.payments.states import IntentStatus, OperationStatus, after_provider_says
from service.providers.base import (
    CallRefusedError,
    CreateIntent,
    Declined,
    Executed,
    FailureKind,
    ProviderError,
    ProviderIntent,
)

Answer = ProviderIntent | Declined | ProviderError | CallRefusedError

# What the payer can mend; any other refusal of a request that we validated is our own mistake.
AMOUNT_CODES = frozenset({"amount_too_small", "amount_too_large"})
# What to wait before a repeat when the provider named no time.
RETRY_AFTER_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What becomes of an operation.

    Attributes:
        operation: Its status from now on.
        intent: The intent's status from now on.
        error: What the client is told; None when it gets the intent.
        seen: The intent as the provider described it, if it did.
        failure_kind: Why there is no definite answer.
        error_code: The provider's code for it.
        decline_code: Why the instrument was declined.
        provider_request_id: The provider's name for the request.
    """

    operation: OperationStatus
    intent: IntentStatus
    error: ServiceError | None = None
    seen: ProviderIntent | None = None
    failure_kind: str | None = None
    error_code: str | None = None
    decline_code: str | None = None
    provider_request_id: str | None = None


def settle(answer: Answer, request: CreateIntent, *, resent: bool) -> Settlement:
    """Tell what an answer means.

    Args:
        answer: What came of the call.
        request: What was asked for.
        resent: Whether the same operation was sent before, without a known end. "Not executed" then speaks only for
            the last time, and the operation stays unknown.
    """
    match answer:
        case ProviderIntent():
            return _seen(answer, request)
        case Declined():
            return Settlement(
                operation=OperationStatus.DECLINED,
                intent=IntentStatus.FAILED,
                error=declined(answer.code, answer.decline_code),
                error_code=answer.code,
                decline_code=answer.decline_code,
                provider_request_id=answer.provider_request_id,
            )
        case CallRefusedError():
            return Settlement(
                operation=OperationStatus.UNKNOWN if resent else OperationStatus.REJECTED,
                intent=IntentStatus.SUBMITTING,
                error=refused(answer),
                failure_kind="circuit_open",
            )
        case ProviderError():
            return _failed(answer, resent=resent)


def refused(refusal: CallRefusedError) -> ServiceError:
    """Say that the provider was not called."""
    return ServiceUnavailableError(retry_after_seconds=refusal.retry_after_seconds)


def declined(code: str | None, decline_code: str | None) -> ServiceError:
    """Say that the payer's instrument was refused, and as much about why as the provider tells payers."""
    return CardDeclinedError(reason=decline_code or code)


def amount_refused(code: str | None) -> ServiceError:
    """Say that the provider does not take the amount."""
    return AmountRefusedError(code or "amount_refused")


def failure(error: ProviderError, executed: Executed) -> ServiceError:
    """Say what a failed call means for the client, given what is known about the whole operation."""
    match error.kind:
        case FailureKind.BAD_RESPONSE:
            return PspBadResponseError(outcome=executed.value)
        case FailureKind.CREDENTIALS_REFUSED:
            return PspMisconfiguredError(outcome=executed.value)
        case FailureKind.OVERLOADED:
            return OverloadedError(retry_after_seconds=RETRY_AFTER_SECONDS)
        case FailureKind.REQUEST_REFUSED if error.code in AMOUNT_CODES:
            return amount_refused(error.code)
        case FailureKind.REQUEST_REFUSED | FailureKind.KEY_REUSED:
            return InternalError()
        case _:
            wait_seconds = error.retry_after_seconds or RETRY_AFTER_SECONDS
            return PaymentRetryError(retry_after_seconds=wait_seconds, outcome=executed.value)


def not_found_out(error: ProviderError | CallRefusedError) -> Settlement:
    """Tell what it means that the provider could not be asked what became of an operation: nothing new."""
    said = refused(error) if isinstance(error, CallRefusedError) else failure(error, Executed.UNKNOWN)
    return Settlement(operation=OperationStatus.UNKNOWN, intent=IntentStatus.SUBMITTING, error=said)


def never_arrived() -> Settlement:
    """Tell what it means that the provider has nothing for an operation, long after it was sent."""
    return Settlement(operation=OperationStatus.REJECTED, intent=IntentStatus.SUBMITTING, failure_kind="never_arrived")


def _seen(seen: ProviderIntent, request: CreateIntent) -> Settlement:
    if (seen.amount, seen.currency) != (request.amount, request.currency):
        # It carries our operation's id and another amount: no program may decide what to do with that money.
        return Settlement(
            operation=OperationStatus.MANUAL_REVIEW,
            intent=IntentStatus.REVIEW,
            error=InternalError(),
            error_code="amount_mismatch",
            provider_request_id=seen.provider_request_id,
        )
    return Settlement(
        operation=OperationStatus.SUCCEEDED,
        intent=after_provider_says(IntentStatus.SUBMITTING, seen.status),
        seen=seen,
        provider_request_id=seen.provider_request_id,
    )


def _failed(error: ProviderError, *, resent: bool) -> Settlement:
    executed = Executed.UNKNOWN if resent else error.executed
    operation = OperationStatus.REJECTED if executed is Executed.NO else OperationStatus.UNKNOWN
    intent = IntentStatus.SUBMITTING
    if error.kind is FailureKind.KEY_REUSED:
        operation, intent = OperationStatus.MANUAL_REVIEW, IntentStatus.REVIEW
    elif error.kind is FailureKind.REQUEST_REFUSED:
        # Holds for a repeat too: had the provider carried out the same request before, it would have said so again.
        operation = OperationStatus.REJECTED
        if error.code in AMOUNT_CODES:
            intent = IntentStatus.FAILED
    return Settlement(
        operation=operation,
        intent=intent,
        error=failure(error, executed),
        failure_kind=error.kind,
        error_code=error.code,
        provider_request_id=error.provider_request_id,
    )
