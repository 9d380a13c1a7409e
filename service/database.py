"""The way to PostgreSQL: one engine per process, a limit on every wait, secrets encrypted on the way in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import asyncpg
from cryptography.fernet import Fernet, MultiFernet
from pydantic import SecretStr
from sqlalchemy import Dialect, Text, text
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.types import TypeDecorator

CONNECT_TIMEOUT_SECONDS = 3.0
# The client's limit is the longer one: normally the server says what took too long, and the connection stays usable.
STATEMENT_TIMEOUT_SECONDS = 4.0
COMMAND_TIMEOUT_SECONDS = 5.0
POOL_SIZE = 10
POOL_OVERFLOW = 10
POOL_TIMEOUT_SECONDS = 2.0

# The keys belong to an engine, not to the process, so that two applications in one process do not share them.
_CIPHERS: WeakKeyDictionary[Dialect, MultiFernet] = WeakKeyDictionary()

# Classes of SQLSTATE that say nothing about the statement: the connection, the login, too few resources, a deadlock, an
# operator or a time limit that ended it.
_AWAY_STATES = ("08", "28", "3D", "40", "53", "55", "57")


class DatabaseUnavailableError(Exception):
    """The database did not answer, or not in time; a transaction may or may not have been committed."""


class EncryptedText(TypeDecorator[str]):
    """Text that is encrypted at rest with the keys of the engine that carries it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Encrypt with the first key."""
        return None if value is None else _CIPHERS[dialect].encrypt(value.encode()).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Decrypt with whichever key it was encrypted with."""
        return None if value is None else _CIPHERS[dialect].decrypt(value).decode()


class Database:
    """One process's access to the database.

    Args:
        url: `postgresql+asyncpg://...`.
        encryption_keys: Fernet keys; the first encrypts.
        application_name: What `pg_stat_activity` shows.
    """

    def __init__(self, url: SecretStr, *, encryption_keys: Sequence[SecretStr], application_name: str) -> None:
        # No ping before use: a connection that died costs one request a 503, and every request is safe to repeat.
        self.engine = create_async_engine(
            url.get_secret_value(),
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=POOL_TIMEOUT_SECONDS,
            hide_parameters=True,  # an error's text must not carry what somebody pays
            connect_args=connect_args(application_name),
        )
        _CIPHERS[self.engine.dialect] = MultiFernet([Fernet(key.get_secret_value()) for key in encryption_keys])
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Run one transaction: committed at the end of the block, rolled back when it raises.

        Raises:
            DatabaseUnavailableError: The database did not answer.
        """
        try:
            async with self._sessions.begin() as session:
                yield session
        except (OSError, TimeoutError, PoolTimeoutError, InterfaceError, asyncpg.InterfaceError) as error:
            raise DatabaseUnavailableError from error
        except (DBAPIError, asyncpg.PostgresError) as error:
            if _is_away(error):
                raise DatabaseUnavailableError from error
            raise

    async def ping(self) -> None:
        """Ask the database for a sign of life.

        Raises:
            DatabaseUnavailableError: There was none.
        """
        async with self.transaction() as session:
            await session.execute(text("SELECT 1"))

    async def aclose(self) -> None:
        """Close the connections."""
        await self.engine.dispose()


def connect_args(application_name: str) -> dict[str, Any]:
    """Give asyncpg's arguments: the time limits of both sides."""
    statement_timeout_ms = str(round(STATEMENT_TIMEOUT_SECONDS * 1000))
    return {
        "timeout": CONNECT_TIMEOUT_SECONDS,
        "command_timeout": COMMAND_TIMEOUT_SECONDS,
        "server_settings": {
            "application_name": application_name,
            "statement_timeout": statement_timeout_ms,
            "idle_in_transaction_session_timeout": statement_timeout_ms,
        },
    }


def _is_away(error: DBAPIError | asyncpg.PostgresError) -> bool:
    # While a connection is made, the driver's errors come as they are; later they come wrapped.
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    state = getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlstate", None)
    return state is not None and state.startswith(_AWAY_STATES)
