"""Between a circuit and its store, for threads: asks, reports, and waits no longer than it must."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from breaker._circuit import Call, Circuit, Issuer
from breaker._errors import CallNotPermittedError, StoreUnavailableError
from breaker._judge import Judge, Verdict
from breaker._types import Outcome, Recorded, Report, View
from breaker.sync._store import Store
from breaker.sync._timers import started
from breaker.sync._turn import Turn

_log = logging.getLogger("breaker")

# A background probe that was told to come back at once waits this long all the same.
_SHORTEST_WAIT_SECONDS = 0.01
# One for which the process could start no thread.
_NO_THREAD_SECONDS = 1.0


class Link:
    """Between a circuit and its store.

    Args:
        circuit: This replica's side of the circuit.
        store: Where the circuit lives.
        judge: Says what a call's end means.
        turn: Lets one thread at a time at the circuit; nobody waits for the store in it.
        follows: Whether the store is to tell of changes.
        probe: Makes a call with the permit it is given, once the cooldown has passed, so that no caller is the probe.
    """

    def __init__(
        self,
        circuit: Circuit,
        store: Store,
        judge: Judge,
        turn: Turn,
        *,
        follows: bool,
        probe: Callable[[Call], None] | None,
    ) -> None:
        self.turn = turn
        self._circuit = circuit
        self._store = store
        self._timers = store.timers
        self._judge = judge
        self._must_follow = follows
        self._probe = probe
        self._is_looked_after = False
        self._flushes = False
        self._closed = False
        self._unsent: deque[Report] = deque()

    def admit(self) -> Call:
        """Return leave to make one call.

        Raises:
            CallNotPermittedError: No call goes through now.
        """
        with self.turn:
            call = self._circuit.admit()
        return call or self._ask(may_probe=self._probe is None)

    def settle(self, call: Call, verdict: Verdict, error: BaseException | str | None = None) -> None:
        """Settle a call, and wait until the store knows what it has to know before the caller goes on."""
        word = self._judge.describe(error)
        with self.turn:
            report = self._circuit.settle(call, verdict, word)
        self._flush_later()
        if report is None:
            return
        if call.issuer is Issuer.MIRROR and report.outcome is Outcome.SUCCESS:
            self._send_later(report)
        else:
            # Waited for, so that the failure that trips has tripped the fleet before its caller is answered.
            self._report(report)

    def mark_slow(self, call: Call) -> bool:
        """Count a call that still hangs as slow; True when that settled it."""
        with self.turn:
            report = self._circuit.mark_slow(call)
        self._flush_later()
        if report is not None:
            self._send_later(report)
        return report is not None

    def peek(self) -> CallNotPermittedError | None:
        """Tell whether a call would be refused now."""
        with self.turn:
            decided, refused = self._circuit.peek_here()
        if decided:
            return refused
        try:
            seen = self._store.snapshot(self._circuit.name)
        except StoreUnavailableError:
            with self.turn:
                return self._circuit.peek_away()
        return self._circuit.peek(seen)

    def close(self) -> None:
        """End the background probe, and report what waits."""
        self._closed = True
        self._flush()
        self._send_unsent()

    def _ask(self, *, may_probe: bool) -> Call:
        circuit = self._circuit
        self._follow()
        permit_id = next(circuit.permit_ids)
        try:
            reply = self._store.acquire(
                circuit.name, permit_id, circuit.limits, circuit.replica_id, may_probe=may_probe
            )
        except Exception as error:
            if not isinstance(error, StoreUnavailableError):
                _log.exception("%s: the store failed in a way that it should not", circuit.name)
            with self.turn:
                return circuit.unanswered(permit_id)
        except BaseException:
            # Interrupted. The script may have run and given this call a probe's place, whose answer nobody waits for.
            self._send_later(circuit.given_back_unseen(permit_id))
            raise
        try:
            with self.turn:
                return circuit.answered(permit_id, reply)
        finally:
            self._look_after()

    def _follow(self) -> None:
        if self._must_follow:
            with self.turn:
                must_follow, self._must_follow = self._must_follow, False
            if must_follow:
                self._store.follow(self._circuit.name, self._see)

    def _see(self, view: View | None) -> None:
        with self.turn:
            self._circuit.see(view)
        self._look_after()

    def _send_later(self, report: Report) -> None:
        """Report without waiting for it."""
        self._unsent.append(report)
        self._timers.after(0, self._send_unsent)

    def _send_unsent(self) -> None:
        while self._unsent:
            try:
                report = self._unsent.popleft()
            except IndexError:
                return  # Another thread has just sent it.
            self._report(report)

    def _report(self, report: Report) -> None:
        circuit = self._circuit
        try:
            recorded = self._store.record(circuit.name, report, circuit.limits)
            if recorded.generation == 0 and circuit.begins_anew(report):
                recorded = self._record_anew(report)
        except Exception as error:
            if not isinstance(error, StoreUnavailableError):
                _log.exception("%s: a report was lost", circuit.name)
            with self.turn:
                circuit.undelivered(report)
            return
        with self.turn:
            circuit.delivered(report, recorded)
        self._look_after()

    def _record_anew(self, report: Report) -> Recorded:
        """Report to a circuit that the store has forgotten; such a report is not late, it is what finds out."""
        circuit = self._circuit
        permit = self._store.acquire(
            circuit.name, report.permit_id, circuit.limits, circuit.replica_id, may_probe=False
        )
        return self._store.record(circuit.name, replace(report, generation=permit.generation), circuit.limits)

    def _flush_later(self) -> None:
        if self._circuit.flush_due and not self._flushes:
            self._flushes = True
            self._timers.after(self._circuit.config.flush_seconds, self._flush)

    def _flush(self) -> None:
        self._flushes = False
        with self.turn:
            report = self._circuit.flush()
        if report is not None:
            self._report(report)

    def _look_after(self) -> None:
        """Make sure that somebody probes when the time comes."""
        if self._probe is None:
            return
        with self.turn:
            if self._is_looked_after or self._circuit.probe_wait_seconds() is None:
                return
            self._is_looked_after = True
        self._probe_later()

    def _probe_later(self) -> None:
        with self.turn:
            wait_seconds = self._circuit.probe_wait_seconds()
            self._is_looked_after = wait_seconds is not None
        if wait_seconds is not None:
            self._timers.after(max(wait_seconds, _SHORTEST_WAIT_SECONDS), self._try_to_probe)

    def _try_to_probe(self) -> None:
        """Compete for the probe's place."""
        if self._closed:
            return
        try:
            call = self._ask(may_probe=True)
        except CallNotPermittedError as refused:
            self._timers.after(max(refused.retry_after_seconds, _SHORTEST_WAIT_SECONDS), self._probe_later)
            return
        if started(lambda: self._make_probe(call), f"breaker-probe-{self._circuit.name}") is None:
            self.settle(call, Outcome.IGNORED)
            self._timers.after(_NO_THREAD_SECONDS, self._probe_later)

    def _make_probe(self, call: Call) -> None:
        assert self._probe is not None  # noqa: S101 - otherwise nobody is looked after
        try:
            self._probe(call)
        finally:
            self._probe_later()
