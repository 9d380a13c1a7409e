"""One replica of a fleet: a store and a breaker that do what they are told, one step at a time.

It runs either in the test's own process or in a process of its own (see `worker.py`); everything that goes in and comes
out can be pickled.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from breaker import (
    BreakerConfig,
    CallNotPermittedError,
    CircuitBreaker,
    Outcome,
    Override,
    RedisStore,
    _redis_feed,
    _store_guard,
)

_PLANTED_LUA = Path(__file__).parents[1] / "support" / "lua"
_PAUSED: tuple[Any, ...] = (_store_guard, _redis_feed)
_PAUSES = [module._PAUSE_SECONDS for module in _PAUSED]
_time_of_day = time.time
_PATIENCE_SECONDS = 20.0
# Traffic that never waits would keep the machine from everybody else.
_BREATH_SECONDS = 0.001
_TURN_SECONDS = 0.01
# One rounding of a float must not keep a copy alive whose time is over.
_ROUNDING_SECONDS = 1e-6

SUCCESS, FAILURE, IGNORED = "success", "failure", "ignored"
CHARGED = "charged"


class ProviderDownError(Exception):
    """What a sick dependency raises."""


class ClientMistakeError(Exception):
    """What says nothing about the dependency."""


def _classify(error: Exception) -> Outcome:
    return Outcome.IGNORED if isinstance(error, ClientMistakeError) else Outcome.FAILURE


def _end(how: str) -> str:
    if how == FAILURE:
        raise ProviderDownError
    if how == IGNORED:
        raise ClientMistakeError
    return CHARGED


def word_for(end: object) -> str:
    """The word that tests count an end of a call by."""
    if isinstance(end, CallNotPermittedError):
        return end.reason
    return type(end).__name__ if isinstance(end, BaseException) else str(end)


class _HeldCall:
    """A call that goes on until it is told how to end."""

    def __init__(self, replica: Replica) -> None:
        self.entered = asyncio.Event()
        self.how: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(replica.through_the_door(self._held))

    async def _held(self) -> str:
        self.entered.set()
        return _end(await self.how)

    async def begun(self) -> BaseException | None:
        """Wait until the call is inside, or return what kept it out."""
        entering = asyncio.create_task(self.entered.wait())
        await asyncio.wait({entering, self.task}, return_when=asyncio.FIRST_COMPLETED)
        entering.cancel()
        return None if self.entered.is_set() else self.task.exception()

    async def ended(self) -> Any:
        """Wait for what the caller gets: what was returned, or raised."""
        await asyncio.wait({self.task})
        return asyncio.CancelledError() if self.task.cancelled() else self.task.exception() or self.task.result()


class Replica:
    """A store and a breaker, as one process has them."""

    def __init__(self) -> None:
        self._store: RedisStore | None = None
        self._client: Redis | None = None
        self._held: dict[str, _HeldCall] = {}
        self._lines: list[str] = []
        self._handler = logging.Handler()
        self._handler.emit = lambda record: self._lines.append(record.getMessage())  # type: ignore[method-assign]
        self._traffic: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._turns = 0
        self._ends: Counter[str] = Counter()
        self._slowest_turns = 0
        self._seconds = 0.0

    async def open(
        self,
        *,
        url: str,
        name: str,
        replica_id: str,
        config: BreakerConfig,
        door: str,
        clock_seconds: float | None,
        decode_responses: bool,
        pause_seconds: float | None,
        timeout_seconds: float,
        heartbeat_seconds: float,
    ) -> None:
        """Begin to be a replica.

        Args:
            url: Where the server is.
            name: The circuit's name.
            replica_id: Who this is.
            config: The breaker's.
            door: How calls are guarded: `call`, `block` or `decorator`.
            clock_seconds: What this host's clock shows; it moves when told. None leaves the real clocks alone, here
                and in the scripts.
            decode_responses: What the client is told.
            pause_seconds: How soon a store that is away is tried again; None for the library's own pause.
            timeout_seconds: The store's timeout.
            heartbeat_seconds: The store's heartbeat.
        """
        if pause_seconds is not None:
            for module in _PAUSED:
                module._PAUSE_SECONDS = pause_seconds
        logging.getLogger("breaker").addHandler(self._handler)
        self._client = Redis.from_url(
            url,
            decode_responses=decode_responses,
            socket_timeout=None,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,
        )
        self._store = RedisStore(
            self._client,
            timeout_seconds=timeout_seconds,
            heartbeat_seconds=heartbeat_seconds,
            script_path=[] if clock_seconds is None else [_PLANTED_LUA],
        )
        self._door = door
        self._options: dict[str, Any] = {"replica_id": replica_id, "classify_error": _classify}
        self._name, self._planted = name, clock_seconds is not None
        self._seconds = clock_seconds or 0.0
        await self.configure(config)

    async def configure(self, config: BreakerConfig, name: str | None = None) -> None:
        """Make the breaker anew, as a deploy does, perhaps for another circuit."""
        assert self._store is not None
        self._breaker = CircuitBreaker(name or self._name, self._store, config, **self._options)
        if self._planted:
            self._breaker._circuit.mirror._clock = self._breaker._circuit.known.clock = self._clock

    async def close(self) -> None:
        """End everything and be ready to be opened again."""
        await self.stop_traffic()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        await self._cancel_all()
        await self._disconnect()
        for module, seconds in zip(_PAUSED, _PAUSES, strict=True):
            module._PAUSE_SECONDS = seconds
        time.time = _time_of_day
        logging.getLogger("breaker").removeHandler(self._handler)
        self.__init__()  # type: ignore[misc]

    async def disappear(self) -> None:
        """Reach nobody any more and go on with no call: what is left of a process that was killed."""
        await self._disconnect()
        assert self._store is not None
        presence = self._store._guard._presences[""]
        presence.degraded, presence._try_again_at = True, {True: math.inf, False: math.inf}

    async def _disconnect(self) -> None:
        if self._store is not None and self._client is not None:
            await self._store.aclose()
            await self._client.aclose()

    async def _cancel_all(self) -> None:
        for held in self._held.values():
            held.task.cancel()
        await asyncio.gather(*(held.ended() for held in self._held.values()))
        await self._reported()

    async def through_the_door(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Make a guarded call."""
        if self._door == "block":
            async with self._breaker:
                return await function()
        if self._door == "decorator":
            return await self._breaker(function)()
        return await self._breaker.call(function)

    async def begin(self, call: str) -> Any:
        """Begin a call that goes on until `finish` or `cancel`; return what kept it out, or None."""
        held = _HeldCall(self)
        error = await held.begun()
        if error is None:
            self._held[call] = held
        return error

    async def begin_many(self, calls: list[str]) -> list[Any]:
        """Begin many calls at the same moment."""
        return await asyncio.gather(*map(self.begin, calls))

    async def finish(self, call: str, how: str, wait: bool = True) -> Any:
        """Let a call end, wait until all reports have arrived if asked to, and return what its caller got."""
        held, began = self._held.pop(call), self._turns
        held.how.set_result(how)
        end = await held.ended()
        self._slowest_turns = max(self._slowest_turns, self._turns - began)
        if wait:
            await self._reported()
        return end

    async def finish_many(self, calls: list[str], how: str) -> list[Any]:
        """Let many calls end at the same moment."""
        return await asyncio.gather(*(self.finish(call, how) for call in calls))

    async def cancel(self, call: str) -> Any:
        """Cancel a call, as a client that goes away does, and wait until all reports have arrived."""
        held = self._held.pop(call)
        held.task.cancel()
        end = await held.ended()
        await self._reported()
        return end

    async def run(self, how: str, times: int = 1, wait: bool = True) -> Counter[str]:
        """Make calls one after the other, and count how they ended for their callers."""
        ends: Counter[str] = Counter()
        for _ in range(times):
            ends[word_for(await self._one(how))] += 1
        if wait:
            await self._reported()
        return ends

    async def run_side_by_side(self, hows: list[str], rounds: int, lanes: int) -> Counter[str]:
        """Make calls that end like this, again and again, some rows of them at the same time."""

        async def lane() -> Counter[str]:
            return Counter([word_for(await self._one(how)) for _ in range(rounds) for how in hows])

        ends: Counter[str] = Counter()
        for each in await asyncio.gather(*(lane() for _ in range(lanes))):
            ends += each
        await self._reported()
        return ends

    async def run_many(self, how: str, times: int) -> Counter[str]:
        """Make calls at the same moment and count how they ended for their callers."""
        ends = await asyncio.gather(*(self._one(how) for _ in range(times)))
        await self._reported()
        return Counter(map(word_for, ends))

    async def hang(self, own_deadline_seconds: float | None) -> Any:
        """Make a call that never answers, inside a deadline of the caller's own; return what the caller got."""
        try:
            async with asyncio.timeout(own_deadline_seconds):
                return await self.through_the_door(asyncio.Event().wait)
        except TimeoutError as error:
            return error
        finally:
            await self._reported()

    async def peek(self) -> Any:
        """Ask what a call would be told."""
        return await self._breaker.peek()

    async def read(self) -> Any:
        """Read the circuit through the store."""
        assert self._store is not None
        return await self._store.snapshot(self._name), await self._store.names()

    async def control(self, override: Override) -> None:
        """Act as an operator."""
        assert self._store is not None
        await self._store.control(self._name, override)

    async def start_traffic(self, how: str = SUCCESS) -> None:
        """Go on calling until `stop_traffic`."""

        async def calling() -> None:
            while True:
                self._ends[word_for(await self._one(how))] += 1
                await asyncio.sleep(_BREATH_SECONDS)

        self._traffic = asyncio.create_task(calling())

    async def traffic(self, more: int) -> Counter[str]:
        """Wait until so many more calls have ended, and return the ends of all."""
        enough = self._ends.total() + more
        await self._until(lambda: self._ends.total() >= enough)
        return self._ends

    async def start_watch(self) -> None:
        """Count from now on how long calls take."""

        async def turning() -> None:
            while True:
                await asyncio.sleep(_TURN_SECONDS)
                self._turns += 1

        self._watch = asyncio.create_task(turning())

    async def slowest(self) -> float:
        """How long the slowest call has taken, in seconds; of a held one the time after it was told how to end.

        Counted by a task that wakes up again and again, so that a time in which this process could not run is none.
        """
        return self._slowest_turns * _TURN_SECONDS

    async def stop_traffic(self) -> None:
        """Stop calling."""
        if self._traffic is not None:
            self._traffic.cancel()
            await asyncio.wait({self._traffic})

    async def advance(self, seconds: float) -> None:
        """Let time pass on this host's clock."""
        self._seconds += seconds + _ROUNDING_SECONDS

    async def skew(self, seconds: float) -> None:
        """Set this host's time of day wrong."""
        time.time = lambda: _time_of_day() + seconds

    async def catch_up(self, generation: int, revision: int) -> None:
        """Wait until the copy of the circuit is at least so new."""
        mirror = self._breaker._circuit.mirror
        await self._until(lambda: mirror._fresh and mirror.newest >= (generation, revision))

    async def lose_touch(self) -> None:
        """Wait until the copy is no longer relied on."""
        await self._until(lambda: not self._breaker._circuit.mirror._fresh)

    async def until_degraded(self, degraded: bool) -> None:
        """Wait until the store is known to be away, or known to answer."""
        store = self._store
        assert store is not None
        await self._until(lambda: store.degraded is degraded)

    async def degraded(self) -> bool:
        """Whether the store is known to be away."""
        assert self._store is not None
        return self._store.degraded

    async def lines(self) -> list[str]:
        """What this process has logged."""
        return self._lines

    async def _one(self, how: str) -> Any:
        async def once() -> str:
            return _end(how)

        began = self._turns
        try:
            return await self.through_the_door(once)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller got it
            return error
        finally:
            self._slowest_turns = max(self._slowest_turns, self._turns - began)

    async def _reported(self) -> None:
        await self._breaker._link.drain()

    def _clock(self) -> float:
        return self._seconds

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not holds():  # noqa: ASYNC110 - moved by messages from the server
                await asyncio.sleep(0.001)
