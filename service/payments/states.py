"""The states of intents and operations, and which changes of them make sense. Pure words and tables."""

from __future__ import annotations

from enum import StrEnum

from service.providers.base import ProviderStatus


class IntentStatus(StrEnum):
    """Where a payment stands for whoever pays it."""

    SUBMITTING = "submitting"  # written here; the provider's answer is not known yet
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    LOCKED = "locked"  # the money is held for the milestone
    RELEASED = "released"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    FAILED = "failed"
    VOIDED = "voided"
    EXPIRED = "expired"
    REVIEW = "review"  # something impossible was seen; no money moves until a person has looked


# An intent in one of these no longer occupies its milestone.
DEAD = (IntentStatus.FAILED, IntentStatus.VOIDED, IntentStatus.EXPIRED, IntentStatus.REFUNDED)


class OperationKind(StrEnum):
    """What an operation asks of the provider."""

    CREATE = "create"
    CAPTURE = "capture"
    CANCEL = "cancel"
    REFUND = "refund"


class OperationStatus(StrEnum):
    """What is known about one side effect at the provider."""

    IN_FLIGHT = "in_flight"  # somebody holds the lease and may be calling right now
    UNKNOWN = "unknown"  # it was called and may or may not have done it
    MANUAL_REVIEW = "manual_review"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    REJECTED = "rejected"  # proof that nothing happened


# At most one operation of an intent is in one of these.
UNRESOLVED = (OperationStatus.IN_FLIGHT, OperationStatus.UNKNOWN, OperationStatus.MANUAL_REVIEW)


class EventType(StrEnum):
    """What happened to an intent."""

    CREATED = "created"
    OPERATION_STARTED = "operation_started"
    OPERATION_SUCCEEDED = "operation_succeeded"
    OPERATION_DECLINED = "operation_declined"
    OPERATION_REJECTED = "operation_rejected"
    OPERATION_UNKNOWN = "operation_unknown"
    OPERATION_IN_REVIEW = "operation_in_review"
    REFRESHED = "refreshed"


class EventSource(StrEnum):
    """Who brought an event about."""

    API = "api"


_SEEN = {
    ProviderStatus.REQUIRES_ACTION: IntentStatus.REQUIRES_ACTION,
    ProviderStatus.PROCESSING: IntentStatus.PROCESSING,
    ProviderStatus.AUTHORIZED: IntentStatus.LOCKED,
    ProviderStatus.CAPTURED: IntentStatus.RELEASED,
    ProviderStatus.CANCELED: IntentStatus.VOIDED,
}
_BEFORE_THE_HOLD = frozenset(_SEEN.values())
_REACHABLE = {
    IntentStatus.SUBMITTING: _BEFORE_THE_HOLD,
    IntentStatus.REQUIRES_ACTION: _BEFORE_THE_HOLD,
    IntentStatus.PROCESSING: _BEFORE_THE_HOLD,
    IntentStatus.LOCKED: frozenset({IntentStatus.LOCKED, IntentStatus.RELEASED, IntentStatus.VOIDED}),
}


def can_be_refreshed(current: IntentStatus) -> bool:
    """Tell whether the provider may still have news about an intent that it knows."""
    return current is not IntentStatus.SUBMITTING and current in _REACHABLE


def after_provider_says(current: IntentStatus, said: ProviderStatus) -> IntentStatus:
    """Give the status of an intent once the provider has told its own.

    A final status stays as it is. What cannot follow from the current status puts the intent under review.
    """
    if current not in _REACHABLE:
        return current
    seen = _SEEN[said]
    return seen if seen in _REACHABLE[current] else IntentStatus.REVIEW
