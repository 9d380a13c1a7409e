"""Clients hang up and processes end in the middle of a payment: the provider's answer is kept all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from service.supervision import TaskSupervisor
from tests.support.fake_provider import FakeProvider
from tests.support.service import body, serving, settings_for


async def hung_up(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """Send a request and hang up while the provider is called."""
    provider.hold = asyncio.Event()
    request = asyncio.create_task(api.post("/payments/intents", json=body(), headers={"Idempotency-Key": "key-1"}))
    await provider.wait_for_calls(1)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request


async def test_hanging_up_does_not_abort_the_call(database_url: str, provider: FakeProvider, sql: Any) -> None:
    """A client that is gone leaves a payment that is finished and stored; its repeat gets the answer."""
    async with serving(settings_for(database_url), provider) as (api, state):
        await hung_up(api, provider)
        assert sql("SELECT status FROM psp_operations") == ["in_flight"]
        assert provider.hold is not None
        provider.hold.set()
        await state["supervisor"].drain(5.0)
        assert sql("SELECT status FROM psp_operations") == ["succeeded"]
        again = await api.post("/payments/intents", json=body(), headers={"Idempotency-Key": "key-1"})
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert provider.count("create") == 1


async def test_shutdown_waits_for_what_is_under_way(database_url: str, provider: FakeProvider, sql: Any) -> None:
    """A process that is told to end first stores what the provider answers, then closes its connections."""
    async with serving(settings_for(database_url), provider) as (api, _):
        await hung_up(api, provider)
        assert provider.hold is not None
        asyncio.get_running_loop().call_later(0.01, provider.hold.set)
    assert sql("SELECT status FROM psp_operations") == ["succeeded"]


async def test_shutdown_does_not_wait_for_ever(database_url: str, provider: FakeProvider, sql: Any) -> None:
    """A provider that never answers does not keep the process: the operation stays leased and is found again."""
    settings = settings_for(
        database_url, request_deadline_seconds=0.1, provider_timeout_seconds=0.1, provider_connect_timeout_seconds=0.05
    )
    async with serving(settings, provider) as (api, _):
        await hung_up(api, provider)
    assert sql("SELECT status FROM psp_operations")[0] in {"in_flight", "unknown"}


async def test_drain_cancels_what_is_late(logs: list[Any]) -> None:
    """Work that does not end within the limit is cancelled, and that is said."""
    supervisor = TaskSupervisor()
    waiting = asyncio.create_task(supervisor.run(asyncio.Event().wait()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await supervisor.drain(0.01)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert [entry["tasks"] for entry in logs if entry["event"] == "work_abandoned_at_shutdown"] == [1]


async def test_failure_that_nobody_waits_for_is_told(logs: list[Any]) -> None:
    """What goes wrong after the client has gone is in the log."""
    supervisor, go = TaskSupervisor(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        raise ValueError("nobody heard")

    waiting = asyncio.create_task(supervisor.run(work()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    go.set()
    await supervisor.drain(5.0)
    await asyncio.sleep(0)
    assert [entry["detail"] for entry in logs if entry["event"] == "unattended_work_ended"] == ["nobody heard"]
