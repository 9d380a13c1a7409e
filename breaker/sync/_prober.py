"""The background probe of a breaker for threads: finds out whether the dependency is back, so that no caller has to."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from breaker._call import Call
from breaker._circuit import Circuit
from breaker._errors import CallNotPermittedError
from breaker._judge import Verdict
from breaker._types import Outcome, Reporting
from breaker.sync._permit import Permit
from breaker.sync._threads import started
from breaker.sync._timers import Timers
from breaker.sync._turn import Turn

# How long it waits at least; a probe that decided nothing, or for which no thread could be started, has to wait longer.
_SHORTEST_WAIT_SECONDS = 0.01
_PAUSE_SECONDS = 1.0
# And at most: a store may tell nothing of what an operator changes.
_LONGEST_WAIT_SECONDS = 60.0


class Prober:
    """Competes for the probe's place each time that it may be free, and makes the call that finds out.

    Args:
        circuit: The circuit.
        turn: Lets one thread at a time at it.
        timers: Where it waits.
        ask: Asks for leave to make the call.
        permit_of: Makes a permit of what was granted.
        probe: Makes the call, settles the permit, and returns how the call ended.
    """

    def __init__(
        self,
        circuit: Circuit,
        turn: Turn,
        timers: Timers,
        *,
        ask: Callable[[], Call],
        permit_of: Callable[[Call], Permit],
        probe: Callable[[Permit], Verdict],
    ) -> None:
        self._circuit = circuit
        self._turn = turn
        self._timers = timers
        self._ask = ask
        self._permit_of = permit_of
        self._probe = probe
        # When it looks at the circuit next, and before when it does not.
        self._due = math.inf
        self._not_before = 0.0
        self._not_while: tuple[object, ...] = ()
        self._is_out = False
        self._permit: Permit | None = None
        self._closed = False

    def look(self) -> None:
        """Look at the circuit, of which there is news: whether it has to be probed, and when."""
        with self._turn.lock:
            wait_seconds = None if self._closed or self._is_out else self._circuit.probe_wait_seconds()
            if self._not_while not in {(), self._circumstances()}:
                self._not_before, self._not_while = 0.0, ()
            if wait_seconds is not None:
                self._come_within(wait_seconds)

    def close(self) -> None:
        """End it for good, and give back the place of a probe that is out."""
        with self._turn.lock:
            self._closed = True
            permit = self._permit
        if permit is not None:
            permit.settle(Outcome.IGNORED)

    def _come_within(self, seconds: float) -> None:
        now = self._timers.now()
        seconds = min(max(seconds, _SHORTEST_WAIT_SECONDS, self._not_before - now), _LONGEST_WAIT_SECONDS)
        due = now + seconds
        # Who comes earlier looks again.
        if due < self._due:
            # In this order: an interruption between the two must not leave a time at which nobody comes.
            self._timers.after(seconds, functools.partial(self._come, due))
            self._due = due

    def _come(self, due: float) -> None:
        with self._turn.lock:
            if due != self._due or self._closed:
                return  # Another time was set since.
            self._due = math.inf
            wait_seconds = self._circuit.probe_wait_seconds()
            if wait_seconds is None:
                return
            if 0 < wait_seconds < _LONGEST_WAIT_SECONDS:
                self._come_within(wait_seconds)
                return
            self._is_out = True
        self._find_out()

    def _find_out(self) -> None:
        try:
            call = self._ask()
        except CallNotPermittedError:
            self._rest(0.0)
            return
        except BaseException:
            self._rest(_PAUSE_SECONDS)
            raise
        if call.permit.reporting is not Reporting.ALL:
            # Everything goes through, so that nothing can be found out; whoever ends that makes news.
            self._not_while = self._circumstances()
            self._rest(self._circuit.limits.cooldown_ms / 1000)
            return
        permit = self._permit_of(call)
        with self._turn.lock:
            self._permit = permit
        if self._closed:
            permit.settle(Outcome.IGNORED)  # It was closed while the place was asked for, and did not see this.
        elif started(functools.partial(self._run, permit), f"breaker-probe-{self._circuit.name}") is None:
            permit.settle(Outcome.IGNORED)
            self._rest(_PAUSE_SECONDS)

    def _run(self, permit: Permit) -> None:
        if self._closed:
            return  # Before this thread ran; the place has been given back.
        verdict: Verdict = Outcome.IGNORED
        try:
            verdict = self._probe(permit)
        finally:
            permit.settle(Outcome.IGNORED)  # Where a classifier has ended the thread, say.
            # If it decided nothing its place is free again, and the same would come out at once.
            self._rest(_PAUSE_SECONDS if verdict is Outcome.IGNORED else 0.0)

    def _circumstances(self) -> tuple[object, ...]:
        known = self._circuit.known
        return known.generation, known.mode, self._circuit.guard

    def _rest(self, seconds: float) -> None:
        with self._turn.lock:
            self._is_out, self._permit = False, None
            self._not_before = self._timers.now() + seconds
        self.look()
