"""Builds the application: the only place that wires the parts together."""

from __future__ import annotations

import sys

from fastapi import FastAPI

from service import health
from service.settings import Settings, SettingsError, load_settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the service.

    Args:
        settings: The settings; None reads the environment, and ends the process with one line if it is refused.
    """
    if settings is None:
        try:
            settings = load_settings()
        except SettingsError as error:
            sys.exit(str(error))
    app = FastAPI(title="Switchgear")
    app.include_router(health.router)
    return app
