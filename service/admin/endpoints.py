"""What operators see of the circuits. Every replica tells the same: the circuits live in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from breaker import Store, StoreUnavailableError, View
from service.auth import Principal, allowed
from service.errors import NotFoundError, UnavailableError

router = APIRouter(prefix="/admin/breakers", tags=["admin"])

Operator = Annotated[Principal, Depends(allowed("admin:breakers"))]


@router.get("")
async def list_breakers(request: Request, _: Operator) -> dict[str, Any]:
    """List every circuit that was ever asked for, as it is now."""
    async with _store(request) as store:
        views = {name: await store.snapshot(name) for name in await store.names()}
    return {
        "replica": request.state.settings.replica_id,
        "breakers": [_shown(name, view) for name, view in views.items() if view is not None],
    }


@router.get("/{name}")
async def show_breaker(name: str, request: Request, _: Operator) -> dict[str, Any]:
    """Show one circuit as it is now."""
    async with _store(request) as store:
        view = await store.snapshot(name)
    if view is None:
        raise NotFoundError("Nothing was ever asked of a circuit of this name, or it has been idle for long.")
    return {"replica": request.state.settings.replica_id, "breaker": _shown(name, view)}


@asynccontextmanager
async def _store(request: Request) -> AsyncIterator[Store]:
    store: Store = request.state.store
    try:
        yield store
    except StoreUnavailableError as error:
        raise UnavailableError("Redis does not answer; each replica guards by itself.") from error


def _shown(name: str, view: View) -> dict[str, Any]:
    return {"name": name, **view._asdict(), "retry_after_seconds": view.retry_after_seconds}
