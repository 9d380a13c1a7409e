"""One replica's side of one circuit: everything but the waiting.

Who may go on by what is known here, what a call's end means, what has to be told to the store and what its answers
change. No I/O and no clock of its own, so that tasks (`_breaker`) and threads (`sync`) share it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from breaker import _machine
from breaker._account import Account
from breaker._call import Call, Issuer
from breaker._config import BreakerConfig, Consistency, check_name
from breaker._errors import CallNotPermittedError
from breaker._events import EventKind, Listener, Status
from breaker._judge import Verdict
from breaker._known import Known, Said
from breaker._local import Isolation, LocalLayer
from breaker._mirror import MirroredCircuit, Moment
from breaker._replica import Replica
from breaker._reports import Reports
from breaker._settling import Settling
from breaker._types import (
    Mode,
    Outcome,
    Permitted,
    Reason,
    Recorded,
    Refused,
    Report,
    Reporting,
    State,
    Transition,
    View,
)

_log = logging.getLogger("breaker")


class Circuit:
    """One replica's side of one circuit.

    Args:
        name: The circuit's name.
        config: The breaker's configuration.
        replica_id: Who this replica is; by default host name and process id.
        listeners: Called with each event.
        leaves_probing: Whether callers are never probes, because a background probe is.
        hears_results: Whether a returned value can be anything but a success.
        warn: Logs a warning.

    Attributes:
        permit: What every call gets now without asking; None when more has to be looked at.
        hears_successes: Whether a call that was permitted at once and returned has to be settled now.
        settling: What this replica makes of a call's end.
        must_follow: Whether the store is to be asked to tell of the circuit, for the first time or anew.

    Raises:
        ConfigError: The name cannot be one.
    """

    def __init__(
        self,
        name: str,
        config: BreakerConfig,
        *,
        replica_id: str | None,
        listeners: Iterable[Listener] = (),
        leaves_probing: bool = False,
        hears_results: bool = False,
        warn: Callable[..., None] = _log.warning,
    ) -> None:
        self.name = check_name(name)
        self.config = config
        self.limits = config.limits()
        self.replica = Replica(replica_id)
        self.known = Known(time.monotonic)
        self.local = LocalLayer(config, self.known)
        self.mirror = MirroredCircuit(self.limits, may_probe=not leaves_probing)
        self.isolation = Isolation(self.limits) if config.minimum_reporters > 1 else None
        self.permit: Permitted | None = None
        self.hears_successes = hears_results
        self._is_mirrored = self.must_follow = config.consistency is Consistency.MIRRORED
        self.reports = Reports(self.replica)
        self._leaves_probing = leaves_probing
        self._warn = warn
        self._hears_results = hears_results
        self._account = Account(self.name, listeners)
        self.settling = Settling(
            self.limits,
            known=self.known,
            local=self.local,
            mirror=self.mirror,
            isolation=self.isolation,
            reports=self.reports,
            account=self._account,
            hears_results=hears_results,
        )
        self._other_configs: set[str] = set()
        self._is_away = False
        # What was answered with something of no use: "questions", "reports".
        self._useless: set[str] = set()

    # Asking.

    def admit(self) -> Call | None:
        """Decide by what is known here; None when the store has to be asked.

        Raises:
            CallNotPermittedError: No call goes through now.
        """
        if self.permit is None:
            rest_seconds = self.refusing_seconds()
            if self.mirror.refused is not None:
                raise CallNotPermittedError(self.name, self.mirror.refused, rest_seconds)
        permit = self._fresh_permit
        if permit is None:
            return None
        permit_id = self.replica.permit_id()
        return self._isolated(permit_id) or Call(permit_id, permit, Issuer.MIRROR)

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
        return Call(self.replica.permit_id(), permit, Issuer.MIRROR)

    def answered(
        self, permit_id: str, reply: Permitted | Refused, asked_at: Moment, *, in_background: bool = False
    ) -> Call:
        """Take the store's answer.

        Args:
            permit_id: The permit's.
            reply: The answer.
            asked_at: `mirror.newest` as it was when the store was asked.
            in_background: Whether a background probe asked.

        Raises:
            CallNotPermittedError: It said no.
        """
        self._useless.discard("questions")
        # What a caller hears who may not probe is no news to the background probe.
        is_news = in_background or not self._leaves_probing or not self._says_only_that_others_probe(reply)
        self._learn(reply, asked_at, is_news=is_news)
        call = self._isolated(permit_id, in_background=in_background)
        if call is None and isinstance(reply, Permitted) and self._is_decided_here:
            return self._permitted_here(permit_id, in_background=in_background)
        return call or Call(permit_id, self._let(reply, local=False, in_background=in_background), Issuer.STORE)

    def unanswered(self, permit_id: str, *, in_background: bool = False) -> Call:
        """Decide without the store, which is away.

        Raises:
            CallNotPermittedError: No call goes through now.
        """
        self._lose_store()
        isolated = self._isolated(permit_id, in_background=in_background)
        return isolated or self._permitted_here(permit_id, in_background=in_background)

    def misunderstood(self, error: Exception, *, in_a_report: bool = False) -> None:
        """Take that the store answered, but with something that is of no use; says so once until it is again.

        Args:
            error: What is wrong.
            in_a_report: Whether that was the answer to a report; those to questions may be of use all the same.
        """
        self.settling.reports_all = self.settling.reports_all or in_a_report
        what = "reports" if in_a_report else "questions"
        if what not in self._useless:
            self._useless.add(what)
            self._warn(
                "%s: no use can be made of what the store says, this replica guards itself: %s", self.name, error
            )

    def peek(self, seen: View | None) -> CallNotPermittedError | None:
        """Tell whether a view that was read says that a call would be refused."""
        refused = None
        if seen is not None:
            limits = self.limits.with_settings(seen.settings)
            refused = _machine.refusal(seen, limits, may_probe=not self._leaves_probing)
        return self._error(refused or self._refusal_here())

    def peek_away(self) -> CallNotPermittedError | None:
        """Tell whether a call would be refused while the store is away."""
        return self._error(self._refusal_here() or self.local.refusal(may_probe=not self._leaves_probing))

    def peek_here(self) -> tuple[bool, CallNotPermittedError | None]:
        """Tell whether what is known here decides, and if so whether a call would be refused."""
        rest_seconds = self.mirror.refusing_seconds()
        if self.mirror.refused is not None:
            return True, CallNotPermittedError(self.name, self.mirror.refused, rest_seconds)
        self._open_door()
        return self._fresh_permit is not None, self._error(self._refusal_here())

    # Settling.

    def settle(self, call: Call, verdict: Verdict, error: str = "") -> Report | None:
        """Settle a call; returns what has to be reported now, if anything. What may wait does so in `reports`."""
        report = self.settling.settle(call, verdict, error)
        if self.isolation is not None:
            self._open_door()
        return report

    def mark_slow(self, call: Call) -> Report | None:
        """Count a call that still hangs as slow; returns what has to be reported now, if anything."""
        report = self.settling.mark_slow(call)
        if self.isolation is not None:
            self._open_door()
        return report

    def delivered(self, report: Report, recorded: Recorded, asked_at: Moment) -> None:
        """Take the store's answer to a report.

        Args:
            report: What was reported.
            recorded: The answer.
            asked_at: `mirror.newest` as it was when the report was sent.
        """
        self._useless.discard("reports")
        self.settling.reports_all = False
        self._learn(recorded, asked_at)
        self._account.note(recorded, local=False)
        isolation = self.isolation
        if isolation is None or not report.alone or isolation.active:
            return
        if recorded.applied and recorded.state is State.CLOSED and self.known.mode is Mode.AUTO:
            isolation.begin(recorded.generation)
            self._warn("%s: only this replica (%s) fails; it stays away by itself", self.name, self.replica.id)
            self._account.happened(EventKind.OUTLIER, recorded.state, recorded.generation)
        else:
            isolation.end()
        self._open_door()

    def begins_anew(self, report: Report, recorded: Recorded) -> bool:
        """Tell whether a report is to be made again, to a circuit that the store has forgotten or has gone back in.

        No message says so, and a mirrored circuit that is healthy asks nothing, so a report may be what finds out. It
        is not late, and it counts for the circuit that is there now.
        """
        is_behind = not recorded.applied and recorded.generation < report.generation
        return is_behind and (report.outcome is Outcome.FAILURE or not self.limits.consecutive)

    def undelivered(self, report: Report) -> None:
        """Take that a report was lost: a probe's lease will lapse, and what was reported counts here."""
        if self.isolation is not None and report.alone:
            self.isolation.end()
        if not self.settling.reports_all:
            self._lose_store()
        if report.outcome is not Outcome.IGNORED:
            recorded = self.local.count(report)
            if recorded is not None:
                self._account.note(recorded, local=True)
        self._open_door()

    # Learning.

    def see(self, view: View | None) -> None:
        """Take a view that a message brought, or None when no more will come for now."""
        if view is None:
            self._lose_track()
        elif self.mirror.see(view):
            # A message says nothing of whether this replica's own commands arrive.
            self._hear(view)
            if self.isolation is not None:
                self.isolation.learn(view)
            self._compare_configs(view)
        self._open_door()

    @property
    def guard(self) -> Isolation | LocalLayer | Known:
        """What decides now, as far as this replica knows."""
        if self.isolation is not None and self.isolation.active:
            return self.isolation
        return self.local if self._is_away or self._is_decided_here else self.known

    def probe_wait_seconds(self) -> float | None:
        """Tell how long a background probe should wait; None when the circuit needs none."""
        return self.guard.probe_wait_seconds()

    def status(self, *, degraded: bool) -> Status:
        """Show what this replica knows and has counted."""
        return Status(
            name=self.name,
            state=self.known.state,
            mode=self.known.mode,
            generation=self.known.generation,
            # A fresh copy that permits asks no questions, and so never hears that their answers are of use again.
            degraded=degraded or bool(self._useless - ({"questions"} if self.permit else set())),
            isolated=self.isolation is not None and self.isolation.active,
            refused=self._account.refused,
            transitions=self._account.transitions,
        )

    def _isolated(self, permit_id: str, *, in_background: bool = False) -> Call | None:
        """Let the isolation decide about a call that the fleet's circuit lets through, if this replica is isolated."""
        if self.isolation is None or not self.isolation.active:
            return None
        reply = self.isolation.acquire(permit_id, may_probe=in_background or not self._leaves_probing)
        return Call(permit_id, self._let(reply, local=True, in_background=in_background), Issuer.ISOLATION)

    def _permitted_here(self, permit_id: str, *, in_background: bool) -> Call:
        reply = self.local.acquire(permit_id, may_probe=in_background or not self._leaves_probing)
        return Call(permit_id, self._let(reply, local=True, in_background=in_background), Issuer.LOCAL)

    def _refusal_here(self) -> Refused | None:
        if self.isolation is not None and self.isolation.active:
            return self.isolation.refusal(may_probe=not self._leaves_probing)
        return self.local.refusal(may_probe=not self._leaves_probing) if self._is_decided_here else None

    def _let(self, reply: Permitted | Refused, *, local: bool, in_background: bool) -> Permitted:
        if isinstance(reply, Refused):
            if not in_background:  # Nobody's call is refused where the background probe is told to wait.
                self._account.refuse(reply, local=local)
            raise CallNotPermittedError(self.name, reply, reply.retry_after_ms / 1000)
        if reply.transition is Transition.HALF_OPENED:
            self._account.happened(EventKind.HALF_OPENED, reply.state, reply.generation, local=local)
        return reply

    def _error(self, refused: Refused | None) -> CallNotPermittedError | None:
        return None if refused is None else CallNotPermittedError(self.name, refused, refused.retry_after_ms / 1000)

    def _says_only_that_others_probe(self, reply: Permitted | Refused) -> bool:
        return (
            isinstance(reply, Refused)
            and reply.reason is Reason.PROBING
            and reply.state is State.HALF_OPEN
            and (reply.generation, reply.mode) == (self.known.generation, self.known.mode)
        )

    def _learn(self, reply: Permitted | Refused | Recorded, asked_at: Moment, *, is_news: bool = True) -> None:
        is_late = self.mirror.newest != asked_at and reply.generation < self.known.generation
        if is_news and not is_late:
            self._hear(reply)
        self.settling.learn(reply)
        # By a failover or a restart, perhaps behind a connection that did not break.
        is_taken_back = self.mirror.note(reply, asked_at)
        if is_taken_back:
            self._lose_track()
        elif reply.generation < self.reports.generation and not (is_late or isinstance(reply, Recorded)):
            self.reports.forget()
        if is_taken_back or self._is_away:
            self.must_follow = self._is_mirrored
        self._is_away = False
        if not self.settling.reports_all:
            self.local.drop()
        if self.isolation is not None:
            self.isolation.learn(reply)
        self._open_door()

    def _hear(self, said: Said) -> None:
        known = self.known
        if not self.local.has_begun:  # Nearly always, and in strict consistency this is on every call's path.
            known.learn(said)
            return
        before = self._local_begins_from
        known.learn(said)
        if before != self._local_begins_from:
            self.local.drop()  # It began from what the store has taken back by this.

    @property
    def _local_begins_from(self) -> tuple[int, Mode, int, int]:
        view = self.known.view or View()
        return self.known.generation, self.known.mode, view.mode_until_ms, view.retry_at_ms

    def _lose_store(self) -> None:
        """Let the local layer decide from now on, although nobody may know yet that the copy grows old."""
        if not self._is_away:
            self._is_away = True
            self._lose_track()
        self._open_door()

    def _lose_track(self) -> None:
        self.mirror.see(None)
        self.reports.forget()

    @property
    def _fresh_permit(self) -> Permitted | None:
        """What the copy gives, if it is relied on: messages may go on arriving where commands do not."""
        return None if self._is_away else self.mirror.permit

    @property
    def _is_decided_here(self) -> bool:
        """Whether reports are of no use to the store while questions are, and have opened the circuit here."""
        return self.settling.reports_all and self.local.is_open

    def _open_door(self) -> None:
        isolated = self.isolation is not None and self.isolation.active
        permit = self.permit = None if isolated or self._is_decided_here else self._fresh_permit
        # Looked at when a call has returned. The permit may have been another one then: one that wanted to hear of a
        # success when nothing is counted any more loses nothing, and what has begun to be counted since is heard.
        self.hears_successes = (
            self._hears_results
            or permit is None
            or self.settling.reports_all
            or permit.reporting is not Reporting.FAILURES
            or (self.isolation is not None and self.isolation.hears_successes)
        )

    def _compare_configs(self, view: View) -> None:
        if view.config and view.config != self.limits.text and view.config not in self._other_configs:
            self._other_configs.add(view.config)
            self._warn(
                "%s: replicas differ in their configuration: here %r, elsewhere %r",
                self.name,
                self.limits.text,
                view.config,
            )
            self._account.happened(EventKind.CONFIG_DIFFERS, view.state, view.generation)
