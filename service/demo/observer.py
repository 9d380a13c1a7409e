"""Looks at the provider and at the circuit, again and again, and says in words what has changed."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from service.demo.fleet import Fleet
from service.demo.timeline import Mark, Timeline

CIRCUIT = "stripe:create_intent"
_ROUTE = "POST /v1/payment_intents"
_LOOK_SECONDS = 0.05


class Observer:
    """Eyes on the provider's count of requests, and on the circuit as one replica after the other sees it.

    Args:
        fleet: Where to look.
        timeline: Where everything is noted down.
        client: Opens a new connection for each look, so that every replica gets asked.

    Attributes:
        closed: Set while the circuit is closed.
    """

    def __init__(self, fleet: Fleet, timeline: Timeline, client: httpx.AsyncClient) -> None:
        self._fleet = fleet
        self._timeline = timeline
        self._client = client
        self._arrived: int | None = None
        self._arrived_when_broken = 0
        self._state = ""
        self._generation = 0
        self._open_looks = 0
        self.closed = asyncio.Event()

    async def note_break(self) -> None:
        """Count the provider's requests from here on as those that make the circuit trip."""
        await self._count_provider_requests()
        self._arrived_when_broken = self._arrived or 0

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            arrived = await self._count_provider_requests()
            # Whatever arrives at the provider while the circuit is open is a probe. Not in the first look at an open
            # circuit, though: what it counts may have been sent before the circuit opened.
            is_probe = arrived > 0 and self._open_looks > 1
            if is_probe:
                self._timeline.add_event(
                    Mark.PROBE, "PROBE: the cooldown is over, one request of all tries the provider"
                )
            await self._look_at_circuit()
            if is_probe:
                # When the probe has closed the circuit already, others may have followed it.
                self._timeline.probes += 1 if self.closed.is_set() else arrived
            self._open_looks = 0 if self.closed.is_set() else self._open_looks + 1
            await asyncio.sleep(_LOOK_SECONDS)

    async def _count_provider_requests(self) -> int:
        answer = await self._client.get(f"{self._fleet.sandbox_url}/_sandbox")
        count: int = answer.json()["requests"].get(_ROUTE, 0)
        arrived = 0 if self._arrived is None else count - self._arrived
        self._arrived = count
        if arrived:
            self._timeline.provider_requests.append((self._timeline.now_seconds, arrived))
        return arrived

    async def _look_at_circuit(self) -> None:
        headers = {"Authorization": f"Bearer {self._fleet.admin_token}"}
        answer = await self._client.get(f"{self._fleet.api_url}/admin/breakers", headers=headers)
        if not answer.is_success:
            return
        state, generation = _find(answer.json())
        self._timeline.seen_by[answer.headers["X-Replica-Id"]] = state
        if generation < self._generation:
            return
        self._tell(state, generation)
        self._state, self._generation = state, generation
        if state == "closed":
            self.closed.set()
        else:
            self.closed.clear()

    def _tell(self, state: str, generation: int) -> None:
        """Say what happened between the last look and this one, during which more than one thing may have."""
        timeline = self._timeline
        if state != self._state:
            timeline.states.append((timeline.now_seconds, state))
        if state == "open" and self._state == "closed":
            calls = (self._arrived or 0) - self._arrived_when_broken
            timeline.add_event(Mark.TRIP, f"TRIP: after {calls} failed provider calls every replica refuses at once")
        elif state == "open" and generation != self._generation:
            timeline.add_event(Mark.NOTE, "OPEN AGAIN: the probe failed")
        elif state == "closed" and self._state in {"open", "half_open"}:
            timeline.add_event(Mark.CLOSE, "CLOSED: the probe succeeded, every replica calls the provider again")


def _find(answer: dict[str, Any]) -> tuple[str, int]:
    """Return the circuit's state and generation; one that was never asked is closed."""
    for circuit in answer["breakers"]:
        if circuit["name"] == CIRCUIT:
            return circuit["state"], circuit["generation"]
    return "closed", 0
