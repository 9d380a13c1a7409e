"""Payment intents, the operations that create them at the provider, clients' keys, and the history.

The old code is still running while this migrates, and runs again after a rollback. So: only add. This is the first one,
so there is neither old code nor a row.

Revision ID: 0001
Revises:
Create Date: 2026-11-23
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INTENT_STATUSES = (
    "submitting",
    "requires_action",
    "processing",
    "locked",
    "released",
    "partially_refunded",
    "refunded",
    "failed",
    "voided",
    "expired",
    "review",
)


def words(name: str, *values: str) -> sa.Enum:
    """Text that a CHECK limits to some words."""
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=32)


def upgrade() -> None:
    op.create_table(
        "payment_intents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("public_id", sa.String(length=64), nullable=False),
        sa.Column("payer_id", sa.String(length=255), nullable=False),
        sa.Column("project_id", sa.String(length=128), nullable=False),
        sa.Column("milestone_id", sa.String(length=128), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("provider_intent_id", sa.Text(), nullable=True),
        sa.Column("status", words("status", *INTENT_STATUSES), nullable=False),
        sa.Column("amount_authorized", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("amount_captured", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("checkout_url", sa.Text(), nullable=True),
        sa.Column("client_secret", sa.Text(), nullable=True),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_payment_intents_currency_is_iso_4217")),
        sa.CheckConstraint(
            "0 <= amount_captured AND amount_captured <= amount_authorized AND amount_authorized <= amount",
            name=op.f("ck_payment_intents_amounts_are_in_order"),
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_payment_intents_amount_is_positive")),
        sa.PrimaryKeyConstraint("id", name="pk_payment_intents"),
        sa.UniqueConstraint("provider", "provider_intent_id", name="uq_payment_intents_provider_provider_intent_id"),
        sa.UniqueConstraint("public_id", name="uq_payment_intents_public_id"),
    )
    op.create_index(
        "ix_payment_intents_payer_id_created_at",
        "payment_intents",
        ["payer_id", sa.literal_column("created_at DESC")],
        unique=False,
    )
    op.create_index("ix_payment_intents_status_updated_at", "payment_intents", ["status", "updated_at"], unique=False)
    op.create_index(
        "uq_payment_intents_live_milestone",
        "payment_intents",
        ["project_id", "milestone_id"],
        unique=True,
        postgresql_where=sa.text("status NOT IN ('failed', 'voided', 'expired', 'refunded')"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("principal", sa.String(length=255), nullable=False),
        sa.Column("route", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("intent_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["intent_id"],
            ["payment_intents.id"],
            name="fk_idempotency_keys_intent_id",
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("principal", "route", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False)
    op.create_index("ix_idempotency_keys_intent_id", "idempotency_keys", ["intent_id"], unique=False)
    op.create_table(
        "psp_operations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("intent_id", sa.Uuid(), nullable=False),
        sa.Column("kind", words("kind", "create", "capture", "cancel", "refund"), nullable=False),
        sa.Column("seq", sa.SmallInteger(), nullable=False),
        sa.Column(
            "status",
            words("status", "in_flight", "unknown", "manual_review", "succeeded", "declined", "rejected"),
            nullable=False,
        ),
        sa.Column("request_params", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("first_sent_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_sent_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("intent_status", words("intent_status", *INTENT_STATUSES), nullable=True),
        sa.Column("failure_kind", sa.String(length=32), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("decline_code", sa.Text(), nullable=True),
        sa.Column("provider_request_id", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(status = 'in_flight') = (lease_token IS NOT NULL)",
            name=op.f("ck_psp_operations_only_in_flight_is_leased"),
        ),
        sa.CheckConstraint(
            "(lease_token IS NULL) = (lease_until IS NULL)", name=op.f("ck_psp_operations_lease_is_whole")
        ),
        sa.CheckConstraint("seq > 0", name=op.f("ck_psp_operations_seq_is_positive")),
        sa.ForeignKeyConstraint(["intent_id"], ["payment_intents.id"], name="fk_psp_operations_intent_id"),
        sa.PrimaryKeyConstraint("id", name="pk_psp_operations"),
        sa.UniqueConstraint("intent_id", "kind", "seq", name="uq_psp_operations_intent_id_kind_seq"),
    )
    op.create_index(
        "uq_psp_operations_unresolved_intent_id",
        "psp_operations",
        ["intent_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('in_flight', 'unknown', 'manual_review')"),
    )
    op.create_table(
        "intent_events",
        sa.Column("intent_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column(
            "type",
            words(
                "type",
                "created",
                "operation_started",
                "operation_succeeded",
                "operation_declined",
                "operation_rejected",
                "operation_unknown",
                "operation_in_review",
                "refreshed",
            ),
            nullable=False,
        ),
        sa.Column("from_status", words("from_status", *INTENT_STATUSES), nullable=True),
        sa.Column("to_status", words("to_status", *INTENT_STATUSES), nullable=False),
        sa.Column("operation_id", sa.Uuid(), nullable=True),
        sa.Column("source", words("source", "api"), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["intent_id"], ["payment_intents.id"], name="fk_intent_events_intent_id"),
        sa.ForeignKeyConstraint(["operation_id"], ["psp_operations.id"], name="fk_intent_events_operation_id"),
        sa.PrimaryKeyConstraint("intent_id", "seq", name="pk_intent_events"),
    )


def downgrade() -> None:
    op.drop_table("intent_events")
    op.drop_index(
        "uq_psp_operations_unresolved_intent_id",
        table_name="psp_operations",
        postgresql_where=sa.text("status IN ('in_flight', 'unknown', 'manual_review')"),
    )
    op.drop_table("psp_operations")
    op.drop_index("ix_idempotency_keys_intent_id", table_name="idempotency_keys")
    op.drop_index("ix_idempotency_keys_created_at", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index(
        "uq_payment_intents_live_milestone",
        table_name="payment_intents",
        postgresql_where=sa.text("status NOT IN ('failed', 'voided', 'expired', 'refunded')"),
    )
    op.drop_index("ix_payment_intents_status_updated_at", table_name="payment_intents")
    op.drop_index("ix_payment_intents_payer_id_created_at", table_name="payment_intents")
    op.drop_table("payment_intents")
