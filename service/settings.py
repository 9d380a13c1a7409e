"""Every setting of the service: its name in the environment, its default, its range and what it is for.

The contract's four names stand alone (`REDIS_URL`, `DATABASE_URL`, `PORT`, `REPLICAS`), all others begin with
`SWITCHGEAR_`. Nonsense is refused at the door with one line that names the variable and never its value.
"""

from __future__ import annotations

import os
import re
import socket
from typing import Annotated, Any, Literal, Self, TypeVar

from cryptography.fernet import Fernet
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "SWITCHGEAR_"
# RFC 7518 section 3.2: a key for HS256 must be at least as long as the hash.
MIN_JWT_SECRET_BYTES = 32
ASYNC_DRIVER = "postgresql+asyncpg://"

_S = TypeVar("_S", bound=BaseSettings)


class SettingsError(ValueError):
    """The environment asks for something that cannot work."""


def _bare(name: str) -> AliasChoices:
    """Let a field be read from an unprefixed variable and still be given by its name in code."""
    return AliasChoices(name, name.lower())


class DatabaseSettings(BaseSettings):
    """What a process needs that only talks to the database, such as the migration job."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        populate_by_name=True,
    )

    database_url: SecretStr = Field(validation_alias=_bare("DATABASE_URL"))
    """PostgreSQL, as `postgresql://USER:PASSWORD@HOST:PORT/NAME` or `postgresql:///NAME?host=/socket/directory`."""

    @field_validator("database_url")
    @classmethod
    def _use_the_async_driver(cls, url: SecretStr) -> SecretStr:
        scheme, separator, rest = url.get_secret_value().partition("://")
        if not separator or scheme not in {"postgresql", "postgres", "postgresql+asyncpg"}:
            raise ValueError("must begin with postgresql://")
        return SecretStr(ASYNC_DRIVER + rest)


class Settings(DatabaseSettings):
    """The whole service's settings."""

    redis_url: SecretStr = Field(validation_alias=_bare("REDIS_URL"))
    """Where the fleet shares its circuits: `redis://`, `unix://`, `redis+sentinel://HOST:PORT,…/SERVICE` or
    `redis+cluster://HOST:PORT,…`; with `rediss` for `redis` by TLS."""
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8000, validation_alias=_bare("PORT"))
    """The TCP port that the API processes share."""
    replicas: Annotated[int, Field(ge=1, le=64)] = Field(3, validation_alias=_bare("REPLICAS"))
    """How many API processes `make run` starts."""
    replica_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = Field(
        default_factory=lambda: f"{socket.gethostname()[:48]}-{os.getpid()}"
    )
    """This process's name, in `X-Replica-Id` and in the circuits' records."""

    breaker_failure_threshold: Annotated[int, Field(ge=1, le=1000)] = 3
    """Consecutive failed provider calls that trip a circuit."""
    breaker_cooldown_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 30.0
    """How long a circuit stays open before one probe may try the provider."""
    breaker_consistency: Literal["mirrored", "strict"] = "mirrored"
    """`mirrored`: a fresh copy of the circuit answers, and a healthy call asks nothing; `strict`: every call asks."""
    breaker_store_timeout_seconds: Annotated[float, Field(ge=0.01, le=5)] = 0.25
    """How long Redis may take to answer before this replica guards locally."""

    provider_timeout_seconds: Annotated[float, Field(ge=0.05, le=30)] = 4.0
    """The total time of one attempt at the provider, from connect to the last byte."""
    provider_connect_timeout_seconds: Annotated[float, Field(ge=0.05, le=30)] = 1.0
    """The part of an attempt that connecting may take."""
    provider_attempts: Annotated[int, Field(ge=1, le=5)] = 2
    """How often one request may try the provider, always with the same key."""
    request_deadline_seconds: Annotated[float, Field(ge=0.1, le=30)] = 10.0
    """The time that all provider attempts of one request may take together; well below the time to settle."""
    require_idempotency_key: bool = False
    """Refuse to create an intent for a request without an `Idempotency-Key`."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=10_485_760)] = 65536
    """The largest request body that is read."""

    stripe_api_base: Annotated[str, Field(pattern=r"^https?://[^/\s]+$")] = "https://api.stripe.com"
    """Stripe, or the sandbox that speaks its wire protocol; without a path."""
    stripe_api_key: SecretStr
    """The secret key for Stripe."""
    checkout_url_template: str | None = None
    """Where a payer confirms, with `{payment_intent}` and `{client_secret}` in it; none: what the provider names."""

    jwt_secret: SecretStr | None = None
    """The key of HS256 tokens, at least 32 bytes; either this or `JWKS_URL`."""
    jwks_url: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    """Where the public keys of RS256 and ES256 tokens are; either this or `JWT_SECRET`."""
    jwt_issuer: str | None = None
    """The `iss` that every token must have, if given."""
    jwt_audience: str | None = None
    """The `aud` that every token must have, if given."""
    encryption_keys: Annotated[tuple[SecretStr, ...], NoDecode, Field(min_length=1)]
    """Comma-separated Fernet keys for secrets at rest: the first encrypts, all decrypt."""

    @field_validator("encryption_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("encryption_keys")
    @classmethod
    def _keys_are_fernet_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            try:
                Fernet(key.get_secret_value())
            except ValueError:
                raise ValueError("each must be a Fernet key: 32 bytes, urlsafe base64") from None
        return keys

    @field_validator("checkout_url_template")
    @classmethod
    def _template_can_be_filled(cls, template: str | None) -> str | None:
        try:
            (template or "").format(payment_intent="", client_secret="")
        except (KeyError, IndexError, ValueError):
            raise ValueError("may have {payment_intent} and {client_secret} in braces, and nothing else") from None
        return template

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, url: SecretStr) -> SecretStr:
        # The store reads the rest, and refuses it with a sentence too.
        if not re.match(r"(unix|rediss?(\+sentinel|\+cluster)?)://", url.get_secret_value()):
            raise ValueError(
                "must begin with redis://, redis+sentinel:// or redis+cluster://, rediss for TLS, or unix://"
            )
        return url

    @field_validator("jwt_secret")
    @classmethod
    def _jwt_secret_is_long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_JWT_SECRET_BYTES:
            raise ValueError(f"must have at least {MIN_JWT_SECRET_BYTES} bytes")
        return secret

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if (self.jwt_secret is None) == (self.jwks_url is None):
            # Two key sources at once would let a public key be presented as an HMAC secret.
            raise ValueError(f"exactly one of {PREFIX}JWT_SECRET and {PREFIX}JWKS_URL must be set")
        if self.provider_connect_timeout_seconds > self.provider_timeout_seconds:
            raise ValueError(
                f"{PREFIX}PROVIDER_CONNECT_TIMEOUT_SECONDS must not exceed {PREFIX}PROVIDER_TIMEOUT_SECONDS"
            )
        if self.provider_timeout_seconds * self.provider_attempts > self.request_deadline_seconds:
            raise ValueError(
                f"{PREFIX}PROVIDER_ATTEMPTS times {PREFIX}PROVIDER_TIMEOUT_SECONDS must fit into "
                f"{PREFIX}REQUEST_DEADLINE_SECONDS"
            )
        return self


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: One line that says which variable is wrong and how, without its value.
    """
    return _load(Settings)


def load_database_settings() -> DatabaseSettings:
    """Read from the environment where the database is.

    Raises:
        SettingsError: One line that says what is wrong.
    """
    return _load(DatabaseSettings)


def _load(settings: type[_S]) -> _S:
    try:
        return settings()
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from None


def _one_line(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        name = str(problem["loc"][0]) if problem["loc"] else ""
        if name and name != name.upper():
            name = PREFIX + name.upper()
        problems.append(f"{name} {message}".strip())
    return "configuration refused: " + "; ".join(problems)
