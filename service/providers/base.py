"""The port to a payment provider: what the service asks, and every kind of answer there is.

An answer belongs to one of three families, never two: a definite yes (`ProviderIntent`), a definite no (`Declined`,
or a `ProviderError` with `executed=NO`), and unknown (`executed=UNKNOWN`): the provider may or may not have done it.
Whoever calls must treat the third as neither of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class ProviderOperation(StrEnum):
    """What can be asked of a provider; each has a circuit of its own, named `PROVIDER:OPERATION`."""

    CREATE_INTENT = "create_intent"
    RETRIEVE_INTENT = "retrieve_intent"
    FIND_INTENT = "find_intent"


class ProviderStatus(StrEnum):
    """Where a payment intent stands at the provider, in words that no provider owns."""

    REQUIRES_ACTION = "requires_action"  # the payer has something to do
    PROCESSING = "processing"  # submitted, the answer comes later
    AUTHORIZED = "authorized"  # the money is held and can be captured
    CAPTURED = "captured"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateIntent:
    """One request to create a payment intent whose money is held, not taken.

    Attributes:
        operation_id: Our operation's id. It is the provider's idempotency key, unchanged on every repeat.
        intent_id: Our public intent id; with the operation id it is stored at the provider, so that both can be found.
        amount: Integer minor units, above zero.
        currency: ISO 4217, upper case.
        return_url: Where the payer comes back to; at most 500 characters, which is what providers store.
    """

    operation_id: str
    intent_id: str
    amount: int
    currency: str
    return_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderIntent:
    """A payment intent as the provider describes it: a definite yes."""

    provider_intent_id: str
    status: ProviderStatus
    amount: int
    currency: str
    client_secret: str | None = None
    checkout_url: str | None = None
    amount_authorized: int = 0
    amount_captured: int = 0
    provider_request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """The payer's instrument was refused: a result, not an error, and a sign that the provider is healthy."""

    code: str
    decline_code: str | None = None
    provider_request_id: str | None = None


class Executed(StrEnum):
    """Whether the provider carried out what failed."""

    NO = "not_executed"
    UNKNOWN = "unknown"


class Health(StrEnum):
    """What a failed call says about the provider's health; a breaker counts it as that."""

    SICK = "sick"
    HEALTHY = "healthy"
    SAYS_NOTHING = "says_nothing"


class FailureKind(StrEnum):
    """Why a call to the provider gave no answer to act on."""

    UNREACHABLE = "unreachable"  # no connection: refused, DNS, connect timeout
    TIMED_OUT = "timed_out"
    CONNECTION_LOST = "connection_lost"  # reset, closed early, cut body
    SERVER_ERROR = "server_error"
    REPLAYED_ERROR = "replayed_error"  # a stored 5xx of an earlier attempt with the same key
    RATE_LIMITED = "rate_limited"
    BAD_RESPONSE = "bad_response"  # an answer that is not the provider's, or not about our intent
    KEY_IN_USE = "key_in_use"  # another attempt with the same key is still running
    KEY_REUSED = "key_reused"  # same key, other parameters: our bug
    CREDENTIALS_REFUSED = "credentials_refused"
    REQUEST_REFUSED = "request_refused"  # the provider understood and will not do it
    OVERLOADED = "overloaded"  # our own connection pool is exhausted


class ProviderError(Exception):
    """A call to the provider failed.

    Attributes:
        kind: Why, for logs, metrics and the choice of the HTTP answer.
        executed: Whether the effect may have happened.
        health: What it says about the provider.
        retry_same_key: Whether a repeat with the same key can help.
        retry_after_seconds: How long the provider asked us to wait, if it did.
        code: The provider's own error code, if it gave one.
        provider_request_id: The provider's name for the request, for its support.
    """

    def __init__(
        self,
        kind: FailureKind,
        *,
        executed: Executed,
        health: Health,
        retry_same_key: bool = False,
        retry_after_seconds: float | None = None,
        code: str | None = None,
        provider_request_id: str | None = None,
    ) -> None:
        super().__init__(kind, executed, code)
        self.kind = kind
        self.executed = executed
        self.health = health
        self.retry_same_key = retry_same_key
        self.retry_after_seconds = retry_after_seconds
        self.code = code
        self.provider_request_id = provider_request_id

    def __str__(self) -> str:
        """Name the kind, whether it was executed and the provider's code, on one line."""
        return f"{self.kind} ({self.executed}{', ' + self.code if self.code else ''})"


class CallRefusedError(Exception):
    """The provider was not called, because its circuit does not let calls through.

    Attributes:
        circuit: The circuit's name, such as `stripe:create_intent`.
        retry_after_seconds: When a call may be let through again.
        reason: Why the circuit lets none through, in its own word.
    """

    def __init__(self, circuit: str, retry_after_seconds: float, *, reason: str = "open") -> None:
        super().__init__(f"{circuit} is {reason}")
        self.circuit = circuit
        self.retry_after_seconds = retry_after_seconds
        self.reason = reason


class Provider(Protocol):
    """A payment provider. The adapters implement it, and so does the wrapper that guards any of them.

    Every method raises `ProviderError` when no answer came that can be acted on, and `CallRefusedError` (the guarded
    wrapper only) when the provider was not called.
    """

    @property
    def name(self) -> str:
        """The provider's name, the first half of its circuits' names."""
        ...

    async def peek(self, operation: ProviderOperation) -> CallRefusedError | None:
        """Tell whether a call would be refused now; calls nothing and changes nothing."""
        ...

    async def create_intent(self, request: CreateIntent) -> ProviderIntent | Declined:
        """Create an intent with manual capture; the same `operation_id` never creates a second one."""
        ...

    async def retrieve_intent(self, provider_intent_id: str) -> ProviderIntent:
        """Read one intent."""
        ...

    async def find_intent(self, operation_id: str, *, created_after: datetime) -> ProviderIntent | None:
        """Look for the intent that an operation created, by the operation id stored with it.

        Args:
            operation_id: The operation whose outcome is unknown.
            created_after: When the operation was first sent, less a margin for clocks.

        Returns:
            The intent, or None when the provider has none for this operation (yet).
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...
