"""What a user does with a running system: create intents, break the provider, look at the circuit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import redis

from breaker import Override, RedisStore
from tests.support.processes import LocalRun, wait_until

CIRCUIT = "stripe:create_intent"
CIRCUIT_KEY = f"breaker:{{{CIRCUIT}}}"
REPLICAS = {"api-1", "api-2", "api-3"}
CREATED = 201
CREATE_ROUTE = "POST /v1/payment_intents"


def intent_body(**changes: Any) -> dict[str, Any]:
    """A payment that can be created, for a milestone that nobody has paid for yet."""
    body = {
        "projectId": "proj_1",
        "milestoneId": f"m_{uuid4().hex}",
        "amount": 12_500,
        "currency": "EUR",
        "returnUrl": "https://example.org/back",
    }
    return body | changes


@dataclass(frozen=True)
class System:
    """The system's doors, each opened anew for every request, so that requests spread over the replicas."""

    run: LocalRun

    @property
    def token(self) -> str:
        return self.run.values["TOKEN"]

    def url(self, path: str) -> str:
        return self.run.values["API_URL"] + path

    def headers(self, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", **more}

    def create(self, *, key: str | None = None, **changes: Any) -> httpx.Response:
        """Ask for a payment intent."""
        more = {} if key is None else {"Idempotency-Key": key}
        return self._ask(
            "POST", self.url("/payments/intents"), headers=self.headers(**more), json=intent_body(**changes)
        )

    def read(self, intent_id: str) -> httpx.Response:
        """Read a payment intent."""
        return self._ask("GET", self.url(f"/payments/intents/{intent_id}"), headers=self.headers())

    def set_fault(self, mode: str, **options: Any) -> None:
        """Break the provider, or heal it with `none`."""
        self._sandbox("PUT", "/_sandbox/faults", json={"mode": mode, **options})

    def provider_requests(self) -> int:
        """How many requests to create an intent have arrived at the provider."""
        requests: dict[str, int] = self._sandbox("GET", "/_sandbox").json()["requests"]
        return requests.get(CREATE_ROUTE, 0)

    def effects(self) -> list[dict[str, Any]]:
        """What has really happened at the provider."""
        effects: list[dict[str, Any]] = self._sandbox("GET", "/_sandbox/effects").json()
        return effects

    def circuit(self) -> dict[str, str]:
        """The circuit's record, as HGETALL shows it."""
        with self._redis() as client:
            record: dict[str, str] = client.hgetall(CIRCUIT_KEY)
        return record

    def cooldown_is_over(self) -> bool:
        """Whether the circuit may be probed, by the clock that decides it."""
        with self._redis() as client:
            seconds, microseconds = client.time()
            retry_at_ms = client.hget(CIRCUIT_KEY, "retry_at_ms")
        return bool(seconds * 1000 + microseconds // 1000 > int(retry_at_ms))

    def start_over(self) -> None:
        """Heal the provider, close the circuit, wait until every replica knows it, and forget what the provider saw."""
        self.set_fault("none")
        asyncio.run(self._reset_circuit())
        working: set[str] = set()
        wait_until(lambda: self._next_works(working) == REPLICAS, "every replica creates payment intents")
        self._sandbox("DELETE", "/_sandbox")

    def _next_works(self, working: set[str]) -> set[str]:
        created = self.create()
        if created.status_code == CREATED:
            working.add(created.headers["X-Replica-Id"])
        return working

    async def _reset_circuit(self) -> None:
        store = RedisStore.from_url(self.run.values["REDIS_URL"], timeout_seconds=5.0)
        try:
            await store.control(CIRCUIT, Override(mode=None, reason="a test begins", actor="tests"))
        finally:
            await store.aclose()

    def _redis(self) -> Any:  # the client's own types tell neither its two modes nor text from bytes
        return redis.Redis.from_url(self.run.values["REDIS_URL"], decode_responses=True)

    def _sandbox(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return self._ask(method, self.run.values["SANDBOX_URL"] + path, **arguments).raise_for_status()

    @staticmethod
    def _ask(method: str, url: str, **arguments: Any) -> httpx.Response:
        # No certificates for plain HTTP: to load them takes several times as long as a request.
        with httpx.Client(trust_env=False, verify=False, timeout=20) as client:
            return client.request(method, url, **arguments)
