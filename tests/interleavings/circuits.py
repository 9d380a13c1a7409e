"""Circuits in a real server as the search needs them: put into any state, asked one question, read again.

What a script does depends on what it reads and on nothing else, so one execution for each pair of a circuit and a
question stands for every place of the search where that pair comes up. Two circuits are the same one here when they
differ only in the names of permits, in the numbers of generations, in where on the clock they lie, and in what scripts
write for people. That no script tells such two apart is not assumed: each question is put to two circuits that differ
in all of this, and the search ends if they answer differently.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple, Self

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from breaker import BreakerConfig, Mode, Outcome, Override, RedisStore
from breaker._types import Permitted, Recorded, Refused, Report

_PLANTED_LUA = Path(__file__).parents[1] / "support" / "lua"
_STORE_TIMEOUT_SECONDS = 60.0  # a busy machine is no absence of the server
_BATCH = 500  # as many circuits as are in the server at once


class Trace(NamedTuple):
    """What the record holds of one permit.

    Attributes:
        lease_ms: The rest of its lease; 0 when it has lapsed and is still there, -1 when there is none.
        counted: Whether its failure is among those that are counted.
    """

    lease_ms: int = -1
    counted: bool = False

    def later(self) -> Trace:
        """The same a millisecond later."""
        return Trace(self.lease_ms - 1, self.counted) if self.lease_ms > 0 else self


NO_TRACE = Trace()


class Core(NamedTuple):
    """What else of a record decides what happens; moments are what is left of them, in ms, 0 when they are over.

    Attributes:
        mode_ms: -1 when the mode has no end.
    """

    state: str = "absent"
    failures: int = 0
    retry_ms: int = 0
    probe_successes: int = 0
    mode: str = "auto"
    mode_ms: int = -1

    def later(self) -> Core:
        """The same a millisecond later."""
        mode_ms = self.mode_ms - 1 if self.mode_ms > 0 else self.mode_ms
        return self._replace(retry_ms=max(0, self.retry_ms - 1), mode_ms=mode_ms)


ABSENT = Core()


class Question(NamedTuple):
    """What is asked of a circuit.

    Attributes:
        verb: `acquire`, `report`, `give_back` (the answer to `acquire` was lost) or `control`.
        word: The outcome of a report, the action of an operator.
        fresh: Whether a report carries the generation that the record is in.
        duration_ms: How long an operator's mode holds; 0 without an end.
    """

    verb: str
    word: str = ""
    fresh: bool = False
    duration_ms: int = 0


class Case(NamedTuple):
    """A question put to a circuit: by whom, and who else has left a trace there."""

    core: Core
    others: tuple[Trace, ...]
    own: Trace
    question: Question


class Effect(NamedTuple):
    """What a question did, and what was answered.

    Attributes:
        others: The others' traces afterwards, in the order of the case.
        untouched: Not a byte of the circuit changed, its revision and its events included.
        moved: The generation changed.
        rose: The generation is higher than before and not behind the clock.
        word: `permitted`, `refused`, `recorded`, `stale` or `done`.
        told: The state that the answer names.
        current: The answer names the generation that the record is in.
        known: The answer names a generation at all.
    """

    core: Core
    others: tuple[Trace, ...]
    own: Trace
    untouched: bool
    moved: bool
    rose: bool
    word: str
    told: str
    current: bool
    known: bool
    wants: str = ""
    reason: str = ""
    retry_after_ms: int = 0
    transition: str = ""


class ReductionError(AssertionError):
    """Two circuits that the search takes for the same were told apart by a script."""


@dataclass(frozen=True, slots=True)
class _Guise:
    """One way to write down what is left open by a case: nothing in here may matter."""

    now_ms: int
    ahead_ms: int  # how far the record's generation is ahead of the clock
    age: int  # how far an old permit's generation is behind the record's
    backwards: bool  # whether the names of permits sort the other way round
    reopens: int
    text: str

    def name(self, index: int) -> str:
        return f"{9 - index if self.backwards else index}-permit"


_GUISES = (
    _Guise(now_ms=1_766_000_000_000, ahead_ms=-700, age=1, backwards=False, reopens=0, text=""),
    _Guise(now_ms=1_766_086_412_345, ahead_ms=2, age=86_400_000, backwards=True, reopens=3, text="Boom"),
)

# Fields that scripts write and that decide nothing; a field that is in neither list ends the search.
_FOR_PEOPLE = {
    *("v", "revision", "opened_at", "opened_at_ms", "trip_reason", "last_error", "tripped_by", "mode_reason"),
    *("mode_actor", "config", "reopens"),
}
_DECISIVE = {*("state", "generation", "failures", "retry_at_ms", "probe_successes", "mode", "mode_until_ms")}


class Circuits:
    """Asks the library's own scripts, in a real server, through the library's own store.

    Args:
        url: A server whose content is nobody else's.
        config: The breaker's configuration.
        script_path: Folders with scripts that go before the library's.
    """

    def __init__(self, url: str, config: BreakerConfig, script_path: Sequence[Traversable] = ()) -> None:
        self._client = redis.asyncio.Redis.from_url(url, decode_responses=True, retry=Retry(NoBackoff(), 0))
        self._store = RedisStore(
            self._client, timeout_seconds=_STORE_TIMEOUT_SECONDS, script_path=[*script_path, _PLANTED_LUA]
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
            one, other = (self._runner.run(self._ask(batch, guise)) for guise in _GUISES)
            for case, effect, twin in zip(batch, one, other, strict=True):
                if effect != twin:
                    raise ReductionError(
                        f"two circuits that are the same were told apart\n{case}\n  {effect}\n  {twin}"
                    )
                yield case, effect

    async def _ask(self, cases: Sequence[Case], guise: _Guise) -> list[Effect]:
        self.executions += len(cases)
        written = self._client.pipeline(transaction=False)
        written.set("planted:now_ms", guise.now_ms)
        before = [_written(case, guise) for case in cases]
        for index, dump in enumerate(before):
            written.delete(*_keys(index))
            _write(written, index, dump)
        await written.execute()
        answers = await asyncio.gather(*(self._put(f"c{index}", case, guise) for index, case in enumerate(cases)))
        read = self._client.pipeline(transaction=False)
        for index in range(len(cases)):
            _read(read, index)
        rows = await read.execute()
        after = [_Dump(*rows[at : at + _READS]) for at in range(0, len(rows), _READS)]
        return [
            _effect(case, guise, was, now, answer)
            for case, was, now, answer in zip(cases, before, after, answers, strict=True)
        ]

    async def _put(self, name: str, case: Case, guise: _Guise) -> Permitted | Refused | Recorded | None:
        question, permit_id = case.question, guise.name(0)
        if question.verb == "acquire":
            return await self._store.acquire(name, permit_id, self._limits, f"replica-{guise.text}")
        if question.verb == "control":
            mode = None if question.word == "reset" else Mode(question.word)
            override = Override(mode=mode, reason=guise.text, actor="anna", duration_ms=question.duration_ms)
            await self._store.control(name, override)
            return None
        report = Report(
            permit_id=permit_id,
            generation=0 if question.verb == "give_back" else _generation(guise) - (0 if question.fresh else guise.age),
            outcome=Outcome(question.word),
            error=guise.text,
            replica_id=f"replica-{guise.text}",
        )
        return await self._store.record(name, report, self._limits)


class _Dump(NamedTuple):
    record: Mapping[str, str]
    probes: Sequence[tuple[str, float]]
    window: Mapping[str, str]
    events: int


_READS = len(_Dump._fields)


def _keys(index: int) -> tuple[str, str, str, str]:
    record = f"breaker:{{c{index}}}"
    return record, f"{record}:probes", f"{record}:window", f"{record}:events"


def _write(pipe: Any, index: int, dump: _Dump) -> None:
    record, probes, window, _ = _keys(index)
    if dump.record:
        pipe.hset(record, mapping=dump.record)
    if dump.probes:
        pipe.zadd(probes, dict(dump.probes))
    if dump.window:
        pipe.hset(window, mapping=dump.window)


def _read(pipe: Any, index: int) -> None:
    record, probes, window, events = _keys(index)
    pipe.hgetall(record)
    pipe.zrange(probes, 0, -1, withscores=True)
    pipe.hgetall(window)
    pipe.xlen(events)


def _generation(guise: _Guise) -> int:
    return guise.now_ms + guise.ahead_ms


def _written(case: Case, guise: _Guise) -> _Dump:
    """Write a case down in a guise."""
    core, now_ms = case.core, guise.now_ms
    if core.state == "absent":
        return _Dump({}, [], {}, 0)
    traces = list(enumerate((case.own, *case.others)))
    record = {
        "state": core.state,
        "generation": _generation(guise),
        "failures": core.failures,
        "retry_at_ms": now_ms + core.retry_ms if core.retry_ms else now_ms * (core.state != "closed"),
        "probe_successes": core.probe_successes,
        "mode": core.mode,
        "mode_until_ms": 0 if core.mode_ms < 0 else now_ms + core.mode_ms,
        "reopens": guise.reopens,
        "revision": 7,
        "opened_at": "",
        "opened_at_ms": 0,
        "trip_reason": guise.text,
        "last_error": guise.text,
        "tripped_by": guise.text,
        "mode_reason": guise.text,
        "mode_actor": guise.text,
        "config": guise.text,
        "v": 1,
    }
    leases = [(guise.name(index), float(now_ms + trace.lease_ms)) for index, trace in traces if trace.lease_ms >= 0]
    counted = {guise.name(index): str(now_ms) for index, trace in traces if trace.counted}
    by_deadline = sorted(leases, key=lambda member: (member[1], member[0]))
    return _Dump({name: str(value) for name, value in record.items()}, by_deadline, counted, 0)


def _effect(
    case: Case, guise: _Guise, before: _Dump, after: _Dump, answer: Permitted | Refused | Recorded | None
) -> Effect:
    unknown = set(after.record) - _FOR_PEOPLE - _DECISIVE
    assert not unknown, f"say in circuits.py what these fields of the record decide: {unknown}"
    leases, now_ms = dict(after.probes), guise.now_ms

    def trace(index: int) -> Trace:
        deadline_ms = leases.pop(guise.name(index), None)
        lease_ms = -1 if deadline_ms is None else max(0, round(deadline_ms) - now_ms)
        return Trace(lease_ms, guise.name(index) in after.window)

    own, *others = [trace(index) for index in range(1 + len(case.others))]
    assert not leases, f"leases of nobody: {leases}"
    old = int(before.record.get("generation", 0))
    new = int(after.record.get("generation", 0))
    mode_until_ms = int(after.record.get("mode_until_ms", 0))
    core = (
        Core(
            state=after.record["state"],
            failures=int(after.record["failures"]),
            retry_ms=max(0, int(after.record["retry_at_ms"]) - now_ms),
            probe_successes=int(after.record["probe_successes"]),
            mode=after.record["mode"],
            mode_ms=max(0, mode_until_ms - now_ms) if mode_until_ms else -1,
        )
        if after.record
        else ABSENT
    )
    word, more = _told(answer)
    return Effect(
        core,
        tuple(others),
        own,
        untouched=before == after,
        moved=new != old,
        rose=new > old and new >= now_ms,
        word=word,
        told="" if answer is None else answer.state,
        current=answer is None or answer.generation == new,
        known=answer is None or answer.generation > 0,
        **more,
    )


def _told(answer: Permitted | Refused | Recorded | None) -> tuple[str, dict[str, Any]]:
    match answer:
        case Permitted():
            return "permitted", {"wants": str(answer.reporting), "transition": str(answer.transition or "")}
        case Refused():
            return "refused", {"reason": answer.reason, "retry_after_ms": answer.retry_after_ms}
        case Recorded():
            return "recorded" if answer.applied else "stale", {"transition": str(answer.transition or "")}
        case _:
            return "done", {}
