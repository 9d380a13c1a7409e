"""Attempts to create an intent at the provider, and finding the one that a request is about.

Every function runs inside the caller's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.models import IdempotencyKey, PaymentIntent, PspOperation
from service.payments.errors import IdempotencyKeyReusedError
from service.payments.idempotency import KeyClaim
from service.payments.states import DEAD, OperationKind


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIntent:
    """What a payer asks for."""

    payer_id: str
    project_id: str
    milestone_id: str
    amount: int
    currency: str
    return_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An intent, with its latest attempt to create it at the provider.

    Attributes:
        fingerprint: Of the body that the client's key stands for; None when it was not found by a key.
    """

    intent: PaymentIntent
    operation: PspOperation
    fingerprint: str | None = None

    def check(self, key: KeyClaim) -> None:
        """Refuse a key that stands for another body.

        Raises:
            IdempotencyKeyReusedError: It does.
        """
        if self.fingerprint != key.fingerprint:
            raise IdempotencyKeyReusedError

    def asks_for(self, new: NewIntent) -> bool:
        """Tell whether it was begun by the same payer with the same wish."""
        sent = self.operation.request_params
        return (self.intent.payer_id, sent["amount"], sent["currency"], sent["return_url"]) == (
            new.payer_id,
            new.amount,
            new.currency,
            new.return_url,
        )


async def find_by_key(session: AsyncSession, key: KeyClaim) -> Attempt | None:
    """Look for what a key stands for."""
    query = (
        _attempts()
        .add_columns(IdempotencyKey.fingerprint)
        .join(IdempotencyKey, IdempotencyKey.intent_id == PaymentIntent.id)
        .where(
            IdempotencyKey.principal == key.principal,
            IdempotencyKey.route == key.route,
            IdempotencyKey.key == key.key,
        )
    )
    return _attempt((await session.execute(query)).first())


async def find_live(session: AsyncSession, new: NewIntent) -> Attempt | None:
    """Look for the live intent of a milestone."""
    query = _attempts().where(
        PaymentIntent.project_id == new.project_id,
        PaymentIntent.milestone_id == new.milestone_id,
        PaymentIntent.status.not_in(DEAD),
    )
    return _attempt((await session.execute(query)).first())


async def find_attempt(session: AsyncSession, intent_id: UUID) -> Attempt | None:
    """Read an intent again, with its latest attempt."""
    return _attempt((await session.execute(_attempts().where(PaymentIntent.id == intent_id))).first())


def _attempts() -> Select[*tuple[Any, ...]]:
    return (
        select(PaymentIntent, PspOperation)
        .join(PspOperation, PspOperation.intent_id == PaymentIntent.id)
        .where(PspOperation.kind == OperationKind.CREATE)
        .order_by(PspOperation.seq.desc())
        .limit(1)
    )


def _attempt(row: Row[*tuple[Any, ...]] | None) -> Attempt | None:
    if row is None:
        return None
    intent, operation, *rest = row
    return Attempt(intent=intent, operation=operation, fingerprint=rest[0] if rest else None)
