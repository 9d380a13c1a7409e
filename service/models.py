"""The tables: what the service remembers about payments. Every invariant that the database can hold, it holds."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Enum,
    ForeignKey,
    Index,
    MetaData,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from service.database import EncryptedText
from service.payments.states import (
    DEAD,
    UNRESOLVED,
    EventSource,
    EventType,
    IntentStatus,
    OperationKind,
    OperationStatus,
)


def _words(words: type[StrEnum], name: str) -> Enum:
    """Store an enumeration as text with a CHECK: unlike a type of PostgreSQL's, it can be widened in one step."""
    return Enum(
        words,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=32,
        values_callable=lambda values: [value.value for value in values],
    )


def _listed(words: tuple[StrEnum, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)


class Base(DeclarativeBase):
    """What all tables share."""

    # Named constraints can be found in an error and changed by a migration.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own name, read once
        datetime: DateTime(timezone=True),
        int: BigInteger,
        dict[str, Any]: JSONB,
        str: Text,
        IntentStatus: _words(IntentStatus, "status"),
    }


class PaymentIntent(Base):
    """A payer's intent to pay for a milestone, and where the money stands."""

    __tablename__ = "payment_intents"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_is_positive"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_is_iso_4217"),
        CheckConstraint(
            "0 <= amount_captured AND amount_captured <= amount_authorized AND amount_authorized <= amount",
            name="amounts_are_in_order",
        ),
        UniqueConstraint("provider", "provider_intent_id"),
        # Two tabs, one escrow: only one live intent per milestone.
        Index(
            "uq_payment_intents_live_milestone",
            "project_id",
            "milestone_id",
            unique=True,
            postgresql_where=text(f"status NOT IN ({_listed(DEAD)})"),
        ),
        Index("ix_payment_intents_payer_id_created_at", "payer_id", text("created_at DESC")),
        Index(None, "status", "updated_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(64), unique=True)
    payer_id: Mapped[str] = mapped_column(String(255))
    project_id: Mapped[str] = mapped_column(String(128))
    milestone_id: Mapped[str] = mapped_column(String(128))
    amount: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    provider: Mapped[str] = mapped_column(String(32))
    provider_intent_id: Mapped[str | None]
    status: Mapped[IntentStatus]
    amount_authorized: Mapped[int] = mapped_column(server_default=text("0"))
    amount_captured: Mapped[int] = mapped_column(server_default=text("0"))
    checkout_url: Mapped[str | None]
    client_secret: Mapped[str | None] = mapped_column(EncryptedText)
    failure_code: Mapped[str | None]
    # Grows by one with every event; the event carries the same number.
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PspOperation(Base):
    """One side effect at the provider, written before it is asked for. Its id is the provider's idempotency key."""

    __tablename__ = "psp_operations"
    __table_args__ = (
        CheckConstraint("seq > 0", name="seq_is_positive"),
        CheckConstraint("(status = 'in_flight') = (lease_token IS NOT NULL)", name="only_in_flight_is_leased"),
        CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="lease_is_whole"),
        UniqueConstraint("intent_id", "kind", "seq"),
        Index(
            "uq_psp_operations_unresolved_intent_id",
            "intent_id",
            unique=True,
            postgresql_where=text(f"status IN ({_listed(UNRESOLVED)})"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    intent_id: Mapped[UUID] = mapped_column(ForeignKey("payment_intents.id"))
    kind: Mapped[OperationKind] = mapped_column(_words(OperationKind, "kind"))
    seq: Mapped[int] = mapped_column(SmallInteger)
    status: Mapped[OperationStatus] = mapped_column(_words(OperationStatus, "status"))
    # Exactly what is sent: a repeat with the same key must not differ by a byte.
    request_params: Mapped[dict[str, Any]]
    lease_token: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    first_sent_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_sent_at: Mapped[datetime] = mapped_column(server_default=func.now())
    resolved_at: Mapped[datetime | None]
    # What the intent became by it: a repeat of the request is answered with this, whatever happened since.
    intent_status: Mapped[IntentStatus | None] = mapped_column(_words(IntentStatus, "intent_status"))
    failure_kind: Mapped[str | None] = mapped_column(String(32))
    error_code: Mapped[str | None]
    decline_code: Mapped[str | None]
    provider_request_id: Mapped[str | None]


class IdempotencyKey(Base):
    """A client's key, and the intent that it stands for."""

    __tablename__ = "idempotency_keys"

    principal: Mapped[str] = mapped_column(String(255), primary_key=True)
    route: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    # Checked at commit: the key is claimed first, so that its repeats queue up behind it and write nothing.
    intent_id: Mapped[UUID] = mapped_column(
        ForeignKey("payment_intents.id", deferrable=True, initially="DEFERRED"), index=True
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class IntentEvent(Base):
    """One thing that happened to an intent; only ever added."""

    __tablename__ = "intent_events"

    intent_id: Mapped[UUID] = mapped_column(ForeignKey("payment_intents.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[EventType] = mapped_column(_words(EventType, "type"))
    from_status: Mapped[IntentStatus | None] = mapped_column(_words(IntentStatus, "from_status"))
    to_status: Mapped[IntentStatus] = mapped_column(_words(IntentStatus, "to_status"))
    operation_id: Mapped[UUID | None] = mapped_column(ForeignKey("psp_operations.id"))
    source: Mapped[EventSource] = mapped_column(_words(EventSource, "source"))
    actor: Mapped[str] = mapped_column(String(255))
    at: Mapped[datetime] = mapped_column(server_default=func.now())
