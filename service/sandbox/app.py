"""The sandbox as an application: `uvicorn service.sandbox.app:create_app --factory`."""

from __future__ import annotations

from fastapi import FastAPI


def create_app() -> FastAPI:
    """Build the sandbox."""
    app = FastAPI(title="Switchgear provider sandbox", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/_sandbox")
    async def describe() -> dict[str, object]:
        return {"faults": [], "requests": {}}

    return app
