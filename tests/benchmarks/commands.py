"""Commands, counted where they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import redis

from tests.benchmarks.subjects import Subject
from tests.benchmarks.timing import Series

_MARK = "the calls end here"
_CALLS = 100

# Longer than anything that a breaker collects before it reports.
AFTERWARDS_SECONDS = 1.0


async def count_commands(url: str, series: Series, calls: int, afterwards_seconds: float = 0.0) -> int:
    """Count the commands that any client sends to the server while calls are made, and for a while afterwards.

    Calls that wait for nothing keep the event loop busy, so what they leave to a timer is sent afterwards.

    MONITOR and not INFO, because the statistics also count what a script does inside the server, which costs nobody a
    round trip.
    """
    with redis.Redis.from_url(url) as marker, redis.Redis.from_url(url) as client, client.monitor() as monitor:
        await series.run(1)
        await asyncio.sleep(afterwards_seconds)  # what setting up has left to a timer is not what the calls cost
        marker.echo(_MARK)  # whoever connects for the first time has done so now, which takes commands of its own
        while _MARK not in monitor.next_command()["command"]:
            pass
        await series.run(calls)
        await asyncio.sleep(afterwards_seconds)
        marker.echo(_MARK)
        commands = 0
        while _MARK not in (seen := monitor.next_command())["command"]:
            commands += seen["client_type"] != "lua"
        return commands


async def count_all(url: str, subjects: Sequence[Subject]) -> None:
    """Fill in the commands of one call of each subject."""
    for one in subjects:
        one.closed_commands = await count_commands(url, one.closed, _CALLS) / _CALLS
        if one.refused is not None:
            one.refused_commands = await count_commands(url, one.refused, _CALLS) / _CALLS
