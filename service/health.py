"""Whether this process lives, and whether it can do its work."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Say that the process answers; asks nothing of others, so that no outage elsewhere restarts it."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz() -> dict[str, str]:
    """Say that requests may be sent here."""
    return {"status": "ready"}
