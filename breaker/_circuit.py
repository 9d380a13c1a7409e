"""One replica's side of one circuit: everything but the waiting.

Who may go on by what is known here, what a call's end means, what has to be told to the store and what its answers
change. No I/O and no clock of its own, so that tasks (`_breaker`) and threads (`sync`) share it.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto

from breaker import _machine
from breaker._account import Account
from breaker._config import BreakerConfig, check_name
from breaker._errors import CallNotPermittedError
from breaker._events import EventKind, Listener, Status
from breaker._judge import Verdict
from breaker._local import Isolation, LocalLayer
from breaker._mirror import MirroredCircuit
from breaker._tally import Tally
from breaker._types import (
    Mode,
    OpenFor,
    Outcome,
    Permitted,
    Recorded,
    Refused,
    Report,
    Reporting,
    State,
    Transition,
    View,
)

_log = logging.getLogger("breaker")


class Issuer(Enum):
    """Who gave a permit, and so has to hear how the call ended."""

    STORE = auto()
    MIRROR = auto()
    LOCAL = auto()
    ISOLATION = auto()


@dataclass(slots=True)
class Call:
    """One permitted call.

    Attributes:
        counted: Whether a rate has counted it already, because it was slow.
    """

    permit_id: str
    permit: Permitted
    issuer: Issuer
    counted: bool = False


class Circuit:
    """One replica's side of one circuit.

    Args:
        name: The circuit's name.
        config: The breaker's configuration.
        replica_id: Who this replica is.
        listeners: Called with each event.
        leaves_probing: Whether callers are never probes, because a background probe is.
        hears_results: Whether a returned value can be anything but a success.

    Attributes:
        permit: What every call gets now without asking; None when more has to be looked at.
        hears_successes: Whether a call that was permitted at once and returned has to be settled now.
        resetting: Whether the report that ends a run of failures is on its way.

    Raises:
        ConfigError: The name cannot be one.
    """

    def __init__(
        self,
        name: str,
        config: BreakerConfig,
        *,
        replica_id: str,
        listeners: Iterable[Listener] = (),
        leaves_probing: bool = False,
        hears_results: bool = False,
    ) -> None:
        self.name = check_name(name)
        self.config = config
        self.limits = config.limits()
        self.replica_id = replica_id
        self.leaves_probing = leaves_probing
        self.local = LocalLayer(config)
        self.mirror = MirroredCircuit(self.limits, may_probe=not leaves_probing)
        self.isolation = Isolation(self.limits) if config.minimum_reporters > 1 else None
        self.permit: Permitted | None = None
        self.hears_successes = hears_results
        self._hears_results = hears_results
        self._only_gathers = not (hears_results or self.limits.consecutive or self.isolation)
        self.resetting = False
        # A random beginning keeps the permits of two processes apart, a counter those of one process.
        self.permit_ids = map(f"{os.urandom(6).hex()}-{{}}".format, itertools.count(1))
        self._account = Account(self.name, listeners)
        self._tally = Tally()
        self._other_configs: set[str] = set()
        self._last: Permitted | Refused | Recorded | View | None = None
        self._mode = Mode.AUTO
        # While the store is away the local layer decides, although the copy may not be known to be old yet.
        self._is_away = False

    # Asking.

    def admit(self) -> Call | None:
        """Decide by what is known here; None when the store has to be asked.

        Raises:
            CallNotPermittedError: No call goes through now.
        """
        if self.isolation is not None and self.isolation.active:
            permit_id = next(self.permit_ids)
            return Call(permit_id, self._let(self.isolation.acquire(permit_id), local=True), Issuer.ISOLATION)
        if self.permit is None:
            rest_seconds = self.refusing_seconds()
            if self.mirror.refused is not None:
                raise CallNotPermittedError(self.name, self.mirror.refused, rest_seconds)
        return Call(next(self.permit_ids), self.permit, Issuer.MIRROR) if self.permit else None

    def refusing_seconds(self) -> float:
        """Return for how many seconds more a call gets `mirror.refused`, 0 when there is none; counts a refusal."""
        rest_seconds = self.mirror.refusing_seconds()
        refused = self.mirror.refused
        if refused is None:
            self._open_door()
        elif refused is self._account.refusing:
            self._account.refusals += 1
        else:
            self._account.refuse(refused)
        return rest_seconds

    def permitted(self, permit: Permitted) -> Call:
        """Return the call that was permitted at once."""
        return Call(next(self.permit_ids), permit, Issuer.MIRROR)

    def answered(self, permit_id: str, reply: Permitted | Refused) -> Call:
        """Take the store's answer.

        Raises:
            CallNotPermittedError: It said no.
        """
        self._learn(reply)
        return Call(permit_id, self._let(reply, local=False), Issuer.STORE)

    def unanswered(self, permit_id: str) -> Call:
        """Decide without the store, which is away.

        Raises:
            CallNotPermittedError: The local layer said no.
        """
        return Call(permit_id, self._let(self.local.acquire(permit_id), local=True), Issuer.LOCAL)

    def peek(self, seen: View | None) -> CallNotPermittedError | None:
        """Tell whether a view that was read says that a call would be refused."""
        if seen is None:
            return None
        limits = self.limits.with_settings(seen.settings)
        return self._error(_machine.refusal(seen, limits, may_probe=not self.leaves_probing))

    def peek_away(self) -> CallNotPermittedError | None:
        """Tell whether a call would be refused while the store is away."""
        return self._error(self.local.refusal())

    def peek_here(self) -> tuple[bool, CallNotPermittedError | None]:
        """Tell whether what is known here decides, and if so whether a call would be refused."""
        if self.isolation is not None and self.isolation.active:
            return True, self._error(self.isolation.refusal())
        rest_seconds = self.mirror.refusing_seconds()
        if self.mirror.refused is not None:
            return True, CallNotPermittedError(self.name, self.mirror.refused, rest_seconds)
        self._open_door()
        return self.permit is not None, None

    def given_back_unseen(self, permit_id: str) -> Report:
        """Give back a place that a lost answer may have granted."""
        return Report(permit_id=permit_id, generation=0, outcome=Outcome.IGNORED, replica_id=self.replica_id)

    # Settling.

    def settle(self, call: Call, verdict: Verdict, error: str = "") -> Report | None:
        """Settle a call; returns what has to be reported now, if anything. `flush_due` tells of what may wait."""
        if self.isolation is None and isinstance(verdict, Outcome) and not call.permit.reporting.wants(verdict):
            return None
        report = self._report(call, verdict, error)
        if call.issuer is Issuer.LOCAL:
            if call.permit.reporting.wants(report.outcome):
                self._account.note(self.local.record(report), local=True)
            return None
        if call.issuer is Issuer.ISOLATION and self.isolation is not None:
            return self._settle_isolated(self.isolation, report)
        return self._to_report(call, self._watched(report))

    def _to_report(self, call: Call, report: Report) -> Report | None:
        """Tell what of a report on a permit of the fleet's has to be sent now."""
        if not report.alone and not call.permit.reporting.wants(report.outcome):
            return None
        if call.permit.reporting is Reporting.COUNTED and not self.limits.consecutive:
            if report.outcome is Outcome.SUCCESS and not report.alone:
                if report.calls:
                    self._tally.add(report.generation)
                return None
            return self._with_waiting(report)
        if call.issuer is Issuer.MIRROR and report.outcome is Outcome.SUCCESS:
            # A success that ends a run of failures: one for all successes of this replica until it has arrived.
            if self.resetting:
                return None
            self.resetting = True
        return report

    def _with_waiting(self, report: Report) -> Report:
        calls, slow = self._tally.take(report.generation)
        return replace(report, calls=report.calls + calls, slow=report.slow + slow)

    def gather(self, permit: Permitted) -> bool:
        """Settle a success by letting it wait for others, where that is all there is to do; False where it is not."""
        if not self._only_gathers or permit.reporting is not Reporting.COUNTED:
            return False
        self._tally.add(permit.generation)
        return True

    def mark_slow(self, call: Call) -> Report | None:
        """Count a call that still hangs as slow; a probe that is slow has failed."""
        if call.permit.reporting is Reporting.ALL:
            return self.settle(call, Outcome.FAILURE, "SlowCall")
        if call.permit.reporting is not Reporting.COUNTED or call.issuer not in {Issuer.STORE, Issuer.MIRROR}:
            return None
        report = self._watched(replace(self._report(call, Outcome.SUCCESS, ""), slow=1))
        call.counted = True
        if report.alone:
            return self._with_waiting(report)
        self._tally.add(call.permit.generation, slow=1)
        return None

    @property
    def flush_due(self) -> bool:
        """Whether outcomes wait to be reported together."""
        return self._tally.calls > 0

    def flush(self) -> Report | None:
        """Take the outcomes that wait, to report them now."""
        generation = self._tally.generation
        calls, slow = self._tally.take(generation)
        if not calls:
            return None
        return Report(
            permit_id=next(self.permit_ids),
            generation=generation,
            outcome=Outcome.SUCCESS,
            replica_id=self.replica_id,
            calls=calls,
            slow=slow,
        )

    def delivered(self, report: Report, recorded: Recorded) -> None:
        """Take the store's answer to a report."""
        self.resetting = False
        self._learn(recorded)
        self._account.note(recorded, local=False)
        if self.isolation is not None and report.alone:
            if recorded.applied and recorded.state is State.CLOSED:
                self.isolation.begin()
                _log.warning("%s: only this replica (%s) fails; it stays away by itself", self.name, self.replica_id)
                self._account.happened(EventKind.OUTLIER, recorded.state, recorded.generation)
            else:
                self.isolation.end()
            self._open_door()

    def begins_anew(self, report: Report) -> bool:
        """Tell whether a report on a circuit that the store has forgotten is to begin it anew."""
        return report.outcome is Outcome.FAILURE or not self.limits.consecutive

    def undelivered(self, report: Report) -> None:
        """Take that a report was lost: a probe's lease will lapse, and a failure counts here."""
        self.resetting = False
        self._is_away = True
        if self.isolation is not None and report.alone:
            self.isolation.end()
        self._open_door()
        if report.outcome is Outcome.FAILURE:
            recorded = self.local.count(report)
            if recorded is not None:
                self._account.note(recorded, local=True)

    # Learning.

    def see(self, view: View | None) -> None:
        """Take a view that a message brought, or None when no more will come for now."""
        if self.mirror.see(view) and view is not None:
            self.local.learn(view)
            self._last, self._mode, self._is_away = view, view.mode, False
            if self.isolation is not None:
                self.isolation.learn(view)
            self._compare_configs(view)
        self._open_door()

    def probe_wait_seconds(self) -> float | None:
        """Tell how long a background probe should wait; None when the circuit needs none."""
        last = self._last
        if last is None or last.state is State.CLOSED:
            return None
        if isinstance(last, View):
            # What an operator lets through is no probe: the machine's own moment is the one to wait for.
            return last._replace(mode=Mode.AUTO).retry_after_seconds
        if isinstance(last, Refused):
            return last.retry_after_ms / 1000
        return self.limits.cooldown_ms / 1000 if last.state is State.OPEN else 0.0

    def status(self, *, degraded: bool) -> Status:
        """Show what this replica knows and has counted."""
        last = self._last
        isolated = self.isolation is not None and self.isolation.active
        return Status(
            name=self.name,
            state=State.CLOSED if last is None else last.state,
            mode=self._mode,
            generation=0 if last is None else last.generation,
            degraded=degraded,
            isolated=isolated,
            refused=self._account.refused,
            transitions=self._account.transitions,
        )

    def _let(self, reply: Permitted | Refused, *, local: bool) -> Permitted:
        if isinstance(reply, Refused):
            self._account.refuse(reply, local=local)
            raise CallNotPermittedError(self.name, reply, reply.retry_after_ms / 1000)
        if reply.transition is Transition.HALF_OPENED:
            self._account.happened(EventKind.HALF_OPENED, reply.state, reply.generation, local=local)
        return reply

    def _error(self, refused: Refused | None) -> CallNotPermittedError | None:
        return None if refused is None else CallNotPermittedError(self.name, refused, refused.retry_after_ms / 1000)

    def _report(self, call: Call, verdict: Verdict, error: str) -> Report:
        if isinstance(verdict, OpenFor):
            outcome, open_for_ms = Outcome.FAILURE, max(1, round(verdict.seconds * 1000))
        else:
            outcome, open_for_ms = verdict, 0
        failed = outcome is Outcome.FAILURE
        return Report(
            permit_id=call.permit_id,
            generation=call.permit.generation,
            outcome=outcome,
            error=error if failed else "",
            replica_id=self.replica_id,
            calls=0 if call.counted else 1,
            failures=int(failed),
            open_for_ms=open_for_ms,
        )

    def _settle_isolated(self, isolation: Isolation, report: Report) -> Report | None:
        recorded = isolation.record(report)
        self._account.note(recorded, local=True)
        if isolation.active or report.outcome is not Outcome.SUCCESS:
            return None
        self._open_door()
        # Told to the fleet's circuit, so that its record does not name this replica any longer.
        generation = 0 if self._last is None else self._last.generation
        return replace(report, generation=generation)

    def _watched(self, report: Report) -> Report:
        """Count an outcome for this replica alone; the report says whether that would have tripped."""
        if self.isolation is None or report.outcome is Outcome.IGNORED:
            return report
        alone = self.isolation.watch(report)
        self._open_door()
        return replace(report, alone=True) if alone else report

    def _learn(self, reply: Permitted | Refused | Recorded) -> None:
        self._last, self._is_away = reply, False
        if not isinstance(reply, Recorded):
            self._mode = reply.mode
        self.mirror.note(reply)
        self.local.learn(reply)
        self._open_door()

    def _open_door(self) -> None:
        isolated = self.isolation is not None and self.isolation.active
        permit = self.permit = None if isolated or self._is_away else self.mirror.permit
        # Looked at when a call has returned. The permit may have been another one then: one that wanted to hear of a
        # success when nothing is counted any more loses nothing, and one that did not is passed over in `settle`.
        self.hears_successes = (
            self._hears_results
            or permit is None
            or permit.reporting is not Reporting.FAILURES
            or (self.isolation is not None and self.isolation.hears_successes)
        )

    def _compare_configs(self, view: View) -> None:
        if view.config and view.config != self.limits.text and view.config not in self._other_configs:
            self._other_configs.add(view.config)
            _log.warning(
                "%s: replicas differ in their configuration: here %r, elsewhere %r",
                self.name,
                self.limits.text,
                view.config,
            )
            self._account.happened(EventKind.CONFIG_DIFFERS, view.state, view.generation)
