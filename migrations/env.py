"""How migrations run: over the service's own driver, one at a time, and never in the way of the running service."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from service.models import Base
from service.settings import load_database_settings

# A migration that cannot get its lock gives up before the requests queueing behind it do.
LOCK_TIMEOUT = "4s"
STATEMENT_TIMEOUT = "30s"
# Any number will do; whoever migrates the same database takes the same one.
ADVISORY_LOCK = 7_301_987_450_011


def migrate(connection: Connection) -> None:
    """Run the migrations, each in a transaction of its own."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transaction_per_migration=True,
        compare_server_default=True,
        autogenerate_plugins=["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"],
    )
    with context.begin_transaction():
        context.run_migrations()


async def connect_and_migrate() -> None:
    """Wait for other migrators, then migrate."""
    url = load_database_settings().database_url.get_secret_value()
    engine = create_async_engine(url, poolclass=pool.NullPool)
    try:
        async with engine.connect() as connection:
            # Waiting for another migrator has no limit here; whoever runs the job sets one.
            await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": ADVISORY_LOCK})
            await connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
            await connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
            # The lock and the settings belong to the session; the migrations bring their own transactions.
            await connection.commit()
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


def main() -> None:
    """Migrate the connection that a test hands in, or the database that the environment names."""
    given = context.config.attributes.get("connection")
    if given is not None:
        migrate(given)
    else:
        asyncio.run(connect_and_migrate())


main()
