"""What can go wrong, typed, with the facts as attributes so that nobody has to read the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from breaker._types import Mode, Reason, Refused, State


class BreakerError(Exception):
    """The base of this library's own errors; a misuse may raise `ValueError` or `TypeError` as well."""


class CallNotPermittedError(BreakerError):
    """The call was not made, because its circuit lets no call through now."""

    # Made for every refused call of an outage, so it does nothing but keep what it is given, as `BaseException` does.
    args: tuple[str, Refused, float]

    if TYPE_CHECKING:

        def __init__(self, breaker: str, refused: Refused, rest_seconds: float) -> None: ...

    @property
    def breaker(self) -> str:
        """The circuit's name."""
        return self.args[0]

    @property
    def retry_after_seconds(self) -> float:
        """After how many seconds asking again makes sense; 0 or more.

        It is the rest of the cooldown, of the first probe's lease, of the ramp or of the mode; the cooldown for a mode
        without an end; a second while the store is away and `on_store_error` is `refuse`. A probe may close the circuit
        before that, and a ramp lets some calls through all the time.
        """
        # What is refused until further notice names a pause, and no end.
        return max(0.0, min(self.args[2], self._refused.retry_after_ms / 1000))

    @property
    def _refused(self) -> Refused:
        return self.args[1]

    @property
    def state(self) -> State:
        """The circuit's state."""
        return self._refused.state

    @property
    def reason(self) -> Reason:
        """Why the call was refused."""
        return self._refused.reason

    @property
    def last_error(self) -> str:
        """The last failure that was counted, in the words of `describe_error`; empty if there was none."""
        return self._refused.last_error

    @property
    def generation(self) -> int:
        """The circuit's generation."""
        return self._refused.generation

    @property
    def mode(self) -> Mode:
        """The operator's mode in force."""
        return self._refused.mode

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
    """The shared store did not answer in time, or is known to be away.

    Raised by a store's own methods, such as `control` and `snapshot`, and never by a guarded call. What a driver raised
    is chained.
    """


class ScriptError(StoreUnavailableError):
    """The store answered with an error of a script, or with something that this version does not understand.

    A newer version may have written it, or a hand; only that circuit is affected, and the store does not count as away.
    """


class ConfigError(BreakerError, ValueError):
    """A name, a configuration, a URL or a setting that makes no sense; the message says which."""
