"""What a fleet sees and costs: trips seen by other processes, idle replicas, circuits by the thousand, a dead link."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from bisect import insort
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil  # type: ignore[import-untyped]
import redis
import redis.asyncio

from breaker import CircuitBreaker, Consecutive, Consistency, Override, State
from tests.benchmarks.ours import PATIENT, config
from tests.benchmarks.replica import CIRCUIT, READY, SAY_AFTER_SECONDS
from tests.benchmarks.subjects import DependencyError, work
from tests.benchmarks.timing import Pace
from tests.benchmarks.watched import WatchedStore

REPLICAS = 20
# How many are measured undisturbed, and how many at most until there are as many.
TRIPS = 250
_MOST_TRIPS = 4 * TRIPS
_BETWEEN_TRIPS_SECONDS = 0.03
# As long as the message of a trip.
_MESSAGE_BYTES = 420

IDLE_REPLICAS = 200
_IDLE_PROCESSES = 4
_IDLE_SECONDS = 5.0

CIRCUITS = 10_000

_PATIENCE_SECONDS = 60.0


class Replica:
    """A process of `tests.benchmarks.replica`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def hear(self) -> Any:
        """Wait for the next thing that it says."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), _PATIENCE_SECONDS)
        if not line:
            raise RuntimeError("a replica has ended by itself; what it wrote is above")
        return json.loads(line)

    async def end(self) -> None:
        """End it."""
        await asyncio.wait_for(self._process.communicate(b""), _PATIENCE_SECONDS)

    async def kill(self) -> None:
        """End it whatever it does."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def replicas(role: str, url: str, processes: int, count: int = 1) -> AsyncIterator[list[Replica]]:
    """Start processes of one role, and yield them once all are ready."""
    command = (sys.executable, "-m", "tests.benchmarks.replica", role, url, str(count))
    # Sessions of their own, because Ctrl-C is this process's to handle.
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    async with AsyncExitStack() as stack:
        started = []
        for _ in range(processes):
            replica = Replica(await asyncio.create_subprocess_exec(*command, **options))
            stack.push_async_callback(replica.kill)
            started.append(replica)
        for replica in started:
            if await replica.hear() != READY:
                raise RuntimeError("a replica said something else before it was ready")
        yield started
        for replica in started:
            await replica.end()


@dataclass(slots=True)
class Trips:
    """How long after the failing call, or the sending of a message, each replica saw it, milliseconds; sorted.

    A virtual machine's host can run somebody else's work for longer than a trip takes to be seen by all, or take the
    caches away. A trip is disturbed if the kernel counted such a pause, or if the machine was slow before it, in the
    midst of it or after it.

    Attributes:
        each: For every replica and trip that was not disturbed.
        last: For every trip that was not disturbed, the replica that saw it last.
        last_of_all: The same for every trip.
        pace: Tells when the machine is slow.
    """

    each: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    last_of_all: list[float] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)

    @property
    def enough(self) -> bool:
        """Whether no more are needed, or hoped for."""
        return len(self.last) >= TRIPS or len(self.last_of_all) >= _MOST_TRIPS

    def add(self, delays: list[float], *, disturbed: bool) -> None:
        """Add what was seen of one trip."""
        insort(self.last_of_all, max(delays))
        if not disturbed:
            insort(self.last, max(delays))
            for delay in delays:
                insort(self.each, delay)


async def measure_trips(url: str, progress: Callable[[], None]) -> Trips:
    """Trip one circuit again and again in front of other processes."""
    trips = Trips()
    async with redis.asyncio.Redis.from_url(url) as client, replicas("watch", url, REPLICAS) as watching:
        store = WatchedStore(client, **PATIENT)
        breaker = CircuitBreaker(CIRCUIT, store, config(Consistency.MIRRORED, Consecutive(1)))
        await breaker.call(work)
        while not trips.enough:
            await store.until(CIRCUIT, State.CLOSED)
            if await _see(trips, watching, partial(_fail, breaker)):
                progress()
            await store.control(CIRCUIT, Override(mode=None, reason="the next trip", actor="make bench"))
        await store.aclose()
    return trips


