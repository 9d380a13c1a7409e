from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections import Counter
from uuid import uuid4

import httpx
import pytest

from tests.support.processes import wait_until
from tests.support.system import CIRCUIT_KEY, REPLICAS, System, intent_body

THRESHOLD = 3
CLOSED = {"state": "closed", "failures": "0", "reopens": "0", "mode": "auto"}


def test_intent_is_created_and_every_replica_reads_it_back(system: System) -> None:
    """A payment intent is answered with 201 and the contract's members, and read back the same by all replicas."""
    created = system.create()

    assert created.status_code == 201
    intent = created.json()
    assert intent["intentId"].startswith("payint_")
    assert intent["provider"] == "stripe"
    assert intent["providerPaymentIntentId"].startswith("pi_")
    assert {"clientSecret", "checkoutUrl", "status"} <= intent.keys()
    assert httpx.get(intent["checkoutUrl"], trust_env=False).status_code == 200
    assert system.circuit().items() >= CLOSED.items()
    seen: set[str] = set()
    while seen != REPLICAS:
        answer = system.read(intent["intentId"])
        assert answer.status_code == 200
        assert answer.json().items() >= intent.items()
        seen.add(answer.headers["X-Replica-Id"])


def test_same_key_gives_the_same_intent(system: System) -> None:
    """A request repeated with its key is answered with the same intent, and the provider made one only."""
    key, body = uuid4().hex, intent_body()

    first, second = system.create(key=key, **body), system.create(key=key, **body)

    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert system.provider_requests() == 1
    assert len(system.effects()) == 1


def test_third_failed_provider_call_opens_the_circuit_for_every_replica(system: System) -> None:
    """Requests get 424 until the third failed provider call; then all replicas refuse, calling nobody."""
    system.set_fault("error_500")

    while system.provider_requests() < THRESHOLD:
        assert system.circuit().get("state", "closed") == "closed"
        failed = system.create()
        assert failed.status_code == 424
        assert failed.json()["error"]["code"] == "payment_retry"

    seen: set[str] = set()
    while seen != REPLICAS:
        refused = system.create()
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "service_unavailable"
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert int(refused.headers["Retry-After"]) >= 1
        seen.add(refused.headers["X-Replica-Id"])
    assert system.provider_requests() == THRESHOLD


def test_open_circuit_reads_in_redis_as_the_contract_says(system: System) -> None:
    """Whoever looks with redis-cli sees that the circuit is open, since when, until when, why and by whom."""
    _trip(system)

    record = system.circuit()

    assert record.items() >= {"state": "open", "failures": "3", "reopens": "0", "mode": "auto"}.items()
    assert int(record["retry_at_ms"]) - int(record["opened_at_ms"]) == 2000
    assert record["opened_at"].startswith("20")
    assert record["trip_reason"]
    assert record["last_error"]
    assert record["tripped_by"] in REPLICAS
    assert int(record["generation"]) >= int(record["opened_at_ms"])
    assert {"revision", "config", "v"} <= record.keys()


def test_redis_cli_shows_the_circuit(system: System) -> None:
    """The command that the documentation names prints the record, readable by a person."""
    if shutil.which("redis-cli") is None:
        if os.environ.get("CI"):
            pytest.fail("redis-cli is missing; .ci/run installs it")
        pytest.skip("redis-cli is not installed")
    _trip(system)

    command = ["redis-cli", "-u", system.run.values["REDIS_URL"], "--json", "HGETALL", CIRCUIT_KEY]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=10).stdout)

    assert shown == system.circuit()
    assert shown["state"] == "open"


async def test_one_of_fifty_requests_probes_and_closes_the_circuit(system: System) -> None:
    """After the cooldown exactly one of 50 concurrent requests reaches the provider; its success closes the circuit."""
    _trip(system)
    before = system.provider_requests()
    # Healthy, but slow enough that all fifty arrive while the probe is still out.
    system.set_fault("slow", delay_ms=3000)
    wait_until(system.cooldown_is_over, "the cooldown is over")

    async with httpx.AsyncClient(trust_env=False, timeout=20, headers=system.headers()) as client:
        requests = (client.post(system.url("/payments/intents"), json=intent_body()) for _ in range(50))
        answers = await asyncio.gather(*requests)

    assert Counter(answer.status_code for answer in answers) == {201: 1, 503: 49}
    assert system.provider_requests() == before + 1
    assert system.circuit().items() >= CLOSED.items()
    system.set_fault("none")
    assert system.create().status_code == 201


def test_failed_probe_opens_the_circuit_again(system: System) -> None:
    """A provider that is still broken after the cooldown sees one probe, and the circuit is open once more."""
    _trip(system)
    before = system.provider_requests()
    wait_until(system.cooldown_is_over, "the cooldown is over")

    answers = [system.create().status_code for _ in range(5)]

    assert answers == [424, 503, 503, 503, 503]
    assert system.provider_requests() == before + 1
    assert system.circuit().items() >= {"state": "open", "reopens": "1"}.items()


def _trip(system: System) -> None:
    system.set_fault("error_500")
    while system.circuit().get("state") != "open":
        assert system.create().status_code == 424
