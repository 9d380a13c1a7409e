"""The circuit breaker for threads: asks before a call, settles after it, and never stands between it and its result."""

from __future__ import annotations

import functools
import inspect
import logging
import operator
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from breaker._call import Call, Issuer
from breaker._circuit import Circuit
from breaker._config import BreakerConfig, Consecutive
from breaker._errors import CallNotPermittedError, CallTimeoutError, ConfigError
from breaker._events import Listener, Status
from breaker._fork import in_every_child
from breaker._judge import Judge, Verdict, class_name, every_exception_is_a_failure, every_result_is_a_success
from breaker._types import Outcome, Permitted
from breaker.sync._blocks import Block, OpenBlocks
from breaker.sync._deadlines import Deadlines
from breaker.sync._link import Link
from breaker.sync._permit import Permit
from breaker.sync._prober import Prober
from breaker.sync._store import Store
from breaker.sync._stream import guarded_stream
from breaker.sync._timers import Timers
from breaker.sync._turn import Turn

_P = ParamSpec("_P")
_R = TypeVar("_R")

_log = logging.getLogger("breaker")

_FOR_TASKS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class CircuitBreaker:
    """Guards calls to one dependency, together with every other replica that uses the same name and store.

    Use it as a decorator (`@breaker`, on functions and generator functions), as a block (`with breaker:`), by
    `breaker.call(function, ...)`, or by `breaker.admit()` for what is none of these; from any number of threads. A call
    that is refused raises `CallNotPermittedError` and was not made. A call that was made keeps its own result: whatever
    happens to the store, to a listener or to a classifier changes neither the value returned nor the exception raised,
    and each answer of the store is waited for no longer than its timeout. A call that exceeds `call_timeout_seconds`
    counts as a failure at that moment; it goes on, and its own result counts no more.

    Blocks of one breaker that are left out of turn, or in other threads than they were entered in, as blocks in
    generators may be, can settle each other's permits. Such calls are better written with `admit()`.

    While the store is away the call is guarded as `on_store_error` says.

    Args:
        name: The circuit's name; every replica that uses it shares one circuit. 1 to 200 characters without spaces or
            braces.
        store: Where the circuit lives; one of `breaker.sync`.
        config: When to trip and how to recover.
        classify_error: Says what an exception means for the circuit; called for `Exception` only. By default each one
            is a failure, except another breaker's refusal. `OpenFor` is a failure that opens the circuit for a time.
        classify_result: Says what a returned value means; by default a success.
        describe_error: Gives the word for a failure that the record keeps as `last_error`; by default the class name.
            It is shown to operators and to refused callers, so nothing secret belongs in it.
        replica_id: Who this process is, in the record and in events; by default host name and process id.
        listeners: Called with each event of this replica, in the thread of the call that it is about and in its time,
            or in a thread of the store's for what happens in the background; whatever one raises is logged, once until
            it works again, and harms nobody.
        probe: A call that finds out whether the dependency is back. If given, it is made in a thread of its own once
            the cooldown has passed, by one replica, and no caller is ever the probe.

    Raises:
        ConfigError: The name cannot be one, or the store is one for tasks.
        TypeError: The probe is a coroutine function, of which a call finds nothing out.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        config: BreakerConfig | None = None,
        *,
        classify_error: Callable[[Exception], Verdict] = every_exception_is_a_failure,
        classify_result: Callable[[Any], Verdict] = every_result_is_a_success,
        describe_error: Callable[[BaseException], str] = class_name,
        replica_id: str | None = None,
        listeners: Iterable[Listener] = (),
        probe: Callable[[], object] | None = None,
    ) -> None:
        if not hasattr(store, "timers"):
            raise ConfigError("the store is for tasks: breaker.CircuitBreaker uses it; or make one of breaker.sync")
        if probe is not None:
            _refuse_what_is_for_tasks(probe)
        self._name = name
        self._store = store
        self._config = config or BreakerConfig()
        self._judge = Judge(name, classify_error, classify_result, describe_error)
        self._hears_results = classify_result is not every_result_is_a_success
        self._replica_id = replica_id
        self._listeners = tuple(listeners)
        self._probe = probe
        policy = self._config.policy
        self._slow_call_seconds = None if isinstance(policy, Consecutive) else policy.slow_call_seconds
        self._begin()
        in_every_child(self, CircuitBreaker._begin)

    def _begin(self) -> None:
        turn = Turn(self._name, self._listeners, self._store.dispatcher)
        self._turn = turn
        self._circuit = Circuit(
            self._name,
            self._config,
            replica_id=self._replica_id,
            listeners=turn.ears,
            warn=turn.warn,
            leaves_probing=self._probe is not None,
            hears_results=self._hears_results,
        )
        self._link = Link(
            self._circuit,
            self._store,
            self._judge,
            turn,
            leaves_probing=self._probe is not None,
        )
        timers = self._store.timers
        self._prober = None
        if self._probe is not None:
            ask = functools.partial(self._link.ask, in_background=True)
            self._prober = Prober(self._circuit, turn, timers, ask=ask, permit_of=self._permit, probe=self._make_probe)
            self._link.news = self._prober.look
        self._calls = Deadlines[Permit | Permitted](self._config.call_timeout_seconds, timers, self._count_as_late)
        self._slow = Deadlines[Callable[[], None]](self._slow_call_seconds, timers, operator.call, is_patient=False)
        self._open_blocks = OpenBlocks()

    @property
    def name(self) -> str:
        """The circuit's name."""
        return self._name

    @property
    def config(self) -> BreakerConfig:
        """The configuration."""
        return self._config

    @property
    def status(self) -> Status:
        """What this replica knows of the circuit and has counted; asks nobody."""
        return self._turn.take(self._circuit.status, degraded=self._store.degraded)

    def call(self, function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call a function if the circuit permits it, and return what it returns.

        Raises:
            CallNotPermittedError: The circuit lets no call through now; the function was not called.
            TypeError: It is a coroutine function or an async generator function, which `breaker.CircuitBreaker` calls.
        """
        # What the flags of its code tell of nearly every function would take `inspect` as long as all the rest.
        code = getattr(function, "__code__", None)
        if code is None or code.co_flags & _FOR_TASKS:
            _refuse_what_is_for_tasks(function)
        return self._guarded(function)(*args, **kwargs)

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Guard every call of a function, or every stream of a generator function.

        A stream is admitted when its first item is asked for and settled at its end; as the probe already once it has
        given an item and the next one might come too late for its lease, also while its consumer is busy with that
        item. `call_timeout_seconds` bounds the wait for each item. A consumer that goes away, or throws in what comes
        out again as it is, has seen that the dependency answers.

        Raises:
            TypeError: It is a coroutine function or an async generator function, which `breaker.CircuitBreaker` guards.
        """
        _refuse_what_is_for_tasks(function)

        # Not a partial function, which would not be bound as a method.
        def stream(*args: _P.args, **kwargs: _P.kwargs) -> Any:
            # It is a generator function then.
            return guarded_stream(self._begin_stream, function, *args, **kwargs)  # type: ignore[arg-type]

        return functools.wraps(function)(stream if inspect.isgeneratorfunction(function) else self._guarded(function))

    def __enter__(self) -> None:
        thread = threading.current_thread()
        permit = self.admit()
        block = -1, permit, thread
        try:
            block = self._calls.begin(permit), permit, thread
            self._open_blocks.enter(block)
        except BaseException:
            self._give_up(block)  # Nobody leaves a block that was not entered.
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        blocks, block = self._open_blocks, None
        try:
            with blocks.lock:
                block = blocks.innermost()
                if block is not None:
                    blocks.take_out(block)
            if block is None:
                return
            number, permit, _ = block
            self._calls.end(number)
            if error is None:
                permit.settle(Outcome.SUCCESS)
            else:
                permit.raised(error)
        except BaseException:
            # Where it was not found yet it has not been taken out either.
            block = block or blocks.innermost()
            if block is not None:
                self._give_up(block)
            raise

    def admit(self) -> Permit:
        """Return leave to make one call, for the caller to settle; for calls that are not one function.

        Raises:
            CallNotPermittedError: The circuit lets no call through now.
        """
        call = self._link.admit()
        try:
            return self._permit(call)
        except BaseException:
            self._link.give_back(call)  # Interrupted. Nobody holds it.
            raise

    def peek(self) -> CallNotPermittedError | None:
        """Tell whether a call would be refused now; one read, changes nothing.

        What it says may be old a moment later; only a call itself is decided atomically. While the store is away the
        local layer answers, and with `on_store_error="refuse"` it names no refusal, since a call may find the store
        back; where the circuit is mirrored and its copy is fresh, that answers, without a read.
        """
        return self._link.peek()

    def close(self) -> None:
        """End the background probe, whose place is given back and whose call is left to itself, and report what waits.

        For the end of a process, before the store is closed. What is not closed loses no more than the successes of the
        last moments.
        """
        if self._prober is not None:
            self._prober.close()
        self._link.close()

    def _guarded(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            circuit = self._circuit
            permit = circuit.permit
            if permit is None:
                return self._call_permitted(self.admit(), function, *args, **kwargs)
            # The path of nearly every call, spelled out to cost as little as it can: a fresh copy permits, and what is
            # not needed unless something goes wrong is not made.
            calls = self._calls
            number = calls.begin(permit)
            try:
                result = function(*args, **kwargs)
                # In here, since a call that is interrupted at its very end must not be watched until it is late.
                is_in_time = calls.end(number)
            except BaseException as error:
                if calls.end(number):
                    self._settle_mirrored(circuit, permit, self._judge.of_error(error), error)
                raise
            if is_in_time and circuit.hears_successes:
                self._settle_mirrored(circuit, permit, self._judge.of_result(result), None)
            return result

        def asked_first(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            return self._call_permitted(self.admit(), function, *args, **kwargs)

        # A call that may become slow is counted while it hangs, which wants a permit of its own.
        return guarded if self._slow_call_seconds is None else asked_first

    def _call_permitted(self, permit: Permit, function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        # Those of the process that began the call: in a child that is forked in it the number may be another call's.
        calls, number = self._calls, -1
        try:
            number = calls.begin(permit)
            result = function(*args, **kwargs)
            calls.end(number)
            permit.returned(result)
        except BaseException as error:
            # Its own error, or an interruption before it or after it, which settles what is not settled.
            calls.end(number)
            permit.raised(error)
            raise
        return result

    def _give_up(self, block: Block) -> None:
        """End a block that was interrupted as it was entered or left: it is not watched, and counts as nothing."""
        number, permit, _ = block
        self._open_blocks.take_out(block)
        self._calls.end(number)
        permit.settle(Outcome.IGNORED)

    def _begin_stream(self) -> tuple[Permit, Deadlines[Permit | Permitted], Timers, float]:
        lease_seconds, wait_seconds = self._circuit.limits.lease_ms / 1000, self._config.call_timeout_seconds
        lapses_seconds = lease_seconds - (lease_seconds / 2 if wait_seconds is None else wait_seconds)
        return self.admit(), self._calls, self._store.timers, lapses_seconds

    def _make_probe(self, permit: Permit) -> Verdict:
        assert self._probe is not None  # noqa: S101 - otherwise there is no prober
        number = self._calls.begin(permit)
        failure: BaseException | None = None
        try:
            verdict = self._judge.of_result(self._probe())
        except BaseException as error:
            _log.debug("%s: the background probe failed: %s", self._name, type(error).__name__)
            failure = error
            verdict = self._judge.of_error(error) if isinstance(error, Exception) else Outcome.FAILURE
        finally:
            self._calls.end(number)
        permit.settle(verdict, failure)
        return verdict

    def _permit(self, call: Call) -> Permit:
        return Permit(call, self._link, self._judge, self._slow)

    def _settle_mirrored(
        self, circuit: Circuit, permit: Permitted, verdict: Verdict, error: BaseException | str | None
    ) -> None:
        # Otherwise this is a child that was forked during the call, which is its parent's.
        if circuit is self._circuit:
            self._link.settle(Call(circuit.replica.permit_id(), permit, Issuer.MIRROR), verdict, error)

    def _count_as_late(self, call: Permit | Permitted) -> None:
        # A word and not an error: this is the thread of all timers, and `describe_error` might take its time.
        if isinstance(call, Permit):
            call.settle(Outcome.FAILURE, CallTimeoutError.__name__)
        else:
            self._settle_mirrored(self._circuit, call, Outcome.FAILURE, CallTimeoutError.__name__)


def _refuse_what_is_for_tasks(function: Callable[..., object]) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function!r} is for tasks: breaker.CircuitBreaker guards it")
