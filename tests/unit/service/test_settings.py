from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from service.settings import DatabaseSettings, Settings, SettingsError, load_database_settings, load_settings

KEY = "dGVzdHMgb25seTogdGhpcnR5LXR3byBieXRlcyBvayE="
GOOD = {
    "REDIS_URL": "redis://redis.internal:6379/0",
    "DATABASE_URL": "postgresql://user:planted@db.internal/payments",
    "SWITCHGEAR_STRIPE_API_KEY": "sk_live_planted",
    "SWITCHGEAR_JWT_SECRET": "planted " * 5,
    "SWITCHGEAR_ENCRYPTION_KEYS": KEY,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with what is needed and nothing else of ours."""
    for name in (*GOOD, "PORT", "REPLICAS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_defaults_are_the_contracts() -> None:
    """What is not set has the value that the contract and the design name."""
    settings = load_settings()
    assert settings.model_dump(include={"port", "replicas", "require_idempotency_key"}) == {
        "port": 8000,
        "replicas": 3,
        "require_idempotency_key": False,
    }
    assert (settings.breaker_failure_threshold, settings.breaker_cooldown_seconds) == (3, 30)
    assert (settings.provider_attempts, settings.provider_timeout_seconds) == (2, 4)
    assert (settings.request_deadline_seconds, settings.provider_connect_timeout_seconds) == (10, 1)
    assert settings.breaker_store_timeout_seconds == 0.25
    assert settings.stripe_api_base == "https://api.stripe.com"
    assert settings.max_body_bytes == 65536


def test_every_setting_is_described() -> None:
    """Whoever looks for a setting finds out what it is for."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://u:p@h:5432/d", "postgresql+asyncpg://u:p@h:5432/d"),
        ("postgres://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql+asyncpg://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql://u@/d?host=/run/pg", "postgresql+asyncpg://u@/d?host=/run/pg"),
    ],
)
def test_database_url_gets_the_async_driver(environment: pytest.MonkeyPatch, given: str, used: str) -> None:
    """The usual URLs work as they are, sockets included."""
    environment.setenv("DATABASE_URL", given)
    assert load_settings().database_url.get_secret_value() == used


@pytest.mark.parametrize("end", ["", "+sentinel", "+cluster"])
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_redis_may_be_more_than_one_server(environment: pytest.MonkeyPatch, scheme: str, end: str) -> None:
    """Sentinels and Clusters are accepted, with and without TLS."""
    environment.setenv("REDIS_URL", f"{scheme}{end}://a:1,b:2/circuits")
    assert load_settings().redis_url.get_secret_value() == f"{scheme}{end}://a:1,b:2/circuits"


def test_migrations_need_the_database_only(environment: pytest.MonkeyPatch) -> None:
    """A migration job needs no payment secrets."""
    for name in GOOD.keys() - {"DATABASE_URL"}:
        environment.delenv(name)
    assert isinstance(load_database_settings(), DatabaseSettings)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", "mysql://planted@h/d", "DATABASE_URL must begin with postgresql://"),
        ("REDIS_URL", "http://planted", "REDIS_URL must begin with redis://"),
        ("REDIS_URL", "redis+shards://planted", "REDIS_URL must begin with redis://"),
        ("PORT", "0", "PORT Input should be greater than or equal to 1"),
        ("REPLICAS", "many", "REPLICAS Input should be a valid integer"),
        ("SWITCHGEAR_REPLICA_ID", "a b", "SWITCHGEAR_REPLICA_ID"),
        ("SWITCHGEAR_BREAKER_FAILURE_THRESHOLD", "0", "SWITCHGEAR_BREAKER_FAILURE_THRESHOLD"),
        ("SWITCHGEAR_BREAKER_COOLDOWN_SECONDS", "-1", "SWITCHGEAR_BREAKER_COOLDOWN_SECONDS"),
        ("SWITCHGEAR_BREAKER_CONSISTENCY", "loose", "SWITCHGEAR_BREAKER_CONSISTENCY"),
        ("SWITCHGEAR_PROVIDER_ATTEMPTS", "3", "must fit into SWITCHGEAR_REQUEST_DEADLINE_SECONDS"),
        ("SWITCHGEAR_REQUEST_DEADLINE_SECONDS", "60", "SWITCHGEAR_REQUEST_DEADLINE_SECONDS"),
        ("SWITCHGEAR_PROVIDER_CONNECT_TIMEOUT_SECONDS", "5", "must not exceed SWITCHGEAR_PROVIDER_TIMEOUT_SECONDS"),
        ("SWITCHGEAR_JWT_SECRET", "planted", "SWITCHGEAR_JWT_SECRET must have at least 32 bytes"),
        ("SWITCHGEAR_JWKS_URL", "https://issuer.example/jwks", "exactly one of SWITCHGEAR_JWT_SECRET and"),
        ("SWITCHGEAR_ENCRYPTION_KEYS", "planted", "SWITCHGEAR_ENCRYPTION_KEYS each must be a Fernet key"),
        ("SWITCHGEAR_ENCRYPTION_KEYS", " , ", "SWITCHGEAR_ENCRYPTION_KEYS"),
        ("SWITCHGEAR_STRIPE_API_BASE", "https://h/v1", "SWITCHGEAR_STRIPE_API_BASE"),
        ("SWITCHGEAR_MAX_BODY_BYTES", "1", "SWITCHGEAR_MAX_BODY_BYTES"),
    ],
)
def test_nonsense_is_refused_with_one_line(environment: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    """A value that cannot work is refused with one line that names the variable and not the value."""
    environment.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    line = str(refused.value)
    assert said in line
    assert "\n" not in line
    assert "planted" not in line


@pytest.mark.parametrize("name", GOOD)
def test_missing_setting_is_named(environment: pytest.MonkeyPatch, name: str) -> None:
    """What has no safe default must be given, and the line says which variable that is."""
    environment.delenv(name)
    with pytest.raises(SettingsError, match=name):
        load_settings()


def test_secrets_do_not_show() -> None:
    """Neither the settings' text nor a validation error carries a secret."""
    settings = load_settings()
    shown = f"{settings!r} {settings} {settings.model_dump_json()}"
    assert "planted" not in shown
    assert KEY not in shown
    wrong: dict[str, Any] = {"jwt_secret": "planted"}
    with pytest.raises(ValidationError) as refused:
        Settings(**wrong)
    assert "planted" not in str(refused.value)


def test_encryption_keys_are_split(environment: pytest.MonkeyPatch) -> None:
    """Several keys are separated by commas, the first one first."""
    other = "b2xkIGtleSBvbGQga2V5IG9sZCBrZXkgb2xkIGtleSE="
    environment.setenv("SWITCHGEAR_ENCRYPTION_KEYS", f"{KEY}, {other}")
    assert [key.get_secret_value() for key in load_settings().encryption_keys] == [KEY, other]
