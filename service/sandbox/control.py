"""`/_sandbox`: switch faults, count requests, read the log of effects, start over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import ValidationError
from starlette.requests import Request

from service.sandbox.faults import Fault, FaultBoard, UnknownRouteError
from service.sandbox.store import Store


def control_router(store: Store, faults: FaultBoard, start_over: Callable[[], None]) -> APIRouter:
    """Build the routes that tests and curious people use to steer the sandbox."""
    router = APIRouter(prefix="/_sandbox")

    def state() -> dict[str, Any]:
        return {
            "faults": [fault.model_dump(exclude_none=True) for fault in faults.faults],
            "requests": dict(faults.requests),
        }

    @router.get("")
    async def show() -> dict[str, Any]:
        """Show the faults that are switched on and how many requests arrived at each route."""
        return state()

    @router.put("/faults")
    async def put_fault(request: Request) -> dict[str, Any]:
        """Switch a fault on or off and show the new state; JSON of any content type, for those who type curl."""
        try:
            faults.put(Fault.model_validate_json(await request.body()))
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
            raise HTTPException(422, "; ".join(problems)) from error
        except UnknownRouteError as error:
            raise HTTPException(422, str(error)) from error
        return state()

    @router.get("/effects")
    async def effects() -> list[dict[str, Any]]:
        """Show what really happened, oldest first."""
        return store.effects()

    @router.delete("")
    async def forget() -> dict[str, Any]:
        """Forget everything: faults, counts, intents, keys and effects."""
        start_over()
        return state()

    return router
