"""A payment provider in memory, with the idempotency that real ones have, and whatever fault a test asks for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from service.providers.base import (
    CallRefusedError,
    CreateIntent,
    Declined,
    Executed,
    FailureKind,
    Health,
    ProviderError,
    ProviderIntent,
    ProviderOperation,
    ProviderStatus,
)


def failed(kind: FailureKind, executed: Executed = Executed.UNKNOWN, **facts: object) -> ProviderError:
    """Make the error of a failed call."""
    return ProviderError(kind, executed=executed, health=Health.SICK, **facts)  # type: ignore[arg-type]


UNREACHABLE = (FailureKind.UNREACHABLE, Executed.NO)
TIMED_OUT = (FailureKind.TIMED_OUT, Executed.UNKNOWN)


@dataclass(frozen=True)
class Fault:
    """What happens to one call.

    Attributes:
        answer: What the caller gets.
        after_effect: Whether the effect happens all the same.
    """

    answer: Exception | Declined
    after_effect: bool = False


@dataclass
class FakeProvider:
    """Implements the provider port.

    Attributes:
        intents: What was created, by the operation that did it: the oracle of the tests.
        calls: Every call that arrived, as (method, operation id or intent id).
        faults: What happens to the next calls that create.
        find_faults: What happens to the next calls that look for an intent.
        retrieve_fault: What happens to calls that read.
        refusal: The circuit's refusal, seen by `peek` and, if `refuses_calls`, by calls.
        during_call: Called in the middle of each call.
        hold: Each call that creates waits for it before it has an effect.
        status: What new intents begin as.
    """

    intents: dict[str, ProviderIntent] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    find_faults: deque[Exception] = field(default_factory=deque)
    retrieve_fault: Exception | None = None
    refusal: CallRefusedError | None = None
    refuses_calls: bool = False
    during_call: Callable[[], None] = lambda: None
    hold: asyncio.Event | None = None
    status: ProviderStatus = ProviderStatus.REQUIRES_ACTION
    requests: dict[str, CreateIntent] = field(default_factory=dict)
    name: str = "stripe"
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def wait_for_calls(self, number: int) -> None:
        """Wait until that many calls have arrived in all."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.calls) >= number)

    def count(self, method: str) -> int:
        """Count the calls of one kind."""
        return sum(called == method for called, _ in self.calls)

    def fail_next(self, kind: FailureKind, executed: Executed, *, after_effect: bool = False, **facts: object) -> None:
        """Let the next call that creates fail."""
        self.faults.append(Fault(failed(kind, executed, **facts), after_effect=after_effect))

    def put(self, provider_intent_id: str, **changes: object) -> None:
        """Change an intent at the provider."""
        for operation_id, intent in self.intents.items():
            if intent.provider_intent_id == provider_intent_id:
                self.intents[operation_id] = replace(intent, **changes)  # type: ignore[arg-type]

    async def peek(self, operation: ProviderOperation) -> CallRefusedError | None:
        """Tell what the circuit says."""
        return self.refusal if operation is ProviderOperation.CREATE_INTENT else None

    async def create_intent(self, request: CreateIntent) -> ProviderIntent | Declined:
        """Create an intent, once per operation id."""
        await self._arrive("create", request.operation_id)
        if self.hold is not None:
            await self.hold.wait()
        fault = self.faults.popleft() if self.faults else None
        if fault is None or fault.after_effect:
            if self.requests.setdefault(request.operation_id, request) != request:
                raise failed(FailureKind.KEY_REUSED)
            self.intents.setdefault(request.operation_id, self._made(request))
        await asyncio.sleep(0)
        if fault is None:
            return self.intents[request.operation_id]
        if isinstance(fault.answer, Declined):
            return fault.answer
        raise fault.answer

    async def retrieve_intent(self, provider_intent_id: str) -> ProviderIntent:
        """Read an intent."""
        await self._arrive("retrieve", provider_intent_id)
        if self.retrieve_fault is not None:
            raise self.retrieve_fault
        return next(each for each in self.intents.values() if each.provider_intent_id == provider_intent_id)

    async def find_intent(self, operation_id: str, *, created_after: datetime) -> ProviderIntent | None:
        """Look for an intent by the operation that created it."""
        assert created_after.tzinfo is not None
        await self._arrive("find", operation_id)
        if self.find_faults:
            raise self.find_faults.popleft()
        return self.intents.get(operation_id)

    async def aclose(self) -> None:
        """Close nothing."""

    async def _arrive(self, method: str, subject: str) -> None:
        async with self._arrived:
            self.calls.append((method, subject))
            self._arrived.notify_all()
        await asyncio.sleep(0)
        self.during_call()
        if self.refuses_calls:
            raise CallRefusedError(f"stripe:{method}_intent", 7.2)

    def _made(self, request: CreateIntent) -> ProviderIntent:
        number = len(self.intents) + 1
        return ProviderIntent(
            provider_intent_id=f"pi_{number}_{request.operation_id}",
            status=self.status,
            amount=request.amount,
            currency=request.currency,
            client_secret=f"pi_{number}_secret_planted",
            checkout_url=f"https://pay.example/{number}",
            provider_request_id=f"req_{number}",
        )
