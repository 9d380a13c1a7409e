"""What the store said last of a circuit, and what is left of it since."""

from __future__ import annotations

from collections.abc import Callable

from breaker._types import Mode, Permitted, Reason, Recorded, Refused, State, View

Said = Permitted | Refused | Recorded | View


class Known:
    """Keeps what the store said last, with the moment on this replica's own clock: what is said are durations.

    Args:
        clock: Returns monotonic seconds.

    Attributes:
        view: The last view; views alone tell of an operator's settings and of the number of replicas.
    """

    __slots__ = ("_at", "_last", "_moded", "_moded_at", "clock", "view")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._last: Said | None = None
        self._at = 0.0
        # The answer to a report says nothing of the mode.
        self._moded: Permitted | Refused | View | None = None
        self._moded_at = 0.0
        self.view: View | None = None

    def learn(self, said: Said) -> None:
        """Keep what was said; in strict consistency this is on the path of every call."""
        if isinstance(said, Recorded):
            if self._last is None or said.generation > self._last.generation:
                self._last, self._at = said, self.clock()
            return  # Otherwise the message of this very report came before its answer, and it says more.
        self._last = self._moded = said
        self._at = self._moded_at = self.clock()
        if isinstance(said, View):
            self.view = said

    @property
    def state(self) -> State:
        """The circuit's state."""
        return State.CLOSED if self._last is None else self._last.state

    @property
    def generation(self) -> int:
        """The circuit's generation."""
        return 0 if self._last is None else self._last.generation

    @property
    def last_error(self) -> str:
        """The last failure that was counted."""
        return self._last.last_error if isinstance(self._last, (Refused, View)) else ""

    @property
    def mode(self) -> Mode:
        """The operator's mode in force."""
        moded = self._moded
        if moded is None or (_mode_rest_ms(moded) and not self.mode_rest_ms):
            return Mode.AUTO
        return moded.mode

    @property
    def mode_rest_ms(self) -> int:
        """For how much longer the mode holds; 0 when it is over, or has no end."""
        if self._moded is None:
            return 0
        return max(0, _mode_rest_ms(self._moded) - round((self.clock() - self._moded_at) * 1000))

    def cooldown_rest_ms(self, cooldown_ms: int) -> int:
        """Tell for how much longer the circuit stays open; 0 when a probe may go out.

        Args:
            cooldown_ms: How long it is open when all that is known is that it has just opened.
        """
        last = self._last
        if isinstance(last, Refused):
            # Who may not probe is told that the cooldown is over by hearing that the circuit waits for a probe.
            is_over = last.reason is Reason.PROBING and last.state is State.OPEN
            rest_ms = 0 if is_over else last.retry_after_ms
        elif isinstance(last, View):
            rest_ms = last.retry_at_ms - last.now_ms
        else:
            rest_ms = cooldown_ms if isinstance(last, Recorded) and last.state is State.OPEN else 0
        return self._left(rest_ms)

    def probe_wait_seconds(self) -> float | None:
        """Tell how long a background probe should wait; None when the circuit needs none."""
        last = self._last
        if last is None or last.state is State.CLOSED:
            return None
        if isinstance(last, View):
            # Whatever an operator lets through meanwhile.
            until_ms = last.retry_at_ms if last.state is State.OPEN else last.probe_until_ms
            return self._left(until_ms - last.now_ms) / 1000
        # The answer to a report does not say for how long the circuit is open; whoever asks is told.
        return self.cooldown_rest_ms(0) / 1000

    def _left(self, rest_ms: int) -> int:
        return max(0, rest_ms - round((self.clock() - self._at) * 1000))


def _mode_rest_ms(said: Permitted | Refused | View) -> int:
    if isinstance(said, View):
        return said.mode_until_ms - said.now_ms if said.mode_until_ms else 0
    return said.mode_rest_ms
