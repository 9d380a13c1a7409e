from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import pytest

from tests.support.processes import local_run
from tests.support.system import System, intent_body

PAYMENTS_PER_SECOND = 20
TRAFFIC_SECONDS = 12.0
# How often a client repeats one payment, every quarter of a second: for longer than any of the troubles lasts.
MAX_TRIES = 80
CREATED = 201
# What a client may be told while parts of the system are killed, each with the advice to repeat: the payment is being
# made elsewhere, the provider failed, the circuit is open or a part of the service is away.
REPEAT = {409, 424, 503}


@pytest.fixture
def system() -> Iterator[System]:
    """A whole system of its own, whose circuit recovers quickly."""
    with local_run(SWITCHGEAR_BREAKER_COOLDOWN_SECONDS="1") as run:
        yield System(run)


async def test_every_payment_is_made_once_whatever_dies(system: System) -> None:
    """Replicas die, Valkey freezes, the provider loses answers: no 500, and each payment is made exactly once."""
    client = _Client(system)

    async with asyncio.TaskGroup() as tasks:
        trouble = tasks.create_task(_make_trouble(system))
        for _ in range(int(PAYMENTS_PER_SECOND * TRAFFIC_SECONDS)):
            tasks.create_task(client.pay_once())
            await asyncio.sleep(1 / PAYMENTS_PER_SECOND)
        await trouble

    assert client.answers.keys() <= {CREATED, *REPEAT}, client.answers
    assert client.answers[CREATED] == PAYMENTS_PER_SECOND * TRAFFIC_SECONDS
    made = [effect["payment_intent"] for effect in system.effects() if effect["type"] == "created"]
    assert Counter(made) == Counter(client.paid)


class _Client:
    """Somebody who pays, and repeats with the same key until it is done."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.answers: Counter[int] = Counter()
        self.paid: list[str] = []

    async def pay_once(self) -> None:
        body, key = intent_body(), uuid4().hex
        for _ in range(MAX_TRIES):
            if await self._try(body, key):
                return
            await asyncio.sleep(0.25)
        raise AssertionError("a payment was never made")

    async def _try(self, body: dict[str, object], key: str) -> bool:
        headers = self._system.headers(**{"Idempotency-Key": key})
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            try:
                answer = await client.post(self._system.url("/payments/intents"), json=body, headers=headers)
            except httpx.TransportError:
                return False  # the replica was killed while it worked
        self.answers[answer.status_code] += 1
        if answer.status_code != CREATED:
            return False
        self.paid.append(answer.json()["providerPaymentIntentId"])
        return True


async def _make_trouble(system: System) -> None:
    """Do one bad thing after the other; each entry says how long to leave traffic alone before it."""
    valkey = system.run.find("valkey")
    troubles: list[tuple[float, Callable[[], object]]] = [
        (1.0, lambda: _kill(system, "api-1")),
        (1.0, lambda: _kill(system, "api-3")),
        (1.0, lambda: valkey.send_signal(signal.SIGSTOP)),
        (1.0, lambda: _kill(system, "api-2")),
        (2.0, lambda: valkey.send_signal(signal.SIGCONT)),
        (1.0, lambda: system.set_fault("lose_response", times=10)),
        (1.0, lambda: system.set_fault("reset", times=10)),
        (1.0, lambda: _kill(system, "valkey")),
    ]
    for pause_seconds, act in troubles:
        await asyncio.sleep(pause_seconds)
        await asyncio.to_thread(act)


def _kill(system: System, name: str) -> None:
    system.run.find(name).kill()
