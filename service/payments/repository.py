"""What is asked of the database about intents. Every function runs inside the caller's transaction."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from service.ids import public_intent_id, uuid7
from service.models import IdempotencyKey, PaymentIntent, PspOperation
from service.payments.attempts import Attempt, NewIntent
from service.payments.events import append_event
from service.payments.idempotency import KeyClaim
from service.payments.leases import Lease, begin_operation
from service.payments.outcomes import Settlement
from service.payments.states import EventType, IntentStatus, OperationStatus

_EVENTS = {
    OperationStatus.SUCCEEDED: EventType.OPERATION_SUCCEEDED,
    OperationStatus.DECLINED: EventType.OPERATION_DECLINED,
    OperationStatus.REJECTED: EventType.OPERATION_REJECTED,
    OperationStatus.UNKNOWN: EventType.OPERATION_UNKNOWN,
    OperationStatus.MANUAL_REVIEW: EventType.OPERATION_IN_REVIEW,
}


async def claim(
    session: AsyncSession, new: NewIntent, key: KeyClaim | None, *, provider: str, lease_for: timedelta
) -> Lease | None:
    """Write all that must be known before the provider is called, and lease the right to call it.

    Nothing lies between writing the operation and leasing it, so it is written in flight. Four statements, three
    without a key. Waits for whoever is claiming the same key or milestone.

    Returns:
        The lease, or None when the key or the milestone is taken; the transaction must then be rolled back.
    """
    intent_id = uuid7()
    if key is not None:
        claimed = insert(IdempotencyKey).values(
            principal=key.principal, route=key.route, key=key.key, fingerprint=key.fingerprint, intent_id=intent_id
        )
        if await session.scalar(claimed.on_conflict_do_nothing().returning(IdempotencyKey.intent_id)) is None:
            return None
    public_id = public_intent_id(intent_id)
    begun = insert(PaymentIntent).values(
        id=intent_id,
        public_id=public_id,
        payer_id=new.payer_id,
        project_id=new.project_id,
        milestone_id=new.milestone_id,
        amount=new.amount,
        currency=new.currency,
        provider=provider,
        status=IntentStatus.SUBMITTING,
    )
    intent = await session.scalar(begun.on_conflict_do_nothing().returning(PaymentIntent))
    if intent is None:
        return None
    params = {
        "intent_id": public_id,
        "amount": new.amount,
        "currency": new.currency,
        "return_url": new.return_url,
    }
    lease = await begin_operation(session, intent, 1, params, lease_for)
    await append_event(session, intent, EventType.CREATED, before=None)
    return lease


async def find_own(session: AsyncSession, payer_id: str, public_id: str) -> PaymentIntent | None:
    """Read an intent, if it is this payer's."""
    return await session.scalar(
        select(PaymentIntent).where(PaymentIntent.public_id == public_id, PaymentIntent.payer_id == payer_id)
    )


async def start_next(session: AsyncSession, attempt: Attempt, lease_for: timedelta) -> Lease | None:
    """Begin the operation that follows a rejected one, with a key that the provider has not seen.

    Returns:
        Its lease, or None when somebody else was faster.
    """
    before = attempt.operation
    lease = await begin_operation(session, attempt.intent, before.seq + 1, before.request_params, lease_for)
    if lease is not None:
        await _advance(session, lease, EventType.OPERATION_STARTED, IntentStatus.SUBMITTING)
    return lease


async def settle(session: AsyncSession, lease: Lease, settlement: Settlement) -> PaymentIntent | None:
    """Store what became of an operation: three statements.

    Returns:
        The intent as it is now, or None when the lease was lost and somebody else settles it.
    """
    settled = await session.scalar(
        update(PspOperation)
        .where(PspOperation.id == lease.operation_id, PspOperation.lease_token == lease.token)
        .values(
            status=settlement.operation,
            lease_token=None,
            lease_until=None,
            resolved_at=None if settlement.operation is OperationStatus.UNKNOWN else func.now(),
            intent_status=settlement.intent,
            failure_kind=settlement.failure_kind,
            error_code=settlement.error_code,
            decline_code=settlement.decline_code,
            provider_request_id=settlement.provider_request_id,
        )
        .returning(PspOperation.id)
    )
    if settled is None:
        return None
    values: dict[str, Any] = {}
    if settlement.seen is not None:
        values = {
            "amount_authorized": settlement.seen.amount_authorized,
            "amount_captured": settlement.seen.amount_captured,
            "provider_intent_id": settlement.seen.provider_intent_id,
            "client_secret": settlement.seen.client_secret,
            "checkout_url": settlement.seen.checkout_url,
        }
    if settlement.intent is IntentStatus.FAILED:
        values["failure_code"] = settlement.decline_code or settlement.error_code
    return await _advance(session, lease, _EVENTS[settlement.operation], settlement.intent, **values)


async def refresh(
    session: AsyncSession, intent: PaymentIntent, status: IntentStatus, held: tuple[int, int]
) -> PaymentIntent | None:
    """Store what the provider says about an intent, unless it has changed since it was read.

    Args:
        session: The transaction.
        intent: The intent as it was read.
        status: What it becomes.
        held: How much is authorized, and how much of it is captured.

    Returns:
        The intent as it is now, or None when it had changed.
    """
    changed = await session.scalar(
        update(PaymentIntent)
        .where(PaymentIntent.id == intent.id, PaymentIntent.version == intent.version)
        .values(
            status=status,
            amount_authorized=held[0],
            amount_captured=held[1],
            version=intent.version + 1,
            updated_at=func.now(),
        )
        .returning(PaymentIntent)
        .execution_options(populate_existing=True)
    )
    if changed is not None:
        await append_event(session, changed, EventType.REFRESHED, before=intent.status)
    return changed


async def _advance(
    session: AsyncSession, lease: Lease, event: EventType, to_status: IntentStatus, **values: Any
) -> PaymentIntent:
    """Move an intent that is being submitted, and write the event that says so."""
    intent = await session.scalar(
        update(PaymentIntent)
        .where(PaymentIntent.id == lease.intent_id, PaymentIntent.status == IntentStatus.SUBMITTING)
        .values(status=to_status, version=PaymentIntent.version + 1, updated_at=func.now(), **values)
        .returning(PaymentIntent)
        .execution_options(populate_existing=True)
    )
    if intent is None:
        # The lease is held, so nobody else may have moved it.
        raise AssertionError("an intent with an operation in flight has left its state")
    await append_event(session, intent, event, before=IntentStatus.SUBMITTING, operation_id=lease.operation_id)
    return intent
