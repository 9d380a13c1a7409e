"""Builds the application: the only place that wires the parts together."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import TypedDict

import structlog
from fastapi import FastAPI

from breaker import BreakerConfig, Consecutive, Consistency, RedisStore, Store
from breaker.integrations.prometheus import BreakerCollector
from service import health, telemetry
from service.admin import endpoints as admin
from service.auth import Authenticator
from service.database import Database
from service.logs import configure_logging
from service.middleware import BodyLimitMiddleware, RequestContextMiddleware
from service.payments import endpoints as payments
from service.payments.use_cases import Payments
from service.problems import add_problem_handlers
from service.providers.base import Provider
from service.providers.guarded import GuardedProvider
from service.providers.stripe import StripeProvider
from service.settings import Settings, SettingsError, load_settings
from service.supervision import TaskSupervisor
from service.telemetry import Telemetry

# Closing connections to something that is gone can hang; the process ends regardless.
CLOSE_TIMEOUT_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class AppState(TypedDict):
    """What requests find in `request.state`."""

    settings: Settings
    database: Database
    store: Store
    authenticator: Authenticator
    telemetry: Telemetry
    supervisor: TaskSupervisor
    payments: Payments


def create_app(settings: Settings | None = None, *, provider: Provider | None = None) -> FastAPI:
    """Build the service. Neither the database nor Redis nor the provider need be there when it starts.

    Args:
        settings: The settings; None reads the environment, and ends the process with one line if it is refused.
        provider: Who moves the money, for tests; None is Stripe. It is guarded by circuits either way.
    """
    if settings is None:
        try:
            settings = load_settings()
        except SettingsError as error:
            sys.exit(str(error))
        configure_logging()
    counters = Telemetry()
    unguarded = provider or _stripe(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[AppState]:
        async with _open(settings, counters, unguarded) as state:
            yield state

    app = FastAPI(
        title="Switchgear",
        summary="Payment intents behind circuits that a whole fleet shares.",
        version=version("switchgear"),
        lifespan=lifespan,
        redoc_url=None,
    )
    # The last one added is the outermost: also a refused body gets its marks.
    app.add_middleware(BodyLimitMiddleware, max_body_bytes=settings.max_body_bytes)
    app.add_middleware(RequestContextMiddleware, replica_id=settings.replica_id, telemetry=counters)
    add_problem_handlers(app)
    for part in (health, telemetry, payments, admin):
        app.include_router(part.router)
    return app


@asynccontextmanager
async def _open(settings: Settings, counters: Telemetry, unguarded: Provider) -> AsyncIterator[AppState]:
    async with AsyncExitStack() as stack:
        database = Database(
            settings.database_url,
            encryption_keys=settings.encryption_keys,
            application_name=f"switchgear {settings.replica_id}",
        )
        stack.push_async_callback(_close, database)
        store = RedisStore.from_url(
            settings.redis_url.get_secret_value(), timeout_seconds=settings.breaker_store_timeout_seconds
        )
        stack.push_async_callback(_close, store)
        provider = _guarded(settings, unguarded, store)
        stack.push_async_callback(_close, provider)
        circuits = BreakerCollector(store, provider.breakers)
        counters.registry.register(circuits)
        stack.callback(counters.registry.unregister, circuits)
        supervisor = TaskSupervisor()
        # Runs first: what is under way still needs all of the above.
        stack.push_async_callback(supervisor.drain, settings.request_deadline_seconds)
        _log.info("started", replica=settings.replica_id)
        yield AppState(
            settings=settings,
            database=database,
            store=store,
            authenticator=Authenticator(settings),
            telemetry=counters,
            supervisor=supervisor,
            payments=Payments(
                database,
                provider,
                deadline_seconds=settings.request_deadline_seconds,
                on_refusal=circuits.count_refusal,
            ),
        )


def _stripe(settings: Settings) -> Provider:
    return StripeProvider(
        api_key=settings.stripe_api_key.get_secret_value(),
        base_url=settings.stripe_api_base,
        connect_timeout_seconds=settings.provider_connect_timeout_seconds,
        # A silent connection is given up before the whole attempt is, so that the two can be told apart.
        read_timeout_seconds=settings.provider_timeout_seconds * 0.75,
        checkout_url_template=settings.checkout_url_template,
    )


def _guarded(settings: Settings, unguarded: Provider, store: Store) -> GuardedProvider:
    return GuardedProvider(
        unguarded,
        store,
        BreakerConfig(
            policy=Consecutive(settings.breaker_failure_threshold),
            cooldown_seconds=settings.breaker_cooldown_seconds,
            call_timeout_seconds=settings.provider_timeout_seconds,
            consistency=Consistency(settings.breaker_consistency),
        ),
        attempts=settings.provider_attempts,
        deadline_seconds=settings.request_deadline_seconds,
        replica_id=settings.replica_id,
    )


async def _close(part: Database | Store | Provider) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await part.aclose()
    except (OSError, TimeoutError) as error:
        _log.warning("close_failed", part=type(part).__name__, error=str(error))
