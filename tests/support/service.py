"""The service in the test's own process, with everything real behind it but the provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from service.app import create_app
from service.auth import mint_token
from service.database import Database
from service.providers.base import Provider
from service.settings import Settings

JWT_SECRET = "a secret that only tests know, long enough"
ENCRYPTION_KEY = "dGVzdHMgb25seTogdGhpcnR5LXR3byBieXRlcyBvayE="
SCOPES = ("payments:write", "payments:read", "admin:breakers")
# Nothing listens there: each replica guards by itself.
NO_REDIS = "redis://127.0.0.1:1"


def settings_for(database_url: str, redis_url: str = NO_REDIS, **changes: Any) -> Settings:
    """Give settings for one test."""
    values: dict[str, Any] = {
        "database_url": database_url,
        "redis_url": redis_url,
        "replica_id": "test-1",
        "stripe_api_key": "sk_test_planted",
        "jwt_secret": JWT_SECRET,
        "encryption_keys": ENCRYPTION_KEY,
        "provider_attempts": 1,
    }
    return Settings(**{**values, **changes})


def open_database(url: str, *keys: str, name: str = "tests") -> Database:
    """Open a database as the service does; the name is what `pg_stat_activity` shows."""
    driver = url.replace("postgresql://", "postgresql+asyncpg://")
    secrets = [SecretStr(key) for key in keys or (ENCRYPTION_KEY,)]
    return Database(SecretStr(driver), encryption_keys=secrets, application_name=name)


def body(**changes: Any) -> dict[str, Any]:
    """Give a valid request to create an intent."""
    wish = {
        "projectId": "proj_1",
        "milestoneId": "ms_1",
        "amount": 12_500,
        "currency": "EUR",
        "returnUrl": "https://shop.example/return?order=1",
    }
    return {**wish, **changes}


def bearer(subject: str = "payer_1", scopes: tuple[str, ...] = SCOPES) -> dict[str, str]:
    """Give the header of somebody who may do everything."""
    return {"Authorization": f"Bearer {mint_token(JWT_SECRET, subject, scopes)}"}


@asynccontextmanager
async def serving(
    settings: Settings, provider: Provider | None = None
) -> AsyncIterator[tuple[httpx.AsyncClient, Mapping[str, Any]]]:
    """Start the application and give a client of a payer, and what the application's parts are."""
    app = create_app(settings, provider=provider)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        transport = httpx.ASGITransport(_with_state(app, state))
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=bearer()) as client:
            yield client, state


def _with_state(app: FastAPI, state: Mapping[str, Any]) -> Any:
    # What a server does: each request gets a copy of what the lifespan gave.
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = dict(state)
        await app(scope, receive, send)

    return application
