"""The right to call the provider: given to one at a time, and only until it lapses.

Leases are measured by the database's clock alone: replicas need not agree on the time. Every function runs inside the
caller's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import and_, func, or_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from service.ids import uuid7
from service.models import PaymentIntent, PspOperation
from service.payments.attempts import Attempt
from service.payments.states import OperationKind, OperationStatus
from service.providers.base import CreateIntent

# Longer than a request may still be on its way after it was sent: the deadline of a call is at most 30 s. Only after
# that does "the provider has no such intent" prove that none will appear.
SETTLE_AFTER = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to call the provider for one operation; whoever takes the next one makes this one worthless.

    Attributes:
        first_sent_at: When the operation was sent first.
        resent: Whether this is a repeat of an operation whose end is not known.
        settled: Whether it was last sent so long ago that the provider either has it or never will.
    """

    intent_id: UUID
    payer_id: str
    operation_id: UUID
    token: UUID
    request: CreateIntent
    first_sent_at: datetime
    resent: bool
    settled: bool


async def begin_operation(
    session: AsyncSession, intent: PaymentIntent, seq: int, params: dict[str, Any], lease_for: timedelta
) -> Lease | None:
    """Write an operation and lease it at once.

    Returns:
        The lease, or None when the intent has an operation with this number, or one whose end is not known.
    """
    operation_id, token = uuid7(), uuid4()
    sent_at = await session.scalar(
        insert(PspOperation)
        .values(
            id=operation_id,
            intent_id=intent.id,
            kind=OperationKind.CREATE,
            seq=seq,
            status=OperationStatus.IN_FLIGHT,
            request_params=params,
            lease_token=token,
            lease_until=func.now() + lease_for,
        )
        .on_conflict_do_nothing()
        .returning(PspOperation.first_sent_at)
    )
    if sent_at is None:
        return None
    return Lease(
        intent_id=intent.id,
        payer_id=intent.payer_id,
        operation_id=operation_id,
        token=token,
        request=CreateIntent(operation_id=str(operation_id), **params),
        first_sent_at=sent_at,
        resent=False,
        settled=False,
    )


async def take_lease(session: AsyncSession, attempt: Attempt, lease_for: timedelta) -> Lease | None:
    """Take over an operation whose end is not known: only one of many gets it.

    Returns:
        The lease, or None when somebody else was faster.
    """
    token = uuid4()
    taking = (
        update(PspOperation)
        .where(
            PspOperation.id == attempt.operation.id,
            or_(
                PspOperation.status == OperationStatus.UNKNOWN,
                and_(PspOperation.status == OperationStatus.IN_FLIGHT, PspOperation.lease_until < func.now()),
            ),
        )
        .values(
            status=OperationStatus.IN_FLIGHT,
            lease_token=token,
            lease_until=func.now() + lease_for,
            attempts=PspOperation.attempts + 1,
        )
        # Told by the same statement that takes the lease: read before, it could be about an earlier send.
        .returning(PspOperation.id, (PspOperation.last_sent_at < func.now() - SETTLE_AFTER).label("settled"))
    )
    taken = (await session.execute(taking)).first()
    if taken is None:
        return None
    return Lease(
        intent_id=attempt.intent.id,
        payer_id=attempt.intent.payer_id,
        operation_id=taken.id,
        token=token,
        request=CreateIntent(operation_id=str(taken.id), **attempt.operation.request_params),
        first_sent_at=attempt.operation.first_sent_at,
        resent=True,
        settled=taken.settled,
    )


async def mark_sent(session: AsyncSession, lease: Lease, lease_for: timedelta) -> bool:
    """Note that an operation is about to be sent again; False when the lease was lost."""
    marked = (
        update(PspOperation)
        .where(PspOperation.id == lease.operation_id, PspOperation.lease_token == lease.token)
        .values(last_sent_at=func.now(), lease_until=func.now() + lease_for)
        .returning(PspOperation.id)
    )
    return await session.scalar(marked) is not None
