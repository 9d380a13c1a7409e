"""The history of an intent: whoever changes its status writes the event in the same transaction."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from service.models import IntentEvent, PaymentIntent
from service.payments.states import EventSource, EventType, IntentStatus


async def append_event(
    session: AsyncSession,
    intent: PaymentIntent,
    event: EventType,
    *,
    before: IntentStatus | None,
    operation_id: UUID | None = None,
) -> None:
    """Write what has just brought an intent into its present version."""
    await session.execute(
        insert(IntentEvent).values(
            intent_id=intent.id,
            seq=intent.version,
            type=event,
            from_status=before,
            to_status=intent.status,
            operation_id=operation_id,
            source=EventSource.API,
            actor=intent.payer_id,
        )
    )
