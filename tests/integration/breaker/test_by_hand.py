"""What docs/operations.md says to type into redis-cli is in force in the whole fleet."""

from __future__ import annotations

import re
import shlex
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from breaker import BreakerConfig, CallNotPermittedError, Consistency, Mode, sync
from tests.support.replica import NAME, replicas, until, works

_DOCS = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
WRITTEN = re.findall(r'^\$ redis-cli -u "\$REDIS_URL" ((?:HSET|PERSIST|PUBLISH) .*)$', _DOCS, re.MULTILINE)


def type_in(cli: Any, *lines: str) -> None:
    """Do what a person does with redis-cli."""
    for line in lines:
        cli.execute_command(*shlex.split(line))


@pytest.mark.parametrize("consistency", list(Consistency), ids=str)
async def test_a_mode_that_is_written_by_hand_reaches_every_replica(
    empty_server_url: str, consistency: Consistency
) -> None:
    """Tasks and threads refuse from then on with its reason, the record is kept for ever, and `auto` ends it."""
    config, (write, persist, publish) = BreakerConfig(consistency=consistency), WRITTEN
    with (
        redis.Redis.from_url(empty_server_url, decode_responses=True) as cli,
        closing(sync.RedisStore.from_url(empty_server_url, timeout_seconds=5, heartbeat_seconds=0.02)) as store,
    ):
        threads = sync.CircuitBreaker(NAME, store, config)
        threads.call(lambda: "charged")
        async with replicas() as start:
            tasks = start(empty_server_url, "api-1", config)
            await tasks.breaker.call(works)
            if consistency is Consistency.MIRRORED:
                await tasks.warm()
                await until(lambda: threads._circuit.permit is not None)
            type_in(cli, write, persist, publish)
            if consistency is Consistency.MIRRORED:
                await until(lambda: tasks.refuses and threads._circuit.mirror.refusing_seconds() > 0)
            with pytest.raises(CallNotPermittedError, match="forced_open"):
                await tasks.breaker.call(works)
            with pytest.raises(CallNotPermittedError, match="forced_open"):
                threads.call(lambda: "charged")
            seen = await tasks.store.snapshot(NAME)
            assert seen is not None
            assert (seen.mode, seen.mode_reason, seen.mode_actor) == (Mode.FORCED_OPEN, "incident 42", "ana")
            assert cli.pttl(f"breaker:{{{NAME}}}") == -1
            type_in(cli, write.replace("forced_open", "auto"), publish)
            if consistency is Consistency.MIRRORED:
                await until(lambda: tasks.permits and threads._circuit.permit is not None)
            assert (await tasks.breaker.call(works), threads.call(lambda: "charged")) == ("charged", "charged")
