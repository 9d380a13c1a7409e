"""Calling the provider for an operation, under its lease, and storing what came of it.

While the provider is called, no transaction is open and no connection is held. What it answers is stored only while the
lease is still ours. Whatever breaks in between leaves an operation whose end is unknown; no correctness depends on an
exception handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import structlog

from service.database import Database, DatabaseUnavailableError
from service.models import PaymentIntent
from service.payments import attempts, leases, outcomes, repository
from service.payments.attempts import Attempt
from service.payments.errors import IdempotencyInProgressError, PaymentRetryError, UnderReviewError
from service.payments.leases import Lease
from service.payments.outcomes import Answer, Settlement
from service.payments.states import IntentStatus, OperationStatus
from service.providers.base import CallRefusedError, Executed, FailureKind, Health, Provider, ProviderError

_T = TypeVar("_T")

# The provider's own deadline comes first; ours is for a provider that does not keep it.
CALL_GRACE_SECONDS = 1.0
# From the end of a call to the end of the transaction that stores it: a place in the pool, a connection, a command.
SETTLE_SECONDS = 10.0
# How far our clock may be ahead of the provider's.
CLOCK_MARGIN = timedelta(minutes=5)
# What a payer may do nothing about, and an operator must.
LOUD = frozenset({FailureKind.CREDENTIALS_REFUSED, FailureKind.KEY_REUSED, FailureKind.REQUEST_REFUSED})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Created:
    """An intent that the provider knows.

    Attributes:
        intent: The intent.
        status: Its status when it was created; a repeat of the request sees the same one.
        replayed: Whether an earlier request was already answered with it.
    """

    intent: PaymentIntent
    status: IntentStatus
    replayed: bool = False


def known(attempt: Attempt) -> Created | None:
    """Answer from what is stored, if the attempt has come to its end.

    Raises:
        ServiceError: It has, and it was not a success.
    """
    operation = attempt.operation
    match operation.status:
        case OperationStatus.SUCCEEDED:
            return Created(attempt.intent, operation.intent_status or attempt.intent.status, replayed=True)
        case OperationStatus.DECLINED:
            raise outcomes.declined(operation.error_code, operation.decline_code).replayed()
        case OperationStatus.REJECTED if operation.intent_status is IntentStatus.FAILED:
            raise outcomes.amount_refused(operation.error_code).replayed()
        case OperationStatus.MANUAL_REVIEW:
            raise UnderReviewError
        case _:
            return None


class Submission:
    """The calls of one provider on behalf of leased operations.

    Args:
        database: Where operations are kept.
        provider: Who is called.
        deadline_seconds: How long one call may take, its repeats included.
    """

    def __init__(self, database: Database, provider: Provider, *, deadline_seconds: float) -> None:
        self._database = database
        self._provider = provider
        self._call_seconds = deadline_seconds + CALL_GRACE_SECONDS
        self.lease_for = timedelta(seconds=self._call_seconds + SETTLE_SECONDS)

    async def send(self, lease: Lease) -> Created:
        """Ask the provider to create the intent, and settle the operation by its answer."""
        return await self._settle(lease, outcomes.settle(await self._create(lease), lease.request, resent=lease.resent))

    async def resume(self, attempt: Attempt) -> Created:
        """Go on with an attempt that an earlier request began.

        Raises:
            IdempotencyInProgressError: Somebody is at it.
        """
        if (answer := known(attempt)) is not None:
            return answer
        async with self._database.transaction() as session:
            if attempt.operation.status is OperationStatus.REJECTED:
                lease = await repository.start_next(session, attempt, self.lease_for)
            else:
                lease = await leases.take_lease(session, attempt, self.lease_for)
        if lease is None:
            raise IdempotencyInProgressError
        return await (self._recover(lease, attempt) if lease.resent else self.send(lease))

    async def call(self, asked: Awaitable[_T]) -> _T:
        """Wait for the provider, but not for ever.

        Raises:
            ProviderError: It failed, or did not keep to its own deadline.
        """
        try:
            async with asyncio.timeout(self._call_seconds):
                return await asked
        except TimeoutError as error:
            raise ProviderError(FailureKind.TIMED_OUT, executed=Executed.UNKNOWN, health=Health.SAYS_NOTHING) from error

    async def _create(self, lease: Lease) -> Answer:
        try:
            return await self.call(self._provider.create_intent(lease.request))
        except (ProviderError, CallRefusedError) as error:
            return error

    async def _recover(self, lease: Lease, attempt: Attempt) -> Created:
        """Find out what became of an operation before anything is sent again."""
        try:
            found = await self.call(
                self._provider.find_intent(str(lease.operation_id), created_after=lease.first_sent_at - CLOCK_MARGIN)
            )
        except (ProviderError, CallRefusedError) as error:
            return await self._settle(lease, outcomes.not_found_out(error))
        if found is not None:
            return await self._settle(lease, outcomes.settle(found, lease.request, resent=True))
        # The same key creates nothing twice; after the time to settle, a new one cannot either.
        sendable: Lease | None = lease
        async with self._database.transaction() as session:
            if not lease.settled:
                ours = await leases.mark_sent(session, lease, self.lease_for)
            else:
                ours = await repository.settle(session, lease, outcomes.never_arrived()) is not None
                sendable = await repository.start_next(session, attempt, self.lease_for) if ours else None
        if not ours or sendable is None:
            raise IdempotencyInProgressError
        return await self.send(sendable)

    async def _settle(self, lease: Lease, settlement: Settlement) -> Created:
        self._tell(lease, settlement)
        try:
            async with self._database.transaction() as session:
                intent = await repository.settle(session, lease, settlement)
                attempt = None if intent else await attempts.find_attempt(session, lease.intent_id)
        except DatabaseUnavailableError as error:
            # The provider may have done it, and nobody has written it down: the next request finds out.
            raise PaymentRetryError(
                retry_after_seconds=self.lease_for.total_seconds(), outcome=Executed.UNKNOWN.value
            ) from error
        if intent is None:
            # Our lease lapsed and somebody else has taken over: theirs is the answer.
            if attempt is not None and (answer := known(attempt)) is not None:
                return answer
            raise IdempotencyInProgressError
        if settlement.error is not None:
            settlement.error.members["intent_id"] = intent.public_id
            raise settlement.error
        return Created(intent, intent.status)

    def _tell(self, lease: Lease, settlement: Settlement) -> None:
        loud = settlement.failure_kind in LOUD or settlement.operation is OperationStatus.MANUAL_REVIEW
        (_log.error if loud else _log.info)(
            "operation_settled",
            provider=self._provider.name,
            intent_id=lease.request.intent_id,
            operation_id=str(lease.operation_id),
            operation=settlement.operation,
            intent=settlement.intent,
            failure_kind=settlement.failure_kind,
            error_code=settlement.error_code,
            provider_request_id=settlement.provider_request_id,
            resent=lease.resent,
        )
