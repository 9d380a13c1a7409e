"""What payers do: create an intent, read it. The order of the steps keeps money from moving twice.

Everything that must be known is committed before the provider is called, so that a repeat with the same key, from
whatever replica and however the first one ended, finds what was begun and goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from service.database import Database
from service.errors import NotFoundError
from service.ids import is_public_intent_id
from service.models import PaymentIntent
from service.payments import attempts, outcomes, repository
from service.payments.attempts import Attempt, NewIntent
from service.payments.errors import EscrowExistsError, IdempotencyInProgressError
from service.payments.idempotency import KeyClaim
from service.payments.states import IntentStatus, after_provider_says, can_be_refreshed
from service.payments.submission import Created, Submission, known
from service.providers.base import CallRefusedError, Provider, ProviderError, ProviderOperation

_log = structlog.get_logger(__name__)


class Payments:
    """The use cases.

    Args:
        database: Where intents are kept.
        provider: Who moves the money.
        deadline_seconds: How long one call of the provider may take, its repeats included.
        on_refusal: Told of each circuit that turned a request away at a look at it, and why; a circuit counts the calls
            that it refuses itself.
    """

    def __init__(
        self,
        database: Database,
        provider: Provider,
        *,
        deadline_seconds: float,
        on_refusal: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._database = database
        self._on_refusal = on_refusal
        self._provider = provider
        self._submission = Submission(database, provider, deadline_seconds=deadline_seconds)

    async def create(self, new: NewIntent, key: KeyClaim | None) -> Created:
        """Create an intent, or go on with what an earlier request with the same key began.

        A fresh request takes two transactions: four statements before the call (three without a key), three after it.
        While the circuit is open there is none at all, or a single read for a request with a key.

        Raises:
            ServiceError: Whatever else the client is to be told.
        """
        refusal = await self._provider.peek(ProviderOperation.CREATE_INTENT)
        if refusal is not None:
            return await self._replay_or_refuse(key, refusal)
        async with self._database.transaction() as session:
            lease = await repository.claim(
                session, new, key, provider=self._provider.name, lease_for=self._submission.lease_for
            )
            if lease is None:
                await session.rollback()
        if lease is not None:
            return await self._submission.send(lease)
        return await self._submission.resume(await self._earlier(new, key))

    async def read(self, payer_id: str, public_id: str, *, refresh: bool) -> PaymentIntent:
        """Read an intent; with `refresh` the provider is asked first, and what it says is stored.

        Raises:
            NotFoundError: There is none, or it is somebody else's.
        """
        if not is_public_intent_id(public_id):
            raise NotFoundError
        async with self._database.transaction() as session:
            intent = await repository.find_own(session, payer_id, public_id)
        if intent is None:
            raise NotFoundError
        if not refresh or intent.provider_intent_id is None or not can_be_refreshed(intent.status):
            return intent
        try:
            seen = await self._submission.call(self._provider.retrieve_intent(intent.provider_intent_id))
        except CallRefusedError as error:
            raise outcomes.refused(error) from error
        except ProviderError as error:
            _log.warning("provider_read_failed", intent_id=public_id, error=str(error))
            raise outcomes.failure(error, error.executed) from error
        before = (intent.amount_authorized, intent.amount_captured)
        if (seen.amount, seen.currency) == (intent.amount, intent.currency):
            status, held = (
                after_provider_says(intent.status, seen.status),
                (seen.amount_authorized, seen.amount_captured),
            )
        else:
            status, held = IntentStatus.REVIEW, before
        if (status, held) == (intent.status, before):
            return intent
        async with self._database.transaction() as session:
            # When it changed while we asked, what is stored now may be newer than what we heard.
            changed = await repository.refresh(session, intent, status, held)
            return changed or await repository.find_own(session, payer_id, public_id) or intent

    async def _replay_or_refuse(self, key: KeyClaim | None, refusal: CallRefusedError) -> Created:
        """Answer without the provider and without writing: its outage must not become a storm of writes here."""
        if key is not None:
            async with self._database.transaction() as session:
                attempt = await attempts.find_by_key(session, key)
            if attempt is not None:
                attempt.check(key)
                if (answer := known(attempt)) is not None:
                    return answer
        self._on_refusal(refusal.circuit, refusal.reason)
        raise outcomes.refused(refusal)

    async def _earlier(self, new: NewIntent, key: KeyClaim | None) -> Attempt:
        """Find what the request repeats, or say what is in its way."""
        async with self._database.transaction() as session:
            attempt = await attempts.find_by_key(session, key) if key else None
            in_the_way = None if attempt else await attempts.find_live(session, new)
        if attempt is not None and key is not None:
            attempt.check(key)
            return attempt
        if in_the_way is None:
            # It was there a moment ago and has come to its end since.
            raise IdempotencyInProgressError
        if in_the_way.intent.payer_id != new.payer_id:
            raise EscrowExistsError
        if key is None and in_the_way.asks_for(new) and in_the_way.intent.status is IntentStatus.SUBMITTING:
            return in_the_way
        raise EscrowExistsError.named(in_the_way.intent.public_id)
