"""Circuits in a real server as the search needs them: put into any state, asked one question, read again.

What a script does depends on what it reads and on nothing else, so one execution for each pair of a circuit and a
question stands for every place of the search where that pair comes up. Two circuits are the same one here when they
differ only in the names of permits, in the numbers of generations, in where on the clock they lie, and in what scripts
write for people. That no script tells such two apart is not assumed: each question is put to two circuits that differ
in all of this, and the search ends if they answer differently.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Self

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from breaker import BreakerConfig, Mode, Outcome, Override, RedisStore
from breaker._types import Report
from tests.interleavings import records
from tests.interleavings.records import Answer, Dump, Guise
from tests.interleavings.words import Case, Effect

PLANTED_LUA = Path(__file__).parents[1] / "support" / "lua"
_STORE_TIMEOUT_SECONDS = 60.0  # a busy machine is no absence of the server
_BATCH = 500  # as many circuits as are in the server at once


class ReductionError(AssertionError):
    """Two circuits that the search takes for the same were told apart by a script."""


class Circuits:
    """Asks the library's own scripts, in a real server, through the library's own store.

    Args:
        url: A server whose content is nobody else's.
        config: The breaker's configuration.
        script_path: Folders with scripts that go before the library's.

    Attributes:
        executions: How often a script ran.
    """

    def __init__(self, url: str, config: BreakerConfig, script_path: Sequence[Traversable] = ()) -> None:
        self._client = redis.asyncio.Redis.from_url(url, decode_responses=True, retry=Retry(NoBackoff(), 0))
        self._store = RedisStore(
            self._client, timeout_seconds=_STORE_TIMEOUT_SECONDS, script_path=[*script_path, PLANTED_LUA]
        )
        self._limits = config.limits()
        self._runner = asyncio.Runner()
        self.executions = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._close())
        self._runner.close()

    async def _close(self) -> None:
        await self._store.aclose()
        await self._client.aclose()

    def ask(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Effect]]:
        """Answer each case, in order."""
        for start in range(0, len(cases), _BATCH):
            batch = cases[start : start + _BATCH]
            one, other = (self._runner.run(self._ask(batch, guise)) for guise in records.guises(self._limits))
            for case, effect, twin in zip(batch, one, other, strict=True):
                if effect != twin:
                    raise ReductionError(
                        f"two circuits that are the same were told apart\n{case}\n  {effect}\n  {twin}"
                    )
                yield case, effect

    async def _ask(self, cases: Sequence[Case], guise: Guise) -> list[Effect]:
        self.executions += len(cases)
        before = [guise.written(case) for case in cases]
        pipe = self._client.pipeline(transaction=False)
        pipe.set("planted:now_ms", guise.now_ms)
        for index, dump in enumerate(before):
            records.put(pipe, index, dump)
        await pipe.execute()
        answers = await asyncio.gather(*(self._put(f"c{index}", case, guise) for index, case in enumerate(cases)))
        for index in range(len(cases)):
            records.get(pipe, index)
        rows, width = await pipe.execute(), len(records.NOTHING)
        after = [Dump(*rows[at : at + width]) for at in range(0, len(rows), width)]
        answered = zip(cases, before, after, answers, strict=True)
        return [guise.effect(case, was, now, answer) for case, was, now, answer in answered]

    async def _put(self, name: str, case: Case, guise: Guise) -> Answer:
        question, permit_id, replica_id = case.question, guise.name(0), f"replica-{guise.text}"
        if question.verb == "acquire":
            may_probe = question.word != "abstain"
            return await self._store.acquire(name, permit_id, self._limits, replica_id, may_probe=may_probe)
        if question.verb == "control":
            mode = None if question.word == "reset" else Mode(question.word)
            override = Override(mode=mode, reason=guise.text, actor="anna", duration_ms=question.duration_ms)
            await self._store.control(name, override)
            return None
        generation = guise.generation if question.fresh else guise.generation - guise.age
        report = Report(
            permit_id=permit_id,
            generation=0 if question.verb == "give_back" else generation,
            outcome=Outcome(question.word),
            error=guise.text,
            replica_id=replica_id,
            failures=int(question.word == "failure"),
        )
        return await self._store.record(name, report, self._limits)