async def measure_messages(url: str, progress: Callable[[], None]) -> Trips:
    """Publish a message as long as a trip's again and again to processes that only receive it: the least there is."""
    messages, number = Trips(), itertools.count()
    async with redis.asyncio.Redis.from_url(url) as client, replicas("listen", url, REPLICAS) as listening:

        async def send() -> int:
            sent_ns = time.monotonic_ns()
            await client.publish(CIRCUIT, str(next(number)).ljust(_MESSAGE_BYTES))
            return sent_ns

        while not messages.enough:
            if await _see(messages, listening, send):
                progress()
    return messages


async def _see(trips: Trips, watching: list[Replica], happen: Callable[[], Awaitable[int]]) -> bool:
    """Make something happen, note how long after it each replica saw it, and tell whether it was undisturbed.

    Args:
        trips: Where that is noted.
        watching: The replicas.
        happen: Makes it happen, and returns when it did, nanoseconds.
    """
    # They are listened to from before, so that this process leaves both cores to them, and all are idle by then.
    hearing = asyncio.gather(*[replica.hear() for replica in watching])
    await asyncio.sleep(_BETWEEN_TRIPS_SECONDS)
    stolen_seconds = _stolen_seconds()
    slow = [trips.pace.is_slow()]
    happened_ns = await happen()
    # Before the first replica says anything, and nearly always after the last has seen it.
    asyncio.get_running_loop().call_later(SAY_AFTER_SECONDS / 2, lambda: slow.append(trips.pace.is_slow()))
    seen = await hearing
    slow.append(trips.pace.is_slow())
    if len({what for what, _ in seen}) != 1:
        raise RuntimeError("the replicas speak of different trips")
    delays = [(seen_ns - happened_ns) / 1e6 for _, seen_ns in seen]
    disturbed = any(slow) or _stolen_seconds() > stolen_seconds
    trips.add(delays, disturbed=disturbed)
    return not disturbed


def _stolen_seconds() -> float:
    """Return for how long the host has kept this machine from running so far; 0 where nobody counts that."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


async def _fail(breaker: CircuitBreaker) -> int:
    """Make the call that trips, and return when it failed, before anything was reported."""
    failed_ns = 0

    async def fail_now() -> None:
        nonlocal failed_ns
        failed_ns = time.monotonic_ns()
        raise DependencyError

    try:
        await breaker.call(fail_now)
    except DependencyError:
        return failed_ns
    raise AssertionError


async def measure_idle(url: str) -> float:
    """Count the commands in a second of replicas that have subscribed and do nothing."""
    async with replicas("idle", url, _IDLE_PROCESSES, IDLE_REPLICAS // _IDLE_PROCESSES):
        with redis.Redis.from_url(url) as client:
            before, started = _commands(client), time.monotonic()
            await asyncio.sleep(_IDLE_SECONDS)
            # The first question for the statistics is counted after it is answered.
            return (_commands(client) - before - 1) / (time.monotonic() - started)


def _commands(client: redis.Redis) -> int:
    statistics: dict[str, Any] = client.info("stats")
    return int(statistics["total_commands_processed"])


@dataclass(frozen=True, slots=True)
class Many:
    """What ten thousand circuits in one replica take.

    Attributes:
        first_use_seconds: Until each has been called once.
        fresh_seconds: Until every copy is kept fresh.
        replica_bytes: Memory of the replica for each.
        redis_bytes: Memory of the server for each, with its share of everything that belongs to it.
        closed_us: A closed call, each to another circuit.
        one_closed_us: A closed call in the same process, always to the same circuit.
    """

    first_use_seconds: float
    fresh_seconds: float
    replica_bytes: float
    redis_bytes: float
    closed_us: float
    one_closed_us: float


async def measure_many(url: str) -> Many:
    """Use ten thousand circuits in one process."""
    with redis.Redis.from_url(url) as client:
        before = client.info("memory")["used_memory"]
        async with replicas("many", url, 1, CIRCUITS) as (replica,):
            taken = (client.info("memory")["used_memory"] - before) / CIRCUITS
            saw = await replica.hear()
    return Many(
        first_use_seconds=saw["first_use_seconds"],
        fresh_seconds=saw["fresh_seconds"],
        replica_bytes=saw["bytes"],
        redis_bytes=taken,
        closed_us=saw["closed_us"],
        one_closed_us=saw["one_closed_us"],
    )
