"""The secrets of a local run, made once, and the tokens that they sign."""

from __future__ import annotations

import json
import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

from cryptography.fernet import Fernet

from service.auth import mint_token

TOKEN_LIFETIME_SECONDS = 30 * 24 * 3600
_PRIVATE_FILE = 0o600


def load_secrets(path: Path) -> dict[str, str]:
    """Return the secrets by the names of the service's settings; made once, so that tokens live across runs."""
    if not path.exists():
        made = {
            "SWITCHGEAR_JWT_SECRET": secrets.token_urlsafe(48),
            "SWITCHGEAR_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
            "SWITCHGEAR_STRIPE_API_KEY": f"sk_test_{secrets.token_hex(16)}",
        }
        write_private(path, json.dumps(made, indent=2) + "\n")
    loaded: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def make_token(environment: Mapping[str, str], *, subject: str, scope: str) -> str:
    """Sign a token that the replicas of this environment accept; empty if they trust somebody else's keys (JWKS)."""
    secret = environment.get("SWITCHGEAR_JWT_SECRET")
    if not secret:
        return ""
    settings = {"iss": "SWITCHGEAR_JWT_ISSUER", "aud": "SWITCHGEAR_JWT_AUDIENCE"}
    claims = {claim: environment[setting] for claim, setting in settings.items() if environment.get(setting)}
    return mint_token(secret, subject, scope.split(), TOKEN_LIFETIME_SECONDS, **claims)


def write_assignments(path: Path, values: Mapping[str, str]) -> None:
    """Write what a shell can read: one quoted assignment a line, for nobody else's eyes."""
    write_private(path, "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()))


def read_assignments(path: Path) -> dict[str, str]:
    """Read what `write_assignments` wrote."""
    words = shlex.split(path.read_text(encoding="utf-8"))
    return dict(word.split("=", 1) for word in words)


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner only from its first byte on."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE), "w") as file:
        file.write(text)
    unfinished.replace(path)
