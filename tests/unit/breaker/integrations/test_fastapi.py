"""What a client hears of a circuit, and what a look at one leaves alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse

from breaker import BreakerConfig, CircuitBreaker, MemoryStore, Mode, Override, State, View, sync
from breaker.integrations.fastapi import circuits, install, requires
from tests.support.stores import ManualClock

NAME = "warehouse:reserve"


class Warehouse:
    """A dependency that fails, hangs or works, and its breaker."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        config = BreakerConfig(cooldown_seconds=30.2, call_timeout_seconds=0.02)
        self.breaker = CircuitBreaker(NAME, self.store, config)
        self.orders = 0
        self.calls = 0
        self.fails = False
        self.hangs = False

    async def reserve(self) -> None:
        self.calls += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise ConnectionError("the secret inside")

    async def trip(self) -> None:
        self.fails = True
        for _ in range(3):
            with pytest.raises(ConnectionError):
                await self.breaker.call(self.reserve)
        self.fails, self.calls = False, 0


@pytest.fixture
def warehouse() -> Warehouse:
    """A warehouse that works."""
    return Warehouse()


@pytest.fixture
async def api(warehouse: Warehouse) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that reserves in the warehouse."""
    app = FastAPI()
    install(app)
    app.include_router(circuits([warehouse.breaker]))

    @app.post("/orders")
    async def order() -> None:
        warehouse.orders += 1
        await warehouse.breaker.call(warehouse.reserve)

    @app.post("/early", dependencies=[requires(warehouse.breaker)])
    async def early() -> None:
        await order()

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """Return the problem of an answer, which tells nothing of what is inside."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert NAME not in response.text
    assert "Error" not in response.text
    body: dict[str, Any] = response.json()
    assert (body["type"], body["status"]) == ("about:blank", status)
    return body


async def test_a_refused_call_is_503_with_retry_after(api: httpx.AsyncClient, warehouse: Warehouse) -> None:
    """Whole seconds, rounded up, in the header and in the problem; the dependency is not called."""
    await warehouse.trip()
    response = await api.post("/orders")
    body = problem(response, 503)
    assert (response.headers["retry-after"], body["retry_after"], body["title"]) == ("31", 31, "Service Unavailable")
    assert warehouse.calls == 0


async def test_retry_after_is_at_least_one_second(api: httpx.AsyncClient, warehouse: Warehouse) -> None:
    """Nobody is invited to come back at once."""
    await warehouse.trip()
    warehouse.clock.advance(30.199)
    assert (await api.post("/orders")).headers["retry-after"] == "1"


async def test_a_call_that_took_too_long_is_504(api: httpx.AsyncClient, warehouse: Warehouse) -> None:
    """It was made, so nothing is said of when to repeat it."""
    warehouse.hangs = True
    response = await api.post("/orders")
    assert problem(response, 504)["title"] == "Gateway Timeout"
    assert "retry-after" not in response.headers


async def test_a_route_can_refuse_before_it_begins(api: httpx.AsyncClient, warehouse: Warehouse) -> None:
    """While the circuit is open the route's own work is not begun either."""
    assert (await api.post("/early")).status_code == 200
    await warehouse.trip()
    assert problem(await api.post("/early"), 503)["retry_after"] == 31
    assert (warehouse.orders, warehouse.calls) == (1, 0)


async def test_a_look_changes_nothing(api: httpx.AsyncClient, warehouse: Warehouse) -> None:
    """A thousandth of a second after the cooldown the request is let through and becomes the probe itself."""
    await warehouse.trip()
    before = await warehouse.store.snapshot(NAME)
    await api.post("/early")
    assert await warehouse.store.snapshot(NAME) == before
    assert warehouse.breaker.status.refused == {}
    warehouse.clock.advance(30.201)
    assert (await api.post("/early")).status_code == 200
    assert warehouse.breaker.status.state is State.CLOSED


async def test_a_stream_can_be_refused_only_before_its_answer_begins(warehouse: Warehouse) -> None:
    """Inside the answer a refusal breaks it off; one that the route meets is 503, by a look or by the first item."""

    @warehouse.breaker
    async def stock() -> AsyncIterator[str]:
        warehouse.calls += 1
        yield "shoes,"
        yield "socks"

    async def from_the_first(items: AsyncIterator[str]) -> AsyncIterator[str]:
        first = await anext(items)

        async def all_of_them() -> AsyncIterator[str]:
            yield first
            async for item in items:
                yield item

        return all_of_them()

    app = FastAPI()
    install(app)

    @app.get("/inside")
    async def inside() -> StreamingResponse:
        return StreamingResponse(stock())

    @app.get("/looked", dependencies=[requires(warehouse.breaker)])
    async def looked() -> StreamingResponse:
        return StreamingResponse(stock())

    @app.get("/fetched")
    async def fetched() -> StreamingResponse:
        return StreamingResponse(await from_the_first(stock()))

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        for path in ("/inside", "/looked", "/fetched"):
            assert (await client.get(path)).text == "shoes,socks"
        await warehouse.trip()
        with pytest.raises(RuntimeError, match="response already started"):
            await client.get("/inside")
        for path in ("/looked", "/fetched"):
            assert problem(await client.get(path), 503)["retry_after"] == 31
    assert warehouse.calls == 0


