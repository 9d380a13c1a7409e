"""Who is asking, and what they may do: bearer tokens (JWT), signed with a shared secret or an issuer's key."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.errors import InsufficientScopeError, UnauthorizedError, UnavailableError
from service.settings import Settings

# Which algorithms a key source allows. Never both lists at once: a public key must not pass as a shared secret.
SECRET_ALGORITHMS = ("HS256",)
JWKS_ALGORITHMS = ("RS256", "ES256")
# How far the issuer's clock may be off.
LEEWAY_SECONDS = 5
JWKS_TIMEOUT_SECONDS = 3.0

# It becomes a column and a log field.
_SUBJECT = re.compile(r"[!-~]{1,255}")

_bearer = HTTPBearer(auto_error=False, description="A JWT with `sub`, `exp` and `scope`.")


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever is asking.

    Attributes:
        subject: Who; for payers, the payer's id.
        scopes: What the token allows.
    """

    subject: str
    scopes: frozenset[str]


class Authenticator:
    """Tells who sent a token.

    Args:
        settings: The key source, and the issuer and audience to insist on.
    """

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else None
        self._jwks = jwt.PyJWKClient(settings.jwks_url, timeout=JWKS_TIMEOUT_SECONDS) if settings.jwks_url else None
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience

    async def authenticate(self, token: str) -> Principal:
        """Check a token.

        Raises:
            UnauthorizedError: It is not valid here.
            UnavailableError: The issuer's keys cannot be fetched.
        """
        try:
            claims = await self._claims(token)
        except jwt.PyJWKClientConnectionError as error:
            raise UnavailableError("The keys that tokens are checked with cannot be fetched.") from error
        except jwt.PyJWTError as error:
            expired = isinstance(error, jwt.ExpiredSignatureError)
            raise _unauthorized("The token has expired." if expired else "The token is not valid.") from error
        scope = claims.get("scope", "")
        if not _SUBJECT.fullmatch(claims["sub"]) or not isinstance(scope, str):
            raise _unauthorized("The token is not valid.")
        return Principal(claims["sub"], frozenset(scope.split()))

    async def _claims(self, token: str) -> dict[str, Any]:
        key: str | jwt.PyJWK
        algorithms: tuple[str, ...]
        if self._jwks is None:
            key, algorithms = self._secret or "", SECRET_ALGORITHMS
        else:
            # The client blocks while it fetches; what it has fetched it remembers.
            key, algorithms = await asyncio.to_thread(self._jwks.get_signing_key_from_jwt, token), JWKS_ALGORITHMS
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=algorithms,
            issuer=self._issuer,
            audience=self._audience,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "sub"]},
        )
        return claims


def allowed(scope: str) -> Callable[..., Awaitable[Principal]]:
    """Make a dependency that lets only tokens with a scope pass, and gives who sent it."""

    async def principal(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Principal:
        if credentials is None:
            raise UnauthorizedError(headers={"WWW-Authenticate": "Bearer"})
        authenticator: Authenticator = request.state.authenticator
        found = await authenticator.authenticate(credentials.credentials)
        if scope not in found.scopes:
            raise InsufficientScopeError(
                f"This needs a token with the scope {scope}.",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
            )
        return found

    return principal


def mint_token(
    secret: str,
    sub: str,
    scopes: Iterable[str],
    lifetime_seconds: float = 3600.0,
    **claims: str,
) -> str:
    """Make a token for local use and for tests.

    Args:
        secret: The value of `SWITCHGEAR_JWT_SECRET`.
        sub: Whose token it is.
        scopes: What it allows.
        lifetime_seconds: How long it is valid; below zero for one that has expired.
        claims: Further claims, such as `iss` and `aud`.
    """
    now = int(time.time())
    payload = {"sub": sub, "scope": " ".join(scopes), "iat": now, "exp": now + int(lifetime_seconds), **claims}
    return jwt.encode(payload, secret, algorithm=SECRET_ALGORITHMS[0])


def _unauthorized(detail: str) -> UnauthorizedError:
    return UnauthorizedError(detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
