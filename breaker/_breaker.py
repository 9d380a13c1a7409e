"""The circuit breaker itself: asks before a call, settles after it, and never stands between a call and its result."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from breaker._blocks import OpenBlocks
from breaker._call import Call
from breaker._circuit import Circuit
from breaker._config import BreakerConfig, Consecutive
from breaker._deadlines import Deadlines
from breaker._errors import CallNotPermittedError, CallTimeoutError, ConfigError
from breaker._events import Listener, Status
from breaker._judge import Judge, Verdict, class_name, every_exception_is_a_failure, every_result_is_a_success
from breaker._link import Link
from breaker._permit import Permit
from breaker._steps import NothingToAwaitError, ending, rest_of, returning_coroutines
from breaker._store import Store
from breaker._types import Outcome, State

_P = ParamSpec("_P")
_R = TypeVar("_R")


class CircuitBreaker:
    """Guards calls to one dependency, together with every other replica that uses the same name and store.

    Use it as a decorator (`@breaker`, on coroutine functions and async generator functions), as a block (`async with
    breaker:`), by `await breaker.call(function, ...)`, or by `await breaker.admit()` for what is none of these. A call
    that is refused raises `CallNotPermittedError` and was not made. A call that was made keeps its own result: whatever
    happens to the store, to a listener or to a classifier changes neither the value returned nor the exception raised,
    and each answer of the store is waited for no longer than its timeout. A cancelled call counts as nothing; a call
    that exceeds `call_timeout_seconds` is cancelled, counts as a failure and raises `CallTimeoutError`.

    A child process that is forked before the breaker was first used is a replica of its own. What was used before, in
    an event loop of the parent, does not survive a fork: connections and what is known of the circuit are the parent's.

    While the store is away the call is guarded as `on_store_error` says.

    Args:
        name: The circuit's name; every replica that uses it shares one circuit. 1 to 200 characters without spaces or
            braces.
        store: Where the circuit lives.
        config: When to trip and how to recover.
        classify_error: Says what an exception means for the circuit; called for `Exception` only. By default each one
            is a failure, except another breaker's refusal. `OpenFor` is a failure that opens the circuit for a time.
        classify_result: Says what a returned value means; by default a success.
        describe_error: Gives the word for a failure that the record keeps as `last_error`; by default the class name.
            It is shown to operators and to refused callers, so nothing secret belongs in it.
        replica_id: Who this process is, in the record and in events; by default host name and process id.
        listeners: Called with each event of this replica, in the event loop; an exception harms nobody, and is logged
            once until the listener works again.
        probe: A call that finds out whether the dependency is back. If given, it is made in the background once the
            cooldown has passed, by one replica, and no caller is ever the probe.

    Raises:
        ConfigError: The name cannot be one, or the store is one of `breaker.sync`.
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
        probe: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        if not hasattr(store, "aclose"):
            raise ConfigError("the store is for threads: breaker.sync.CircuitBreaker uses it; or make one of breaker")
        config = config or BreakerConfig()
        self._store = store
        self._circuit = Circuit(
            name,
            config,
            replica_id=replica_id,
            listeners=listeners,
            leaves_probing=probe is not None,
            hears_results=classify_result is not every_result_is_a_success,
        )
        self._judge = Judge(name, classify_error, classify_result, describe_error)
        self._link = Link(self._circuit, store, self._judge, probe=probe)
        self._timeout_seconds = config.call_timeout_seconds
        self._deadlines = None if self._timeout_seconds is None else Deadlines(self._timeout_seconds, self._late)
        self._slow_call_seconds = None if isinstance(config.policy, Consecutive) else config.policy.slow_call_seconds
        self._open_blocks = OpenBlocks()
        self._settling: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """The circuit's name."""
        return self._circuit.name

    @property
    def config(self) -> BreakerConfig:
        """The configuration."""
        return self._circuit.config

    @property
    def status(self) -> Status:
        """What this replica knows of the circuit and has counted; asks nobody."""
        return self._circuit.status(degraded=self._store.degraded)

    async def call(self, function: Callable[_P, Awaitable[_R]], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call a coroutine function if the circuit permits it, and return what it returns.

        Raises:
            CallNotPermittedError: The circuit lets no call through now; the function was not called.
            CallTimeoutError: The breaker's own timeout passed; the call was cancelled.
            TypeError: It gave nothing to await; `breaker.sync.CircuitBreaker` calls such functions.
        """
        return await self._guarded(function)(*args, **kwargs)

    @overload
    def __call__(self, function: Callable[_P, AsyncIterator[_R]]) -> Callable[_P, AsyncIterator[_R]]: ...

    @overload
    def __call__(self, function: Callable[_P, Awaitable[_R]]) -> Callable[_P, Awaitable[_R]]: ...

    def __call__(self, function: Callable[_P, Any]) -> Callable[_P, Any]:
        """Guard every call of a coroutine function, or every stream of an async generator function.

        A stream is admitted when its first item is asked for and settled at its end; as the probe already once it has
        given an item and the next one might come too late for its lease, also while its consumer is busy with that
        item. `call_timeout_seconds` bounds the wait for each item. A consumer that goes away before the first item
        gives the permit back; one that goes away later has seen that the dependency answers, and what it throws into
        the stream is not the dependency's.
        """
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            def stream(*args: _P.args, **kwargs: _P.kwargs) -> AsyncGenerator[Any]:
                return self._stream(function(*args, **kwargs))

            return stream

        return functools.wraps(function)(self._guarded(function))

    async def __aenter__(self) -> None:
        """Ask for leave; in an async generator, whose block may be left by another task, `admit` is the better way.

        Raises:
            CallNotPermittedError: The circuit lets no call through now; the block was not entered.
        """
        permit = await self.admit()
        deadline = asyncio.timeout(self._timeout_seconds)
        await deadline.__aenter__()
        self._open_blocks.enter(permit, deadline)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block = self._open_blocks.leave()
        if block is None:
            return
        permit, deadline = block
        try:
            await deadline.__aexit__(kind, error, trace)
        except TimeoutError as timeout:
            late = self._late()
            await permit.settle(Outcome.FAILURE, late)
            raise late from timeout
        await permit.settle(Outcome.SUCCESS if error is None else self._verdict_of(error), error)

    async def admit(self) -> Permit:
        """Return leave to make one call, for the caller to settle; for calls that are not one function.

        Raises:
            CallNotPermittedError: The circuit lets no call through now.
        """
        return Permit(await self._link.admit(), self._link, self._judge, self._slow_call_seconds)

    async def peek(self) -> CallNotPermittedError | None:
        """Tell whether a call would be refused now; one read, changes nothing.

        What it says may be old a moment later; only a call itself is decided atomically. While the store is away the
        local layer answers, and with `on_store_error="refuse"` it names no refusal, since a call may find the store
        back; where the circuit is mirrored and its copy is fresh, that answers, without a read.
        """
        return await self._link.peek()

    async def aclose(self) -> None:
        """End the background probe, report what still waits, and wait for the reports on their way.

        For the end of a process, before the store is closed. What is not closed loses no more than the successes of the
        last moments.
        """
        await self._link.aclose()

    def _guarded(self, function: Callable[_P, Awaitable[_R]]) -> Callable[_P, Coroutine[Any, Any, _R]]:
        circuit, link, judge = self._circuit, self._link, self._judge
        mirror = circuit.mirror
        begin: Callable[..., Coroutine[Any, Any, _R]] = returning_coroutines(function)
        deadlines = self._deadlines

        async def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            # The path of nearly every call, spelled out to cost as little as it can: a fresh copy permits, the first
            # step of the call is made here, and only a call that has to wait gets a deadline.
            permit, call = circuit.permit, None
            if permit is None:
                if mirror.refused is not None:
                    rest_seconds = circuit.refusing_seconds()
                    if mirror.refused is not None:
                        # Not raised from a variable: with the traceback that would be a cycle for the collector.
                        raise CallNotPermittedError(circuit.name, mirror.refused, rest_seconds)
                call = circuit.admit() or await link.ask()
                permit = call.permit
            returned: list[_R] = [None]  # type: ignore[list-item] # until it returns
            try:
                # An empty dictionary of keywords would cost as much as three of these lines.
                steps = ending(begin(*args, **kwargs) if kwargs else begin(*args), returned)
                for waits_for in steps:
                    rest = rest_of(steps, waits_for)
                    await (rest if deadlines is None else deadlines.bound(rest))
                    break
                result = returned[0]
            except BaseException as error:
                await self._raised(call or circuit.permitted(permit), error)
                raise
            if call is not None or (circuit.hears_successes and not link.gather(permit)):
                await link.settle(call or circuit.permitted(permit), judge.of_result(result))
            return result

        async def guarded_and_timed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            permit = await self.admit()
            try:
                running = begin(*args, **kwargs)
                result = await (running if deadlines is None else deadlines.bound(running))
            except BaseException as error:
                await permit.settle(self._verdict_of(error), error)
                raise
            await permit.returned(result)
            return result

        # A call that may become slow is counted while it hangs, which wants a permit of its own.
        return guarded if self._slow_call_seconds is None else guarded_and_timed

    async def _stream(self, unguarded: AsyncGenerator[_R, Any]) -> AsyncGenerator[_R, Any]:
        asked_at = asyncio.get_running_loop().time()
        permit, begun, thrown = await self.admit(), False, None
        try:
            async with aclosing(unguarded) as stream:
                resumed: Awaitable[_R] = anext(stream)
                while True:
                    try:
                        item = await (resumed if self._deadlines is None else self._deadlines.bound(resumed))
                    except StopAsyncIteration:
                        break
                    lapsing = await self._settle_in_time(permit, asked_at) if permit.state is State.HALF_OPEN else None
                    begun, thrown = True, None
                    try:
                        sent = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as error:  # noqa: BLE001 - whatever is thrown in is for the stream to deal with
                        thrown = error
                        resumed = stream.athrow(error)
                    else:
                        resumed = stream.asend(sent)
                    finally:
                        if lapsing is not None:
                            lapsing.cancel()
        except GeneratorExit as left:
            await permit.settle(Outcome.SUCCESS if begun else Outcome.IGNORED, left)
            raise
        except BaseException as error:
            await permit.settle(Outcome.SUCCESS if error is thrown else self._verdict_of(error), error)
            raise
        await permit.settle(Outcome.SUCCESS)

    async def _settle_in_time(self, permit: Permit, asked_at: float) -> asyncio.TimerHandle | None:
        """Settle a probe that has given an item once its lease may lapse before the next one has to be there.

        That may be while its consumer is busy with this item, for however long.
        """
        loop = asyncio.get_running_loop()
        lease_seconds = self._circuit.limits.lease_ms / 1000
        wait_seconds = lease_seconds / 2 if self._timeout_seconds is None else self._timeout_seconds
        rest_seconds = asked_at + lease_seconds - wait_seconds - loop.time()
        if rest_seconds >= 0:
            return loop.call_later(rest_seconds, self._settle_meanwhile, permit)
        await permit.settle(Outcome.SUCCESS)
        return None

    def _settle_meanwhile(self, permit: Permit) -> None:
        settling = asyncio.get_running_loop().create_task(permit.settle(Outcome.SUCCESS))
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)

    async def _raised(self, call: Call, error: BaseException) -> None:
        await self._link.settle(call, self._verdict_of(error), error)

    def _verdict_of(self, error: BaseException) -> Verdict:
        # A classifier is not asked about the breaker's own deadline; another breaker's is an error like others.
        if isinstance(error, CallTimeoutError) and error.breaker == self.name:
            return Outcome.FAILURE
        return Outcome.IGNORED if isinstance(error, NothingToAwaitError) else self._judge.of_error(error)

    def _late(self) -> CallTimeoutError:
        return CallTimeoutError(self.name, self._timeout_seconds or 0.0)
