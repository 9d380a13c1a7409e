"""Idempotency keys as Stripe v1 treats them.

The first answer given once execution began is stored, whatever its status, and replayed to the byte; what was refused
before that (authentication, rate limit, parameters) is not. A key belongs to an API key, to one endpoint and to one set
of parameters; using it for anything else is an error, and so is using it while its first request is still running.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

from service.sandbox.store import Claim, Store
from service.sandbox.wire import Answer, Params, WireError, invalid

LONGEST_KEY = 255


def claim_of(*, api_key: str, key: str | None, path: str, params: Params, request_id: str) -> Claim | None:
    """Say what a request claims with its idempotency key; None without a key.

    Raises:
        WireError: The key is too long.
    """
    if not key:
        return None
    if len(key) > LONGEST_KEY:
        raise invalid(f"The idempotency key is longer than {LONGEST_KEY} characters.")
    # The order of the parameters says nothing. The API key is a secret, so it is not what is stored.
    digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
    return Claim(hashlib.sha256(api_key.encode()).hexdigest(), key, path, digest, request_id)


class IdempotencyKeys:
    """The keys in use and the answers of those that are done."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: dict[tuple[str, str], Claim] = {}

    def recall(self, claim: Claim) -> tuple[Claim, Answer] | None:
        """Return the stored answer of a key with the claim that made it, or None if the key is new.

        Raises:
            WireError: 400 if the key was used for something else, 409 if its first request is still running.
        """
        stored = self._store.answer(claim.account, claim.key)
        first = stored[0] if stored else self._running.get((claim.account, claim.key))
        if first is None:
            return None
        other = f"Try using a key other than '{claim.key}' if you meant to execute a different request."
        only = "Keys for idempotent requests can only be used"
        if first.path != claim.path:
            endpoints = f"('{claim.path}' vs '{first.path}')"
            message = f"{only} for the same endpoint they were first used for {endpoints}. {other}"
            raise WireError(400, "idempotency_error", message)
        if first.digest != claim.digest:
            message = f"{only} with the same parameters they were first used with. {other}"
            raise WireError(400, "idempotency_error", message)
        if stored is None:
            message = (
                "There is currently another in-progress request using this Idempotent Key (that probably means you "
                f"submitted twice, and the other request is still going through): {claim.key}. Please try again later."
            )
            raise WireError(409, "idempotency_error", message, code="idempotency_key_in_use")
        return stored

    @contextmanager
    def running(self, claim: Claim | None) -> Iterator[None]:
        """Hold a key while its first request runs; a request without a key holds nothing."""
        if claim is None:
            yield
            return
        self._running[claim.account, claim.key] = claim
        try:
            yield
        finally:
            if self._running.get((claim.account, claim.key)) is claim:
                del self._running[claim.account, claim.key]

    def release_all(self) -> None:
        """Let go of every key that is in use."""
        self._running.clear()
