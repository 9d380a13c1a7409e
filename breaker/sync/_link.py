"""Between a circuit and its store, for threads: asks, reports, and waits no longer than it must."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from breaker._call import Call, Issuer
from breaker._circuit import Circuit
from breaker._errors import CallNotPermittedError, ScriptError, StoreUnavailableError
from breaker._judge import Judge, Verdict
from breaker._types import Outcome, Recorded, Report, Reporting, View
from breaker.sync._store import Store
from breaker.sync._turn import Turn


class Link:
    """Between a circuit and its store.

    Args:
        circuit: This replica's side of the circuit.
        store: Where the circuit lives.
        judge: Says what a call's end means.
        turn: Lets one thread at a time at the circuit; nobody waits for the store in it.
        leaves_probing: Whether callers are never probes, because a background probe is.

    Attributes:
        news: Called whenever something was learnt of the circuit.
    """

    def __init__(self, circuit: Circuit, store: Store, judge: Judge, turn: Turn, *, leaves_probing: bool) -> None:
        self.turn = turn
        self.news: Callable[[], None] = lambda: None
        self._circuit = circuit
        self._store = store
        self._timers = store.timers
        self._judge = judge
        self._leaves_probing = leaves_probing
        self._flushes = False
        self._unsent: deque[Report] = deque()

    def admit(self) -> Call:
        """Return leave to make one call.

        Raises:
            CallNotPermittedError: No call goes through now.
        """
        call = self.turn.take(self._circuit.admit)
        return call or self.ask()

    def settle(self, call: Call, verdict: Verdict, error: BaseException | str | None = None) -> None:
        """Settle a call, and wait until the store knows what it has to know before the caller goes on."""
        try:
            word = self._judge.describe(error)
            report = self.turn.take(self._circuit.settle, call, verdict, word)
            self._flush_later()
            if report is None:
                self.news()
            elif call.issuer is Issuer.MIRROR and report.outcome is Outcome.SUCCESS:
                self._send_later(report)
            else:
                # Waited for, so that the failure that trips has tripped the fleet before its caller is answered.
                self._report(report)
        except BaseException:
            # Interrupted, perhaps before anything was on its way. The next success ends the run.
            self._circuit.settling.resetting = False
            raise

    def give_back(self, call: Call) -> None:
        """Give a probe's place back, when its end was interrupted; stale where the store knows of that end already."""
        if call.issuer is Issuer.STORE and call.permit.reporting is Reporting.ALL:
            self._send_later(self._circuit.reports.of(call, Outcome.IGNORED))

    def mark_slow(self, call: Call) -> bool:
        """Count a call that still hangs as slow; True when that settled it."""
        report = self.turn.take(self._circuit.mark_slow, call)
        self._flush_later()
        if report is not None:
            self._send_later(report)
        return call.permit.reporting is Reporting.ALL

    def peek(self) -> CallNotPermittedError | None:
        """Tell whether a call would be refused now."""
        decided, refused = self.turn.take(self._circuit.peek_here)
        if decided:
            return refused
        try:
            seen = self._store.snapshot(self._circuit.name)
        except StoreUnavailableError:
            return self.turn.take(self._circuit.peek_away)
        return self.turn.take(self._circuit.peek, seen)

    def close(self) -> None:
        """Report what waits."""
        self._flush()
        self._send_unsent()

    def ask(self, *, in_background: bool = False) -> Call:
        """Ask the store for leave to make one call, where what is known here does not decide.

        Args:
            in_background: Whether this is the background probe asking; where there is one, no caller becomes a probe.

        Raises:
            CallNotPermittedError: No call goes through now.
        """
        self._follow()
        permit_id = self._circuit.replica.permit_id()
        try:
            return self._ask(permit_id, in_background=in_background)
        except CallNotPermittedError:
            raise
        except BaseException:
            # Interrupted. The script may have given this call a probe's place, and nobody takes its answer.
            self._send_later(self._circuit.reports.given_back_unseen(permit_id))
            raise

    def _ask(self, permit_id: str, *, in_background: bool) -> Call:
        circuit = self._circuit
        asked_at = circuit.mirror.newest
        may_probe = in_background or not self._leaves_probing
        try:
            reply = self._store.acquire(
                circuit.name, permit_id, circuit.limits, circuit.replica.id, may_probe=may_probe
            )
        except Exception as error:
            self.turn.take(self._failed, error)
            try:
                return self.turn.take(circuit.unanswered, permit_id, in_background=in_background)
            finally:
                self.news()
        try:
            return self.turn.take(circuit.answered, permit_id, reply, asked_at, in_background=in_background)
        finally:
            self.news()

    def _follow(self) -> None:
        if self._circuit.must_follow:
            self.turn.take(self._follow_once)

    def _follow_once(self) -> None:
        if self._circuit.must_follow:
            self._store.follow(self._circuit.name, self._see)
            self._circuit.must_follow = False

    def _see(self, view: View | None) -> None:
        self.turn.take(self._circuit.see, view)
        self.news()

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
        circuit, asked_at = self._circuit, self._circuit.mirror.newest
        try:
            recorded = self._store.record(circuit.name, report, circuit.limits)
            if circuit.begins_anew(report, recorded):
                recorded = self._record_anew(report)
        except Exception as error:
            self.turn.take(self._failed, error, in_a_report=True)
            self.turn.take(circuit.undelivered, report)
        except BaseException:
            # Interrupted. It may have arrived or not; told twice it counts once.
            self._send_later(report)
            raise
        else:
            self.turn.take(circuit.delivered, report, recorded, asked_at)
        finally:
            circuit.settling.resetting = False
        self.news()

    def _record_anew(self, report: Report) -> Recorded:
        """Report to a circuit that the store has forgotten or has gone back in."""
        circuit = self._circuit
        permit = self._store.acquire(
            circuit.name, report.permit_id, circuit.limits, circuit.replica.id, may_probe=False
        )
        return self._store.record(circuit.name, replace(report, generation=permit.generation), circuit.limits)

    def _failed(self, error: Exception, *, in_a_report: bool = False) -> None:
        """Say what the store's own guard does not say already."""
        if isinstance(error, ScriptError) or not isinstance(error, StoreUnavailableError):
            self._circuit.misunderstood(error, in_a_report=in_a_report)

    def _flush_later(self) -> None:
        if self._circuit.reports.are_waiting and not self._flushes:
            self._flushes = True
            try:
                self._timers.after(self._circuit.config.flush_seconds, self._flush)
            except BaseException:
                self._flushes = False  # Interrupted. The next call makes up for it.
                raise

    def _flush(self) -> None:
        self._flushes = False
        report = self.turn.take(self._circuit.reports.flush)
        if report is not None:
            self._report(report)
