"""Plays the outage: steady traffic, a provider that breaks and heals, and eyes on everything."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from uuid import uuid4

import httpx

from service.demo.fleet import Fleet
from service.demo.observer import Observer
from service.demo.timeline import Mark, Outcome, Timeline

_REQUESTS_PER_SECOND = 24
# Every replica opens its connections to database and provider at its first request.
_WARM_UP_REQUESTS = 15
_HEALTHY_SECONDS = 4.0
_BROKEN_SECONDS = 8.0
_AFTERWARDS_SECONDS = 4.0
# Twice the longest wait of a fleet with default settings.
_RECOVERY_TIMEOUT_SECONDS = 60.0


class StoryError(Exception):
    """The outage did not go as it must."""


class Story:
    """One outage, from healthy to healthy.

    Args:
        fleet: Against which fleet it is played.
        timeline: Where everything is noted down.
        client: Opens a new connection for each request, so that they spread over the replicas.
    """

    def __init__(self, fleet: Fleet, timeline: Timeline, client: httpx.AsyncClient) -> None:
        self._fleet = fleet
        self._timeline = timeline
        self._client = client
        self._observer = Observer(fleet, timeline, client)

    async def play(self) -> None:
        """Play it to its end; the provider is healthy afterwards, also if the story is broken off."""
        await self._set_fault("none")
        for _ in range(_WARM_UP_REQUESTS):
            await self._create_intent()
        self._timeline.started_at = time.monotonic()
        try:
            async with _meanwhile(self._send_traffic(), self._observer.watch()):
                self._timeline.add_event(Mark.NOTE, "the provider is healthy; the fleet creates payment intents")
                await self._until_closed()
                await asyncio.sleep(_HEALTHY_SECONDS)
                await self._break()
                await asyncio.sleep(_BROKEN_SECONDS)
                await self._heal()
                await self._until_closed()
                await asyncio.sleep(_AFTERWARDS_SECONDS)
        finally:
            await self._set_fault("none")

    async def _break(self) -> None:
        await self._set_fault("error_500")
        self._timeline.add_event(Mark.BREAK, "the provider breaks: it answers 500 to every request")
        await self._observer.note_break()

    async def _heal(self) -> None:
        if not self._timeline.at(Mark.TRIP):
            raise StoryError("the circuit did not trip; has an operator forced it closed?")
        await self._set_fault("none")
        self._timeline.add_event(Mark.HEAL, "the provider is healthy again; nobody knows yet")

    async def _until_closed(self) -> None:
        try:
            await asyncio.wait_for(self._observer.closed.wait(), _RECOVERY_TIMEOUT_SECONDS)
        except TimeoutError:
            raise StoryError(f"the circuit did not close within {_RECOVERY_TIMEOUT_SECONDS:g} s") from None

    async def _set_fault(self, mode: str) -> None:
        answer = await self._client.put(f"{self._fleet.sandbox_url}/_sandbox/faults", json={"mode": mode})
        answer.raise_for_status()

    async def _send_traffic(self) -> None:
        """Send requests at a steady pace, however slow the answers are."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as requests:
            while True:
                requests.create_task(self._request())
                due += 1 / _REQUESTS_PER_SECOND
                await asyncio.sleep(due - loop.time())

    async def _request(self) -> None:
        outcome = await self._create_intent()
        self._timeline.outcomes.append((self._timeline.now_seconds, outcome))

    async def _create_intent(self) -> Outcome:
        body = {
            "projectId": "demo",
            "milestoneId": uuid4().hex,
            "amount": 12_500,
            "currency": "EUR",
            "returnUrl": "https://example.org/back",
        }
        headers = {"Authorization": f"Bearer {self._fleet.token}"}
        try:
            answer = await self._client.post(f"{self._fleet.api_url}/payments/intents", json=body, headers=headers)
        except httpx.TransportError:
            return Outcome.OTHER
        return Outcome.of(answer.status_code)


@contextlib.asynccontextmanager
async def _meanwhile(*work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Do some work, that has no end of its own, until the block is done."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(item) for item in work]
        yield
        for task in running:
            task.cancel()
