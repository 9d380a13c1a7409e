"""What can go wrong, typed, with the facts as attributes so that nobody has to read the text."""

from __future__ import annotations

from breaker._types import Mode, Refused, State


class BreakerError(Exception):
    """The base of everything that this library raises."""


class CallNotPermittedError(BreakerError):
    """The call was not made, because its circuit lets no call through now.

    Attributes:
        breaker: The circuit's name.
        state: The circuit's state.
        reason: `open`, `probing`, `forced_open`, or `store_unavailable` (with `on_store_error="refuse"`).
        retry_after_seconds: When a call may be let through again, at the earliest.
        last_error: The class of the last failure that was counted, or an empty text.
        generation: The circuit's generation.
        mode: The operator's mode in force.
    """

    def __init__(self, breaker: str, refused: Refused) -> None:
        super().__init__(breaker, refused)
        self.breaker = breaker
        self.state: State = refused.state
        self.reason = refused.reason
        self.retry_after_seconds = refused.retry_after_ms / 1000
        self.last_error = refused.last_error
        self.generation = refused.generation
        self.mode: Mode = refused.mode

    def __str__(self) -> str:
        """Say which circuit, why, and when to try again."""
        last = f", last error {self.last_error}" if self.last_error else ""
        return f"{self.breaker} is {self.reason}{last}; retry in {self.retry_after_seconds:.1f} s"


class CallTimeoutError(BreakerError, TimeoutError):
    """The breaker's own call timeout passed; the call was cancelled and counted as a failure.

    Attributes:
        breaker: The circuit's name.
        timeout_seconds: The timeout that passed.
    """

    def __init__(self, breaker: str, timeout_seconds: float) -> None:
        super().__init__(breaker, timeout_seconds)
        self.breaker = breaker
        self.timeout_seconds = timeout_seconds

    def __str__(self) -> str:
        """Say which circuit and how long it waited."""
        return f"{self.breaker}: no answer within {self.timeout_seconds:g} s"


class StoreUnavailableError(BreakerError):
    """The shared store did not answer in time; the cause is chained."""


class ScriptError(StoreUnavailableError):
    """The store answered something that this version does not understand: a fault of the library."""


class ConfigError(BreakerError, ValueError):
    """A breaker was configured with nonsense; raised at construction."""
