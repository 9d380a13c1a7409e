"""Between a circuit and its store, for tasks: asks, reports, and waits no longer than it must."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from breaker._call import Call, Issuer
from breaker._circuit import Circuit
from breaker._config import Consistency
from breaker._errors import CallNotPermittedError, ScriptError, StoreUnavailableError
from breaker._judge import Judge, Verdict
from breaker._prober import Prober
from breaker._store import Store
from breaker._types import Outcome, Permitted, Recorded, Report, Reporting, View

_log = logging.getLogger("breaker")


class Link:
    """Between a circuit and its store.

    Args:
        circuit: This replica's side of the circuit.
        store: Where the circuit lives.
        judge: Says what a call's end means.
        probe: Called once the cooldown has passed, so that no caller is the probe.
    """

    def __init__(
        self, circuit: Circuit, store: Store, judge: Judge, *, probe: Callable[[], Awaitable[object]] | None
    ) -> None:
        self._circuit = circuit
        self._store = store
        self._judge = judge
        self._prober = None if probe is None else Prober(circuit, self, judge, probe)
        self._flush_timer: asyncio.TimerHandle | None = None
        # A breaker may outlive one event loop and be used in the next; what was to happen in the first never will.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def admit(self) -> Call:
        """Return leave to make one call.

        Raises:
            CallNotPermittedError: No call goes through now.
        """
        return self._circuit.admit() or await self.ask()

    async def ask(self, *, in_background: bool = False) -> Call:
        """Ask the store for leave to make one call, where what is known here does not decide.

        Args:
            in_background: Whether this is the background probe asking; where there is one, no caller becomes a probe.

        Raises:
            CallNotPermittedError: No call goes through now.
        """
        circuit, may_probe = self._circuit, in_background or self._prober is None
        # The first call in an event loop asks: with the one before it the copy was lost.
        self._enter_loop()
        if circuit.must_follow:
            circuit.must_follow = False
            self._store.follow(circuit.name, self._see)
        permit_id, asked_at = circuit.replica.permit_id(), circuit.mirror.newest
        try:
            reply = await self._store.acquire(
                circuit.name, permit_id, circuit.limits, circuit.replica.id, may_probe=may_probe
            )
        except Exception as error:
            self._failed(error)
            try:
                return circuit.unanswered(permit_id, in_background=in_background)
            finally:
                self._look_after()
        except asyncio.CancelledError:
            # The script may have run and given this call a probe's place, whose answer nobody waits for any more.
            self._send(circuit.reports.given_back_unseen(permit_id))
            raise
        try:
            return circuit.answered(permit_id, reply, asked_at, in_background=in_background)
        finally:
            self._look_after()

    async def settle(self, call: Call, verdict: Verdict, error: BaseException | str | None = None) -> None:
        """Settle a call, and wait until the store knows what it has to know before the caller goes on."""
        word = self._judge.describe(error)
        report = self._circuit.settle(call, verdict, word)
        if isinstance(error, GeneratorExit):
            # A coroutine that is being closed must not wait, and may be closed after its loop: the lease heals that.
            with contextlib.suppress(RuntimeError):
                self._flush_later()
                if report is not None:
                    self._send(report)
            return
        self._flush_later()
        if report is None:
            self._look_after()
        elif call.issuer is Issuer.MIRROR and report.outcome is Outcome.SUCCESS:
            self._send(report)
        else:
            # Awaited, so that the failure that trips has tripped the fleet before its caller is answered. Only its end:
            # a caller that goes away meanwhile does not take the report with it, nor does a report that somebody
            # cancels, such as a program that ends all of its tasks, take the caller's result.
            await asyncio.wait([self._send(report)])

    def gather(self, permit: Permitted) -> bool:
        """Settle a success that is only to be counted with others; False when there is more to do."""
        if not self._circuit.settling.gather(permit):
            return False
        if self._flush_timer is None:
            self._flush_later()
        return True

    def mark_slow(self, call: Call) -> bool:
        """Count a call that still hangs as slow; True when that settled it."""
        report = self._circuit.mark_slow(call)
        self._flush_later()
        if report is not None:
            self._send(report)
        return call.permit.reporting is Reporting.ALL

    async def peek(self) -> CallNotPermittedError | None:
        """Tell whether a call would be refused now."""
        decided, refused = self._circuit.peek_here()
        if decided:
            return refused
        try:
            return self._circuit.peek(await self._store.snapshot(self._circuit.name))
        except StoreUnavailableError:
            return self._circuit.peek_away()

    async def drain(self) -> None:
        """Report what waits, and wait until every report has arrived or is lost."""
        self._enter_loop()
        self._flush()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """End the background probe, and drain."""
        if self._prober is not None:
            await self._prober.aclose()
        await self.drain()

    def _see(self, view: View | None) -> None:
        self._circuit.see(view)
        self._look_after()

    def _send(self, report: Report) -> asyncio.Task[None]:
        sending = self._report(report)
        try:
            task = asyncio.get_running_loop().create_task(sending)
        except RuntimeError:
            sending.close()
            self._circuit.settling.resetting = False
            raise
        self._tasks.add(task)
        task.add_done_callback(self._sent)
        return task

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            self._circuit.settling.resetting = False  # Perhaps before it began.

    async def _report(self, report: Report) -> None:
        circuit, asked_at = self._circuit, self._circuit.mirror.newest
        try:
            recorded = await self._store.record(circuit.name, report, circuit.limits)
            if circuit.begins_anew(report, recorded):
                recorded = await self._record_anew(report)
        except Exception as error:
            self._failed(error, in_a_report=True)
            circuit.undelivered(report)
        else:
            circuit.delivered(report, recorded, asked_at)
        finally:
            circuit.settling.resetting = False
        self._look_after()

    async def _record_anew(self, report: Report) -> Recorded:
        """Report to a circuit that the store has forgotten or has gone back in.

        Should that be recovering already, then the call was none of its probes.
        """
        circuit = self._circuit
        permit = await self._store.acquire(
            circuit.name, report.permit_id, circuit.limits, circuit.replica.id, may_probe=False
        )
        return await self._store.record(circuit.name, replace(report, generation=permit.generation), circuit.limits)

    def _failed(self, error: Exception, *, in_a_report: bool = False) -> None:
        """Say what the store's own guard does not say already."""
        if isinstance(error, ScriptError) or not isinstance(error, StoreUnavailableError):
            self._circuit.misunderstood(error, in_a_report=in_a_report)

    def _flush_later(self) -> None:
        if self._circuit.reports.are_waiting and self._flush_timer is None:
            loop = asyncio.get_running_loop()
            self._flush_timer = loop.call_later(self._circuit.config.flush_seconds, self._flush)

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        report = self._circuit.reports.flush()
        if report is not None:
            self._send(report)

    def _look_after(self) -> None:
        """Make sure that somebody probes when the time comes; called whenever there is news."""
        if self._prober is not None:
            self._prober.look()

    def _enter_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._circuit.must_follow = self._circuit.config.consistency is Consistency.MIRRORED
            self._flush_timer = None
            self._tasks.clear()
