"""Any payment provider behind circuits, one for each operation, with bounded repeats outside them.

From the outside in: the time that one request may take, repeats with the same key, the circuit, the time that one
attempt may take, the provider. Every attempt on the wire passes the circuit and is counted, so three failed attempts in
a row are three failures, whether one request made them or three.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

import stamina

from breaker import (
    BreakerConfig,
    CallNotPermittedError,
    CallTimeoutError,
    CircuitBreaker,
    Listener,
    Outcome,
    Store,
)
from service.providers.base import (
    CallRefusedError,
    CreateIntent,
    Declined,
    Executed,
    FailureKind,
    Health,
    Provider,
    ProviderError,
    ProviderIntent,
    ProviderOperation,
)

_T = TypeVar("_T")

_OUTCOMES = {
    Health.SICK: Outcome.FAILURE,
    Health.HEALTHY: Outcome.SUCCESS,
    Health.SAYS_NOTHING: Outcome.IGNORED,
}


class GuardedProvider:
    """A provider that is not called while its circuit is open, and asked again when that can help.

    Args:
        provider: The provider to guard; closed with this one.
        store: Where the circuits live.
        config: How every circuit behaves; its `call_timeout_seconds` is the time that one attempt may take in all.
        attempts: How often one request may reach for the provider; 1 or more.
        deadline_seconds: The time for all attempts of one request and the waits between them. An attempt begins only
            if it could still take its whole time.
        backoff_seconds: The longest wait before the first repeat, doubled for each further one; the wait itself is
            random between nothing and that, so that replicas do not come back together.
        backoff_max_seconds: What the doubling stops at.
        replica_id: This process's name in the circuits' records.
        listeners: Told of everything that happens to the circuits.

    Raises:
        ValueError: A value makes no sense; the message names it.
    """

    def __init__(
        self,
        provider: Provider,
        store: Store,
        config: BreakerConfig,
        *,
        attempts: int = 2,
        deadline_seconds: float = 10.0,
        backoff_seconds: float = 0.2,
        backoff_max_seconds: float = 2.0,
        replica_id: str | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        if attempts < 1:
            message = "attempts must be 1 or more"
            raise ValueError(message)
        if config.call_timeout_seconds is None or config.call_timeout_seconds > deadline_seconds:
            message = "call_timeout_seconds must be set and must fit into deadline_seconds"
            raise ValueError(message)
        self._provider = provider
        # The time is watched below, since an attempt may only begin if it fits.
        self._retrying = stamina.AsyncRetryingCaller(attempts=attempts, timeout=None)
        self._attempt_seconds = config.call_timeout_seconds
        self._deadline_seconds = deadline_seconds
        self._backoff_seconds = backoff_seconds
        self._backoff_max_seconds = backoff_max_seconds
        self._breakers = {
            operation: CircuitBreaker(
                f"{provider.name}:{operation}",
                store,
                config,
                classify_error=_outcome,
                describe_error=_kind,
                replica_id=replica_id,
                listeners=listeners,
            )
            for operation in ProviderOperation
        }

    @property
    def name(self) -> str:
        """The guarded provider's name."""
        return self._provider.name

    @property
    def breakers(self) -> Collection[CircuitBreaker]:
        """The circuits' breakers, one for each operation."""
        return self._breakers.values()

    async def peek(self, operation: ProviderOperation) -> CallRefusedError | None:
        """Tell whether a call would be refused now; calls nothing and changes nothing."""
        refusal = await self._breakers[operation].peek()
        return _refused(refusal) if refusal else None

    async def create_intent(self, request: CreateIntent) -> ProviderIntent | Declined:
        """Create an intent; every repeat carries the same key."""
        return await self._call(ProviderOperation.CREATE_INTENT, partial(self._provider.create_intent, request))

    async def retrieve_intent(self, provider_intent_id: str) -> ProviderIntent:
        """Read one intent."""
        return await self._call(
            ProviderOperation.RETRIEVE_INTENT, partial(self._provider.retrieve_intent, provider_intent_id)
        )

    async def find_intent(self, operation_id: str, *, created_after: datetime) -> ProviderIntent | None:
        """Look for the intent that an operation created."""
        return await self._call(
            ProviderOperation.FIND_INTENT,
            partial(self._provider.find_intent, operation_id, created_after=created_after),
        )

    async def aclose(self) -> None:
        """Close the provider's connections; the store is its owner's."""
        await self._provider.aclose()

    async def _call(self, operation: ProviderOperation, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask until there is an answer, a repeat cannot help, or the attempts or the time are used up."""
        breaker = self._breakers[operation]
        started, tried = _now(), 0
        standing: ProviderError | None = None

        def wait(error: Exception) -> bool | float:
            if not isinstance(error, ProviderError) or not error.retry_same_key:
                return False
            wait_seconds = self._wait_seconds(tried, error.retry_after_seconds)
            fits = _now() - started + wait_seconds + self._attempt_seconds <= self._deadline_seconds
            return wait_seconds if fits else False

        async def attempt() -> _T:
            nonlocal tried, standing
            tried += 1
            try:
                return await _attempt(breaker, ask)
            except ProviderError as error:
                standing = _standing(standing, error)
                raise

        try:
            return await self._retrying(wait, attempt)
        except (ProviderError, CallRefusedError):
            # A refused repeat does not undo the attempt before it: the provider was called, and that is the answer.
            if standing is not None:
                raise standing from standing.__cause__
            raise

    def _wait_seconds(self, tried: int, retry_after_seconds: float | None) -> float:
        longest = min(self._backoff_max_seconds, self._backoff_seconds * 2 ** (tried - 1))
        # Spreading load needs no secrecy.
        return max(random.uniform(0, longest), retry_after_seconds or 0.0)  # noqa: S311


async def _attempt(breaker: CircuitBreaker, ask: Callable[[], Awaitable[_T]]) -> _T:
    try:
        return await breaker.call(ask)
    except CallNotPermittedError as refusal:
        raise _refused(refusal) from refusal
    except CallTimeoutError as error:
        # No repeat: an answer that came this slowly used up the time that a repeat would need.
        raise ProviderError(FailureKind.TIMED_OUT, executed=Executed.UNKNOWN, health=Health.SICK) from error


def _standing(earlier: ProviderError | None, latest: ProviderError) -> ProviderError:
    """Say what a request's attempts mean together.

    Once an attempt may have been executed, a later "not executed" speaks only for itself: no connection, a rate limit
    or refused credentials are decided before the provider looks at the key. `REQUEST_REFUSED` is the exception. The
    parameters were the same at every attempt, and a provider that had carried out one of them would have answered with
    its result, so refusing them proves that none was carried out.
    """
    if earlier is None or earlier.executed is Executed.NO or latest.executed is Executed.UNKNOWN:
        return latest
    if latest.kind is FailureKind.REQUEST_REFUSED:
        return latest
    earlier.retry_after_seconds = latest.retry_after_seconds or earlier.retry_after_seconds
    return earlier


def _outcome(error: Exception) -> Outcome:
    # Anything but a ProviderError is a fault of ours, and our faults must not close the provider's door.
    return _OUTCOMES[error.health] if isinstance(error, ProviderError) else Outcome.IGNORED


def _kind(error: BaseException) -> str:
    return error.kind.value if isinstance(error, ProviderError) else type(error).__name__


def _refused(refusal: CallNotPermittedError) -> CallRefusedError:
    return CallRefusedError(refusal.breaker, refusal.retry_after_seconds, reason=refusal.reason)


def _now() -> float:
    return asyncio.get_running_loop().time()
