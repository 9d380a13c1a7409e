"""What operators and orchestrators see: health, circuits, metrics, and what a replica does without its neighbours."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from service.database import Database, DatabaseUnavailableError
from tests.support.fake_provider import TIMED_OUT, FakeProvider
from tests.support.postgres import named
from tests.support.service import body, open_database, serving, settings_for

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/nothing"


async def test_healthy_replica_is_ready(database_url: str, redis_url: str, provider: FakeProvider) -> None:
    """With everything there, the replica says so, and who it is."""
    async with serving(settings_for(database_url, redis_url), provider) as (api, _):
        response = await api.get("/readyz")
    assert response.json() == {"status": "ready", "database": "ok", "redis": "ok"}
    assert response.headers["x-replica-id"] == "test-1"


async def test_absent_redis_is_told_and_does_not_matter(api: httpx.AsyncClient, provider: FakeProvider) -> None:
    """Without Redis the replica starts, is ready, says that it is degraded, and takes payments."""
    response = await api.get("/readyz")
    assert (response.status_code, response.json()["redis"]) == (200, "degraded")
    assert (await api.post("/payments/intents", json=body())).status_code == 201
    assert "switchgear_breaker_degraded 1.0" in (await api.get("/metrics")).text
    assert len(provider.intents) == 1


async def test_absent_database_is_not_ready_but_alive(provider: FakeProvider) -> None:
    """Without a database the replica starts and lives, and sends requests away without calling the provider."""
    async with serving(settings_for(NO_DATABASE), provider) as (api, _):
        assert (await api.get("/livez")).status_code == 200
        ready = await api.get("/readyz")
        assert (ready.status_code, ready.json()["database"]) == (503, "away")
        for response in (
            await api.post("/payments/intents", json=body()),
            await api.get("/payments/intents/payint_" + "0" * 32),
        ):
            assert (response.status_code, response.json()["code"]) == (503, "dependency_unavailable")
            assert response.headers["retry-after"] == "1"
    assert provider.calls == []


async def test_database_that_goes_away_during_the_call_leaves_an_unknown_end(
    database_url: str, provider: FakeProvider, sql: Any
) -> None:
    """When the provider's answer cannot be stored, the payer hears that the end is unknown, and the repeat finds it."""
    headers = {"Idempotency-Key": "key-1"}
    settings = settings_for(database_url)
    async with serving(settings, provider) as (api, state):

        def lose_the_database() -> None:
            sql(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

        provider.during_call = lose_the_database
        response = await api.post("/payments/intents", json=body(), headers=headers)
        provider.during_call = lambda: None
        assert (response.status_code, response.json()["outcome"]) == (424, "unknown")
        sql("UPDATE psp_operations SET lease_until = now() - interval '1 second'")
        again = await api.post("/payments/intents", json=body(), headers=headers)
        assert again.status_code == 201
        assert state["store"].degraded
    assert (provider.count("create"), len(provider.intents)) == (1, 1)


async def test_operator_sees_the_fleets_circuits(database_url: str, redis_url: str, provider: FakeProvider) -> None:
    """Every replica shows the same circuits, and says which one answered."""
    first, second = (settings_for(database_url, redis_url, replica_id=replica) for replica in ("api-1", "api-2"))
    async with serving(first, provider) as (one, _), serving(second, provider) as (other, _):
        assert (await one.get("/admin/breakers")).json() == {"replica": "api-1", "breakers": []}
        for number in range(3):
            provider.fail_next(*TIMED_OUT)
            await one.post("/payments/intents", json=body(milestoneId=f"ms_{number}"))
        listed = (await other.get("/admin/breakers")).json()
        shown = (await other.get("/admin/breakers/stripe:create_intent")).json()
        absent = await other.get("/admin/breakers/stripe:nothing")
    assert (listed["replica"], shown["replica"]) == ("api-2", "api-2")
    (circuit,) = listed["breakers"]
    assert (
        circuit.items()
        >= {
            "name": "stripe:create_intent",
            "state": "open",
            "mode": "auto",
            "tripped_by": "api-1",
            "failures": 3,
        }.items()
    )
    assert 0 < circuit["retry_after_seconds"] <= 30
    assert shown["breaker"]["revision"] == circuit["revision"]
    assert (absent.status_code, absent.json()["code"]) == (404, "not_found")


async def test_circuits_cannot_be_seen_without_redis(api: httpx.AsyncClient) -> None:
    """An operator is told that the shared circuits are out of sight."""
    for path in ("/admin/breakers", "/admin/breakers/x"):
        response = await api.get(path)
        assert (response.status_code, response.json()["code"]) == (503, "dependency_unavailable")


async def test_metrics_count_by_route(api: httpx.AsyncClient) -> None:
    """Requests are counted by route, so that ids and nonsense do not make series of their own."""
    await api.get("/payments/intents/payint_1")
    await api.get("/nonsense/1")
    await api.request("BREW", "/livez")
    text = (await api.get("/metrics")).text
    for line in (
        'switchgear_http_requests_total{method="GET",route="/payments/intents/{intent_id}",status="404"} 1.0',
        'switchgear_http_requests_total{method="GET",route="unmatched",status="404"} 1.0',
        'switchgear_http_requests_total{method="other",route="/livez",status="405"} 1.0',
    ):
        assert line in text


async def test_client_secret_is_encrypted_with_the_first_key(database_url: str, sql: Any) -> None:
    """A key can be rotated: the new one encrypts, the old one still decrypts, and the column shows neither."""
    old, new = "b2xkIGtleSBvbGQga2V5IG9sZCBrZXkgb2xkIGtleSE=", "bmV3IGtleSBuZXcga2V5IG5ldyBrZXkgbmV3IGtleSE="
    provider = FakeProvider()
    for keys, milestone in ((old, "ms_1"), (f"{new},{old}", "ms_2")):
        async with serving(settings_for(database_url, encryption_keys=keys), provider) as (api, _):
            await api.post("/payments/intents", json=body(milestoneId=milestone))
            made = (await api.post("/payments/intents", json=body())).json()
            read = await api.get(f"/payments/intents/{made['intent_id']}")
            assert read.json()["clientSecret"] == "pi_1_secret_planted"
    assert "secret" not in str(sql("SELECT client_secret FROM payment_intents"))


async def test_documentation_lists_the_contract(api: httpx.AsyncClient) -> None:
    """The API describes itself, with the contract's paths and members."""
    described = (await api.get("/openapi.json")).json()
    assert {"/payments/intents", "/payments/intents/{intent_id}", "/admin/breakers", "/livez"} <= described[
        "paths"
    ].keys()
    members = described["components"]["schemas"]["IntentView"]["properties"].keys()
    assert list(members) == ["intentId", "provider", "providerPaymentIntentId", "clientSecret", "checkoutUrl", "status"]
    assert (await api.get("/docs")).status_code == 200
    assert "planted" not in json.dumps(described)


async def test_statement_that_takes_too_long_is_ended(database: Database) -> None:
    """The server ends it, it counts as a database that is away, and the next one works."""

    async def dawdle() -> None:
        async with database.transaction() as session:
            await session.execute(text("SET LOCAL statement_timeout = 10"))
            await session.execute(text("SELECT pg_sleep(5)"))

    with pytest.raises(DatabaseUnavailableError):
        await dawdle()
    await database.ping()


async def test_mistake_of_ours_is_not_an_absent_database(database: Database) -> None:
    """A statement that the database refuses is a bug, and is not dressed up as an outage."""

    async def blunder() -> None:
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO intent_events DEFAULT VALUES"))

    with pytest.raises(IntegrityError):
        await blunder()


async def test_limits_are_set_on_every_connection(database: Database) -> None:
    """Each session has the time limits that keep a request from waiting for ever."""
    async with database.transaction() as session:
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            assert (await session.execute(text(f"SHOW {limit}"))).scalar() == "4s"


async def test_database_that_does_not_exist_is_away(postgres_url: str) -> None:
    """A wrong name is told like an outage: the replica is not ready, and nothing of the URL is shown."""
    database = open_database(named(postgres_url, "nothing_of_this_name"))
    with pytest.raises(DatabaseUnavailableError):
        await database.ping()
    await database.aclose()
