"""The sandbox as an application: `uvicorn service.sandbox.app:create_app --factory`, one process, one worker.

It speaks the part of Stripe's protocol that the service uses, well enough for the official SDK, and fails on demand.
With `SANDBOX_DATABASE` naming a file, intents, idempotency keys and effects survive a restart; faults and counts never
do. A request that hangs ends when its caller goes, so start it with `--timeout-graceful-shutdown` to be able to stop.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service.sandbox.api import ENDPOINTS, Api
from service.sandbox.control import control_router
from service.sandbox.edge import TransportAwareApp
from service.sandbox.faults import FaultBoard
from service.sandbox.intents import PaymentIntents
from service.sandbox.pages import pages_router
from service.sandbox.store import Store


def create_app() -> FastAPI:
    """Build the sandbox."""
    store = Store(os.environ.get("SANDBOX_DATABASE") or ":memory:")
    faults = FaultBoard(ENDPOINTS)
    api = Api(store, faults)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()

    app = TransportAwareApp(
        title="Switchgear provider sandbox",
        lifespan=lifespan,
        openapi_url=None,
        routes=[*api.routes()],
    )
    app.include_router(control_router(store, faults, api.start_over))
    app.include_router(pages_router(store, PaymentIntents(store)))
    return app
