"""${message}

The old code is still running while this migrates, and runs again after a rollback. So: only add. New columns are nullable
or have a default; nothing is renamed; nothing is dropped before no released code reads it. An index on a table with rows
is built CONCURRENTLY, a constraint is added NOT VALID and validated by a later migration.

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