async def test_a_route_of_threads_can_refuse_before_it_begins() -> None:
    """A breaker of threads is looked at in a thread, as FastAPI runs what is not a coroutine, and is shown likewise."""

    def fails() -> None:
        raise ConnectionError

    class Store(sync.MemoryStore):
        def snapshot(self, name: str) -> View | None:
            looked_in.append(threading.current_thread())
            return super().snapshot(name)

    looked_in: list[threading.Thread] = []
    store = Store(ManualClock())
    breaker = sync.CircuitBreaker(NAME, store, BreakerConfig(cooldown_seconds=30.2))
    app = FastAPI()
    install(app)
    app.include_router(circuits([breaker]))

    @app.post("/early", dependencies=[requires(breaker)])
    def early() -> None:
        """Do nothing."""

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.post("/early")).status_code == 200
        assert {thread is threading.main_thread() for thread in looked_in} == {False}
        for _ in range(3):
            with pytest.raises(ConnectionError):
                breaker.call(fails)
        assert problem(await client.post("/early"), 503)["retry_after"] == 31
        assert [(await client.get("/circuits")).json()[0][key] for key in ("name", "state")] == [NAME, "open"]
    store.close()


async def test_circuits_are_shown_as_this_replica_knows_them(api: httpx.AsyncClient, warehouse: Warehouse) -> None:
    """State, mode, and what was counted here."""
    await warehouse.trip()
    await api.post("/orders")
    assert (await api.get("/circuits")).json() == [
        {
            "name": NAME,
            "state": "open",
            "mode": "auto",
            "generation": warehouse.breaker.status.generation,
            "degraded": False,
            "isolated": False,
            "refused": {"open": 1},
            "transitions": {"tripped": 1},
        }
    ]


async def test_an_operators_word_is_answered_like_an_outage(api: httpx.AsyncClient, warehouse: Warehouse) -> None:
    """A client need not know who closed the door; without an end it is asked back after a cooldown."""
    await warehouse.store.control(NAME, Override(mode=Mode.FORCED_OPEN, reason="maintenance", actor="ada"))
    response = await api.post("/early")
    assert problem(response, 503)["retry_after"] == 31
    assert "maintenance" not in response.text


async def said_to_a_websocket(warehouse: Warehouse, *, accept: bool, close: bool = False) -> list[dict[str, Any]]:
    """Let a WebSocket's endpoint reserve in the warehouse; returns what is sent to the client."""
    app = FastAPI()
    install(app)
    sent: list[dict[str, Any]] = []

    @app.websocket("/orders")
    async def orders(socket: WebSocket) -> None:
        if accept:
            await socket.accept()
        if close:
            await socket.close()
        await warehouse.breaker.call(warehouse.reserve)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(dict(message))

    scope = {"type": "websocket", "path": "/orders", "headers": [], "query_string": b"", "subprotocols": []}
    await app(scope, receive, send)
    return sent


async def test_a_refused_call_closes_a_websocket_that_was_accepted(warehouse: Warehouse) -> None:
    """By the code that means "try again later": no answer of HTTP may follow, and a server would raise at one."""
    await warehouse.trip()
    _, closed = await said_to_a_websocket(warehouse, accept=True)
    assert closed == {"type": "websocket.close", "code": 1013, "reason": "try again in 31 s"}


async def test_a_call_that_took_too_long_closes_a_websocket_that_was_accepted(warehouse: Warehouse) -> None:
    """By the code that means an error of this side."""
    warehouse.hangs = True
    _, closed = await said_to_a_websocket(warehouse, accept=True)
    assert (closed["type"], closed["code"]) == ("websocket.close", 1011)


async def test_a_websocket_that_is_closed_hears_no_more(warehouse: Warehouse) -> None:
    """What is refused afterwards has nobody to be told to."""
    await warehouse.trip()
    sent = await said_to_a_websocket(warehouse, accept=True, close=True)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]


async def test_a_websocket_is_denied_before_it_is_accepted(warehouse: Warehouse) -> None:
    """By the same answer as any other request."""
    await warehouse.trip()
    head, _ = await said_to_a_websocket(warehouse, accept=False)
    assert (head["type"], head["status"]) == ("websocket.http.response.start", 503)
