"""Tokens that an issuer signs with its own key, which is fetched from where it publishes it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from service.auth import Authenticator
from service.errors import UnauthorizedError, UnavailableError
from tests.support.service import settings_for

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())
KEYS = {
    "keys": [
        {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "rsa", "use": "sig", "alg": "RS256"},
        {**ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), "kid": "ec", "use": "sig", "alg": "ES256"},
    ]
}


class Issuer(BaseHTTPRequestHandler):
    """Publishes the keys."""

    def do_GET(self) -> None:
        """Answer with them."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(KEYS).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def issuer_url() -> Iterator[str]:
    """Where the issuer publishes its keys."""
    with HTTPServer(("127.0.0.1", 0), Issuer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        server.shutdown()
        thread.join()


def authenticator(url: str) -> Authenticator:
    """Give what checks tokens in a service that trusts an issuer."""
    return Authenticator(settings_for("postgresql://nobody@127.0.0.1:1/x", jwt_secret=None, jwks_url=url))


def token(key: Any, algorithm: str, kid: str, **claims: Any) -> str:
    """Sign a token."""
    payload = {"sub": "payer_1", "exp": int(time.time()) + 600, "scope": "payments:read", **claims}
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid})


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec")])
async def test_issuers_token_is_accepted(issuer_url: str, key: Any, algorithm: str, kid: str) -> None:
    """Both kinds of key that issuers use are understood."""
    principal = await authenticator(issuer_url).authenticate(token(key, algorithm, kid))
    assert (principal.subject, principal.scopes) == ("payer_1", frozenset({"payments:read"}))


async def test_tokens_that_the_issuer_did_not_sign_are_refused(issuer_url: str) -> None:
    """A stranger's key, an unknown key, a key of another kind and a public key used as a secret do not pass."""
    public = str(KEYS["keys"][0]["n"])
    forged = [
        token(STRANGER, "ES256", "ec"),
        token(STRANGER, "ES256", "unheard-of"),
        token(STRANGER, "ES256", "rsa"),
        token(public, "HS256", "rsa"),
        token(EC, "ES256", "ec", exp=int(time.time()) - 60),
        "nonsense",
    ]
    trusting = authenticator(issuer_url)
    for given in forged:
        with pytest.raises(UnauthorizedError):
            await trusting.authenticate(given)


async def test_absent_issuer_is_an_outage_not_a_bad_token() -> None:
    """When the keys cannot be fetched, the client is told to come back, not that its token is wrong."""
    with pytest.raises(UnavailableError):
        await authenticator("http://127.0.0.1:1/jwks.json").authenticate(token(EC, "ES256", "ec"))
