"""What one replica makes of a call's end: whom it concerns, and what of it the store has to hear now."""

from __future__ import annotations

from dataclasses import replace

from breaker._account import Account
from breaker._call import Call, Issuer
from breaker._judge import Verdict
from breaker._known import Known
from breaker._limits import Limits
from breaker._local import Isolation, LocalLayer
from breaker._mirror import MirroredCircuit
from breaker._reports import Reports
from breaker._types import Mode, Outcome, Permitted, Recorded, Refused, Report, Reporting


class Settling:
    """What one replica makes of a call's end.

    Args:
        limits: The breaker's limits.
        known: What the store said last.
        local: Guards while the store is away.
        mirror: The copy.
        isolation: Watches whether this replica fails alone, where there is a quorum.
        reports: Writes reports, and gathers them.
        account: Counts and tells what happened.
        hears_results: Whether a returned value can be anything but a success.

    Attributes:
        resetting: Whether the report that ends a run of failures is on its way.
        reports_all: Whether successes are reported as well, because a report was of no use to the store: so it is found
            out when one is again.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        known: Known,
        local: LocalLayer,
        mirror: MirroredCircuit,
        isolation: Isolation | None,
        reports: Reports,
        account: Account,
        hears_results: bool,
    ) -> None:
        self._limits = limits
        self._known = known
        self._local = local
        self._mirror = mirror
        self._isolation = isolation
        self._reports = reports
        self._account = account
        self._only_gathers = not (hears_results or limits.consecutive or isolation)
        # In which generation the store has told of failures in a row that a success would end.
        self._run_generation = 0
        self.resetting = self.reports_all = False

    def settle(self, call: Call, verdict: Verdict, error: str) -> Report | None:
        """Settle a call; returns what has to be reported now, if anything."""
        reporting = self._reporting_of(call)
        outcome = verdict if isinstance(verdict, Outcome) else Outcome.FAILURE
        # With a quorum this replica watches itself, and wants to hear more than the fleet does.
        if (self._isolation is None or call.issuer is Issuer.LOCAL) and not reporting.wants(outcome):
            return None
        report = self._reports.of(call, verdict, error)
        if call.issuer is Issuer.LOCAL:
            self._account.note(self._local.record(report), local=True)
            return None
        if call.issuer is Issuer.ISOLATION and self._isolation is not None:
            return self._settle_isolated(self._isolation, report)
        return self._to_report(call, reporting, self._watched(call, report))

    def gather(self, permit: Permitted) -> bool:
        """Settle a success by letting it wait for others, where that is all there is to do; False where it is not."""
        if not self._only_gathers or permit.reporting is not Reporting.COUNTED:
            return False
        self._reports.gather(permit.generation)
        return True

    def mark_slow(self, call: Call) -> Report | None:
        """Count a call that still hangs as slow; a probe that is slow has failed, and is settled by that."""
        if call.permit.reporting is Reporting.ALL:
            return self.settle(call, Outcome.FAILURE, "SlowCall")
        if call.permit.reporting is not Reporting.COUNTED:
            return None
        slow = replace(self._reports.of(call, Outcome.SUCCESS), slow=1)
        call.counted = True
        if call.issuer is Issuer.LOCAL:
            self._account.note(self._local.record(slow), local=True)
            return None
        report = self._watched(call, slow)
        if report.alone:
            return self._reports.with_waiting(report)
        self._reports.gather(call.permit.generation, slow=1)
        return None

    def learn(self, reply: Permitted | Refused | Recorded) -> None:
        """Take what the store answered about failures in a row."""
        if self._limits.consecutive:
            if isinstance(reply, Recorded):
                runs = reply.failures > 0
            else:
                runs = isinstance(reply, Permitted) and reply.reporting is Reporting.COUNTED
            self._run_generation = reply.generation if runs else 0

    def _reporting_of(self, call: Call) -> Reporting:
        """Tell what is to be reported of a call: what its permit says, unless a run has begun since it was issued."""
        permit, seen = call.permit, self._mirror.permit
        if permit.reporting is not Reporting.FAILURES:
            return permit.reporting
        told = permit.generation == self._run_generation or self.reports_all
        shown = seen is not None and seen.generation == permit.generation and seen.reporting is Reporting.COUNTED
        return Reporting.COUNTED if told or shown or call.issuer is Issuer.LOCAL else Reporting.FAILURES

    def _to_report(self, call: Call, reporting: Reporting, report: Report) -> Report | None:
        """Tell what of a report on a permit of the fleet's has to be sent now."""
        if not report.alone and not reporting.wants(report.outcome):
            return None
        if reporting is Reporting.COUNTED and not self._limits.consecutive:
            if report.outcome is Outcome.SUCCESS and not report.alone:
                if report.calls:
                    self._reports.gather(report.generation)
                return None
            return self._reports.with_waiting(report)
        if report.outcome is Outcome.SUCCESS and reporting is Reporting.COUNTED and call.issuer is Issuer.MIRROR:
            # A success that ends a run of failures: one for all successes of this replica until it has arrived.
            if self.resetting:
                return None
            self.resetting = True
        return report

    def _settle_isolated(self, isolation: Isolation, report: Report) -> Report | None:
        recorded = isolation.record(report)
        self._account.note(recorded, local=True)
        if isolation.active or not recorded.applied or report.outcome is not Outcome.SUCCESS:
            return None
        # Told to the fleet's circuit, so that its record does not name this replica any longer.
        return replace(report, generation=self._known.generation)

    def _watched(self, call: Call, report: Report) -> Report:
        """Count an outcome for this replica alone; the report says whether that would have tripped."""
        if self._isolation is None or report.outcome is Outcome.IGNORED or call.permit.mode is not Mode.AUTO:
            return report
        return replace(report, alone=True) if self._isolation.watch(report) else report
