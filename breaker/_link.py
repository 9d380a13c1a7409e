"""Between a circuit and its store, for tasks: asks, reports, and waits no longer than it must."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from breaker._circuit import Call, Circuit, Issuer
from breaker._errors import CallNotPermittedError, StoreUnavailableError
from breaker._judge import Judge, Verdict
from breaker._store import Store
from breaker._types import Outcome, Permitted, Recorded, Report, View

_log = logging.getLogger("breaker")

# A background probe that was told to come back at once waits this long all the same.
_SHORTEST_WAIT_SECONDS = 0.01


class Link:
    """Between a circuit and its store.

    Args:
        circuit: This replica's side of the circuit.
        store: Where the circuit lives.
        judge: Says what a call's end means.
        follows: Whether the store is to tell of changes.
        probe: Called once the cooldown has passed, so that no caller is the probe.
    """

    def __init__(
        self,
        circuit: Circuit,
        store: Store,
        judge: Judge,
        *,
        follows: bool,
        probe: Callable[[], Awaitable[object]] | None,
    ) -> None:
        self._circuit = circuit
        self._store = store
        self._judge = judge
        self._must_follow = follows
        self._probe = probe
        self._prober: asyncio.Task[None] | None = None
        self._flush_timer: asyncio.TimerHandle | None = None
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
        circuit, may_probe = self._circuit, in_background or self._probe is None
        if self._must_follow:
            self._must_follow = False
            self._store.follow(circuit.name, self._see)
        permit_id = next(circuit.permit_ids)
        try:
            reply = await self._store.acquire(
                circuit.name, permit_id, circuit.limits, circuit.replica_id, may_probe=may_probe
            )
        except Exception as error:
            if not isinstance(error, StoreUnavailableError):
                _log.exception("%s: the store failed in a way that it should not", circuit.name)
            return circuit.unanswered(permit_id)
        except asyncio.CancelledError:
            # The script may have run and given this call a probe's place, whose answer nobody waits for any more.
            self._send(circuit.given_back_unseen(permit_id))
            raise
        try:
            return circuit.answered(permit_id, reply)
        finally:
            self._look_after()

    async def settle(self, call: Call, verdict: Verdict, error: BaseException | str | None = None) -> None:
        """Settle a call, and wait until the store knows what it has to know before the caller goes on."""
        word = self._judge.describe(error)
        report = self._circuit.settle(call, verdict, word)
        self._flush_later()
        if report is None:
            return
        if call.issuer is Issuer.MIRROR and report.outcome is Outcome.SUCCESS:
            self._send(report)
        elif isinstance(error, GeneratorExit):
            # A coroutine that is being closed must not wait, and may be closed after its loop: the lease heals that.
            with contextlib.suppress(RuntimeError):
                self._send(report)
        else:
            # Awaited, so that the failure that trips has tripped the fleet before its caller is answered; shielded, so
            # that a caller that goes away meanwhile does not take the report with it.
            await asyncio.shield(self._send(report))

    def gather(self, permit: Permitted) -> bool:
        """Settle a success that is only to be counted with others; False when there is more to do."""
        if not self._circuit.gather(permit):
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
        return report is not None

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
        self._flush()
        while reports := self._tasks - {self._prober}:
            await asyncio.wait(reports)

    async def aclose(self) -> None:
        """End the background probe, and drain."""
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.wait([self._prober])
        await self.drain()

    def _see(self, view: View | None) -> None:
        self._circuit.see(view)
        self._look_after()

    def _send(self, report: Report) -> asyncio.Task[None]:
        return self._start(self._report(report))

    async def _report(self, report: Report) -> None:
        circuit = self._circuit
        try:
            recorded = await self._store.record(circuit.name, report, circuit.limits)
            if recorded.generation == 0 and circuit.begins_anew(report):
                recorded = await self._record_anew(report)
        except Exception as error:
            if not isinstance(error, StoreUnavailableError):
                _log.exception("%s: a report was lost", circuit.name)
            circuit.undelivered(report)
            return
        circuit.delivered(report, recorded)
        self._look_after()

    async def _record_anew(self, report: Report) -> Recorded:
        """Report to a circuit that the store has forgotten: it idled out, or its data were lost.

        No message says so, and a mirrored circuit that is healthy asks nothing, so a report may be what finds out. It
        is not late, and it counts for the circuit that begins anew; but should that be recovering already, then the
        call was none of its probes.
        """
        circuit = self._circuit
        permit = await self._store.acquire(
            circuit.name, report.permit_id, circuit.limits, circuit.replica_id, may_probe=False
        )
        return await self._store.record(circuit.name, replace(report, generation=permit.generation), circuit.limits)

    def _flush_later(self) -> None:
        if self._circuit.flush_due and self._flush_timer is None:
            loop = asyncio.get_running_loop()
            self._flush_timer = loop.call_later(self._circuit.config.flush_seconds, self._flush)

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        report = self._circuit.flush()
        if report is not None:
            self._send(report)

    def _look_after(self) -> None:
        """Make sure that somebody probes when the time comes."""
        if self._probe is not None and self._prober is None and self._circuit.probe_wait_seconds() is not None:
            self._prober = self._start(self._probe_until_closed(self._probe))
            self._prober.add_done_callback(self._rest)

    def _rest(self, _: asyncio.Task[None]) -> None:
        self._prober = None

    async def _probe_until_closed(self, probe: Callable[[], Awaitable[object]]) -> None:
        """Compete for the probe's place each time that it may be free, and make the call that finds out."""
        while (wait_seconds := self._circuit.probe_wait_seconds()) is not None:
            await asyncio.sleep(max(wait_seconds, _SHORTEST_WAIT_SECONDS))
            try:
                call = await self.ask(in_background=True)
            except CallNotPermittedError as refused:
                await asyncio.sleep(max(refused.retry_after_seconds, _SHORTEST_WAIT_SECONDS))
                continue
            try:
                async with asyncio.timeout(self._circuit.config.call_timeout_seconds):
                    verdict = self._judge.of_result(await probe())
            except asyncio.CancelledError:
                await self.settle(call, Outcome.IGNORED)
                raise
            except Exception as error:
                _log.debug("%s: the background probe failed: %s", self._circuit.name, type(error).__name__)
                await self.settle(call, self._judge.of_error(error), error)
            else:
                await self.settle(call, verdict)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
