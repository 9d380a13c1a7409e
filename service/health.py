"""Whether this process lives, and whether it can do its work."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request

from breaker import Store, StoreUnavailableError
from service.database import Database, DatabaseUnavailableError
from service.errors import UnavailableError

# Shorter than the patience of whoever probes; a database that needs longer is no use to a request either.
DATABASE_TIMEOUT_SECONDS = 1.0

router = APIRouter(tags=["operations"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Say that the process answers; asks nothing of others, so that no outage elsewhere restarts it."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(request: Request) -> dict[str, str]:
    """Say whether requests may be sent here: the database must answer, Redis need not."""
    database: Database = request.state.database
    store: Store = request.state.store
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_SECONDS):
            await database.ping()
    except (DatabaseUnavailableError, TimeoutError) as error:
        raise UnavailableError("The database does not answer.", database="away") from error
    try:
        await store.names()
    except StoreUnavailableError:
        return {"status": "ready", "database": "ok", "redis": "degraded"}
    return {"status": "ready", "database": "ok", "redis": "ok"}
