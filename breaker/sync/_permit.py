"""Leave to make one call, in the caller's hands: for calls that are not one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from breaker import _fork as fork
from breaker._call import Call
from breaker._judge import Judge, Verdict
from breaker._types import Outcome, State
from breaker.sync._deadlines import Deadlines
from breaker.sync._link import Link


class Permit:
    """Leave to make one call, to be settled once; whatever comes after the first settling does nothing.

    A probe that is never settled keeps its place until its lease lapses. A permit has no deadline of its own: whoever
    holds it bounds the call, and settles one that took too long as a failure. A call that hangs is counted as slow all
    the same, if the policy counts slow calls. Any thread may settle it. It belongs to the process that was given it: in
    a forked child settling it does nothing.
    """

    __slots__ = ("_call", "_judge", "_link", "_number", "_process", "_settled", "_slow")

    def __init__(self, call: Call, link: Link, judge: Judge, slow: Deadlines[Callable[[], None]]) -> None:
        self._call = call
        self._link = link
        self._judge = judge
        self._process = fork.depth()
        self._settled = False
        self._slow = slow
        # Not at all where nothing is slow: a permit that nobody settles would be kept for ever.
        self._number = slow.begin(self._mark_slow) if slow.watches else -1

    @property
    def state(self) -> State:
        """The circuit's state when the permit was issued; `HALF_OPEN` makes the call a probe."""
        return self._call.permit.state

    @property
    def generation(self) -> int:
        """The circuit's generation when the permit was issued."""
        return self._call.permit.generation

    def settle(self, verdict: Verdict, error: BaseException | str | None = None) -> None:
        """Say how the call ended.

        Args:
            verdict: How; an `Outcome`, or `OpenFor` when the dependency said how long to stay away.
            error: What went wrong, for the record's `last_error`: the exception, or a word of your own.
        """
        if self._process != fork.depth():
            return  # Another thread of the parent may have had its turn at the fork, so not even a lock is taken.
        settled = True
        try:
            with self._link.turn.lock:
                settled, self._settled = self._settled, True
            if not settled:
                self._slow.end(self._number)
                self._link.settle(self._call, verdict, error)
        except BaseException:
            if not settled:
                self._link.give_back(self._call)  # Interrupted. Nobody else settles it now.
            raise

    def returned(self, result: Any) -> None:
        """Say that the call returned; `classify_result` tells what that means."""
        if not self._settled:  # Or the classifier would be asked for nothing.
            self.settle(self._judge.of_result(result))

    def raised(self, error: BaseException) -> None:
        """Say that the call raised; `classify_error` tells what that means, and an interruption counts as nothing."""
        if not self._settled:
            verdict: Verdict = Outcome.IGNORED  # Where the classifier is interrupted.
            try:
                verdict = self._judge.of_error(error)
            finally:
                self.settle(verdict, error)

    def _mark_slow(self) -> None:
        self._link.turn.take(self._mark_unless_settled)

    def _mark_unless_settled(self) -> None:
        self._settled = self._settled or self._link.mark_slow(self._call)
