"""The circuit breaker itself: asks before a call, settles after it, and never stands between a call and its result."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import replace
from enum import Enum, auto
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from breaker._config import BreakerConfig, Consistency, check_name
from breaker._deadlines import Deadlines
from breaker._errors import CallNotPermittedError, CallTimeoutError, StoreUnavailableError
from breaker._events import BreakerEvent, EventKind, Listener
from breaker._local import LocalLayer
from breaker._machine import refusal as refusal_of
from breaker._mirror import MirroredCircuit
from breaker._store import Store
from breaker._types import Outcome, Permitted, Recorded, Refused, Report, Reporting, State, Transition, View

_P = ParamSpec("_P")
_R = TypeVar("_R")

_log = logging.getLogger("breaker")

# The guards that `async with breaker` opened in the running task, innermost last: one breaker serves many tasks, so
# what belongs to one call cannot lie on the breaker.
_open_guards: ContextVar[tuple[_Guard, ...]] = ContextVar("breaker_open_guards", default=())


class _Issuer(Enum):
    """Who gave a permit, and so has to hear how the call ended."""

    STORE = auto()
    MIRROR = auto()
    LOCAL = auto()


def _every_exception_is_a_failure(error: Exception) -> Outcome:
    # What another breaker refused was not called, so it says nothing about this dependency.
    return Outcome.IGNORED if isinstance(error, CallNotPermittedError) else Outcome.FAILURE


def _class_name(error: BaseException) -> str:
    return type(error).__name__


def _every_result_is_a_success(result: Any) -> Outcome:  # noqa: ARG001
    return Outcome.SUCCESS


class CircuitBreaker:
    """Guards calls to one dependency, together with every other replica that uses the same name and store.

    Use it as a decorator (`@breaker`), as a block (`async with breaker:`) or by `await breaker.call(function, ...)`. A
    call that is refused raises `CallNotPermittedError` and was not made. A call that was made keeps its own result:
    whatever happens to the store, to a listener or to a classifier changes neither the value returned nor the exception
    raised, and delays it by no more than the store's timeout. A cancelled call counts as nothing; a call that exceeds
    `call_timeout_seconds` is cancelled, counts as a failure and raises `CallTimeoutError`.

    While the store is away the call is guarded as `on_store_error` says.

    Args:
        name: The circuit's name; every replica that uses it shares one circuit. 1 to 200 characters without spaces or
            braces.
        store: Where the circuit lives.
        config: When to trip and how to recover.
        classify_error: Says what an exception means for the circuit; called for `Exception` only. By default each one
            is a failure, except another breaker's refusal.
        classify_result: Says what a returned value means; by default a success.
        describe_error: Gives the word for a failure that the record keeps as `last_error`; by default the class name.
            It is shown to operators and to refused callers, so nothing secret belongs into it.
        replica_id: Who this process is, in the record and in events; by default host name and process id.
        listeners: Called with each event of this replica, in the event loop; an exception is logged and harms nobody.

    Raises:
        ConfigError: The name cannot be one.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        config: BreakerConfig | None = None,
        *,
        classify_error: Callable[[Exception], Outcome] = _every_exception_is_a_failure,
        classify_result: Callable[[Any], Outcome] = _every_result_is_a_success,
        describe_error: Callable[[BaseException], str] = _class_name,
        replica_id: str | None = None,
        listeners: Iterable[Listener] = (),
    ) -> None:
        self._name = check_name(name)
        self._store = store
        self._config = config or BreakerConfig()
        self._limits = self._config.limits()
        self._classify_error = classify_error
        self._classify_result = classify_result
        self._judges_results = classify_result is not _every_result_is_a_success
        self._describe_error = describe_error
        self._replica_id = replica_id or f"{socket.gethostname()}-{os.getpid()}"
        self._listeners = tuple(listeners)
        self._local = LocalLayer(self._config)
        self._mirror = MirroredCircuit(self._limits)
        timeout_seconds = self._config.call_timeout_seconds
        self._deadlines = None if timeout_seconds is None else Deadlines(timeout_seconds)
        self._follows = self._config.consistency is Consistency.STRICT
        self._resetting = False
        # A random beginning keeps the permits of two processes apart, a counter those of one process.
        self._permit_ids = map(f"{os.urandom(6).hex()}-{{}}".format, itertools.count(1))
        self._reports: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """The circuit's name."""
        return self._name

    @property
    def config(self) -> BreakerConfig:
        """The configuration."""
        return self._config

    async def call(self, function: Callable[_P, Awaitable[_R]], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call a coroutine function if the circuit permits it, and return what it returns.

        Raises:
            CallNotPermittedError: The circuit lets no call through now; the function was not called.
            CallTimeoutError: The breaker's own timeout passed; the call was cancelled.
        """
        permit, deadlines, task = self._mirror.permit, self._deadlines, None
        if permit is not None:
            task = asyncio.current_task()
        elif (refusal := self._mirror.refusal()) is not None:
            raise self._refused(*refusal)
        if permit is None or deadlines is None or task is None or task in deadlines.running or task.cancelling():
            async with _Guard(self) as guard:
                result = await function(*args, **kwargs)
                guard.judge(result)
            return result
        # The same once more for what a fresh copy permits, the path of nearly every call, spelled out to cost as little
        # as it can.
        deadlines.running[task] = time.monotonic()
        if not deadlines.watching:
            deadlines.watch()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            if deadlines.is_expired(task, error):
                late = self._late()
                await self._settle(None, permit, _Issuer.MIRROR, Outcome.FAILURE, late)
                raise late from error
            await self._settle(None, permit, _Issuer.MIRROR, self._judge_error(error), error)
            raise
        if deadlines.running.pop(task, None) is None:
            task.uncancel()  # It was told to stop and has come to its end all the same.
        if self._judges_results or permit.reporting is not Reporting.FAILURES:
            await self._settle(None, permit, _Issuer.MIRROR, self._judge_result(result), None)
        return result

    def __call__(self, function: Callable[_P, Awaitable[_R]]) -> Callable[_P, Awaitable[_R]]:
        """Guard every call of a coroutine function."""

        @functools.wraps(function)
        async def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            return await self.call(function, *args, **kwargs)

        return guarded

    async def __aenter__(self) -> None:
        guard = _Guard(self)
        await guard.__aenter__()
        _open_guards.set((*_open_guards.get(), guard))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        *outer, guard = _open_guards.get()
        _open_guards.set(tuple(outer))
        await guard.__aexit__(kind, error, trace)

    async def peek(self) -> CallNotPermittedError | None:
        """Tell whether a call would be refused now; one read, changes nothing.

        What it says may be old a moment later; only a call itself is decided atomically. While the store is away the
        local layer answers; where the circuit is mirrored and its copy is fresh, that does, without a read.
        """
        if self._mirror.permit is not None:
            return None
        remembered = self._mirror.refusal()
        if remembered is not None:
            return CallNotPermittedError(self._name, *remembered)
        try:
            seen = await self._store.snapshot(self._name)
            refused = None if seen is None else refusal_of(seen, self._limits)
        except StoreUnavailableError:
            refused = self._local.refusal()
        return None if refused is None else CallNotPermittedError(self._name, refused, refused.retry_after_ms / 1000)

    async def _admit(self, permit_id: str) -> tuple[Permitted, _Issuer]:
        """Return a permit and who issued it, or raise."""
        if self._mirror.permit is not None:
            return self._mirror.permit, _Issuer.MIRROR
        refusal = self._mirror.refusal()
        if refusal is not None:
            raise self._refused(*refusal)
        if not self._follows:
            self._follows = True
            self._store.follow(self._name, self._see)
        issuer = _Issuer.STORE
        try:
            reply = await self._store.acquire(self._name, permit_id, self._limits, self._replica_id)
            self._learn(reply)
        except StoreUnavailableError:
            reply, issuer = self._local.acquire(permit_id), _Issuer.LOCAL
        except asyncio.CancelledError:
            # The script may have run and given this call a probe's place, whose answer nobody waits for any more.
            self._send(Report(permit_id=permit_id, generation=0, outcome=Outcome.IGNORED, replica_id=self._replica_id))
            raise
        local = issuer is _Issuer.LOCAL
        if isinstance(reply, Refused):
            raise self._refused(reply, reply.retry_after_ms / 1000, local=local)
        if reply.transition is Transition.HALF_OPENED:
            self._tell(EventKind.HALF_OPENED, reply.state, reply.generation, local=local)
        return reply, issuer

    def _refused(self, refused: Refused, rest_seconds: float, *, local: bool = False) -> CallNotPermittedError:
        if self._listeners:
            self._tell(EventKind.REFUSED, refused.state, refused.generation, local=local)
        return CallNotPermittedError(self._name, refused, rest_seconds)

    async def _settle(
        self, permit_id: str | None, permit: Permitted, issuer: _Issuer, outcome: Outcome, error: BaseException | None
    ) -> None:
        if not permit.reporting.wants(outcome):
            return
        report = Report(
            permit_id=permit_id or next(self._permit_ids),
            generation=permit.generation,
            outcome=outcome,
            error="" if error is None else self._describe(error),
            replica_id=self._replica_id,
        )
        if issuer is _Issuer.LOCAL:
            self._note(self._local.record(report), local=True)
            return
        if issuer is _Issuer.MIRROR and outcome is Outcome.SUCCESS:
            self._reset(report)
            return
        if isinstance(error, GeneratorExit):
            # A coroutine that is being closed must not wait, and may be closed after its loop: the lease heals that.
            with contextlib.suppress(RuntimeError):
                self._send(report)
            return
        # Awaited, so that the failure that trips has tripped the fleet before its caller is answered; shielded, so that
        # a caller that goes away meanwhile does not take the report with it.
        await asyncio.shield(self._send(report))

    def _reset(self, report: Report) -> None:
        """Report a success that ends a run of failures: one for all successes of this replica until it has arrived."""
        if self._resetting:
            return
        self._resetting = True

        def arrived(_: asyncio.Task[None]) -> None:
            self._resetting = False

        self._send(report).add_done_callback(arrived)

    def _send(self, report: Report) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._report(report))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)
        return task

    async def _report(self, report: Report) -> None:
        try:
            recorded = await self._store.record(self._name, report, self._limits)
            if recorded.generation == 0 and report.outcome is Outcome.FAILURE:
                recorded = await self._record_anew(report)
        except StoreUnavailableError:
            # The shared count is lost to this report, and a probe's lease will lapse; the failure still counts here.
            if report.outcome is Outcome.FAILURE:
                self._count_locally(report)
            return
        except Exception:
            _log.exception("%s: a report was lost", self._name)
            return
        self._learn(recorded)
        self._note(recorded, local=False)

    async def _record_anew(self, report: Report) -> Recorded:
        """Report a failure to a circuit that the store has forgotten: it idled out, or its data were lost.

        No message says so, and a mirrored circuit that is healthy asks nothing, so a failure may be what finds out. It
        is not late, and it counts for the circuit that begins anew.
        """
        permit = await self._store.acquire(self._name, report.permit_id, self._limits, self._replica_id)
        return await self._store.record(self._name, replace(report, generation=permit.generation), self._limits)

    def _count_locally(self, report: Report) -> None:
        permit = self._local.acquire(report.permit_id)
        if isinstance(permit, Permitted):
            self._note(self._local.record(replace(report, generation=permit.generation)), local=True)

    def _see(self, view: View | None) -> None:
        self._mirror.see(view)
        if view is not None:
            self._local.learn(view)

    def _learn(self, reply: Permitted | Refused | Recorded) -> None:
        self._mirror.note(reply)
        self._local.learn(reply)

    def _note(self, recorded: Recorded, *, local: bool) -> None:
        if recorded.transition is not None:
            self._tell(EventKind(recorded.transition), recorded.state, recorded.generation, local=local)

    def _tell(self, kind: EventKind, state: State, generation: int, *, local: bool) -> None:
        for listener in self._listeners:
            try:
                listener(BreakerEvent(kind=kind, name=self._name, state=state, generation=generation, local=local))
            except Exception:
                _log.exception("%s: a listener failed", self._name)

    def _late(self) -> CallTimeoutError:
        return CallTimeoutError(self._name, self._config.call_timeout_seconds or 0.0)

    def _judge_error(self, error: BaseException) -> Outcome:
        if not isinstance(error, Exception):
            return Outcome.IGNORED  # Cancelled, or the process is going down: nothing to hold against the dependency.
        try:
            return Outcome(self._classify_error(error))
        except Exception:
            _log.exception("%s: classify_error failed; the call counts as a failure", self._name)
            return Outcome.FAILURE

    def _describe(self, error: BaseException) -> str:
        try:
            return self._describe_error(error)
        except Exception:
            _log.exception("%s: describe_error failed; the class name is kept", self._name)
            return _class_name(error)

    def _judge_result(self, result: Any) -> Outcome:
        try:
            return Outcome(self._classify_result(result))
        except Exception:
            _log.exception("%s: classify_result failed; the call counts as a success", self._name)
            return Outcome.SUCCESS


class _Guard:
    """One guarded call, from asking to settling."""

    __slots__ = ("_breaker", "_deadline", "_issuer", "_outcome", "_permit", "_permit_id")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._outcome = Outcome.SUCCESS

    def judge(self, result: Any) -> None:
        self._outcome = self._breaker._judge_result(result)

    async def __aenter__(self) -> Self:
        breaker = self._breaker
        self._permit_id = next(breaker._permit_ids)
        self._permit, self._issuer = await breaker._admit(self._permit_id)
        self._deadline = asyncio.timeout(breaker._config.call_timeout_seconds)
        await self._deadline.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        breaker = self._breaker
        try:
            await self._deadline.__aexit__(kind, error, trace)
        except TimeoutError as timeout:
            late = breaker._late()
            await self._settle(Outcome.FAILURE, late)
            raise late from timeout
        await self._settle(self._outcome if error is None else breaker._judge_error(error), error)

    async def _settle(self, outcome: Outcome, error: BaseException | None) -> None:
        await self._breaker._settle(self._permit_id, self._permit, self._issuer, outcome, error)
