"""What the search leaves out of a circuit makes no difference: shown on circuits that nobody put together."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import redis.asyncio

from breaker import Mode, Outcome, Override, RedisStore
from breaker._types import Report
from tests.interleavings import records
from tests.interleavings.callers import IDLE, Caller, Turn, answered, questions, turns
from tests.interleavings.circuits import PLANTED_LUA, Circuits
from tests.interleavings.records import Answer, Dump, Guise
from tests.interleavings.scopes import ABSTAINERS, LONG_LEASE, OPERATOR, RATE, TWO_PROBES, Scope
from tests.interleavings.words import ABSENT, Case, Effect, Question

_WALKS = 6
_STEPS = 150
_AFTER_ALL_BATCHES = 1000  # circuits that the search does not touch


@dataclass(frozen=True, slots=True, kw_only=True)
class Living(Guise):
    """A circuit with a history: its permits have the ids that they were born with."""

    names: tuple[str, ...]

    def name(self, index: int) -> str:
        """The id of a permit."""
        return self.names[index]

    def case(self, dump: Dump, question: Question) -> Case:
        """What the search would say of the circuit as it is."""
        leases = dict(dump.probes)
        own, *others = [self._trace(index, leases, dump.window) for index in range(len(self.names))]
        return Case(self._core(dump), tuple(others), own, question)


@dataclass(slots=True)
class Member:
    """A caller with what the search does not know of it."""

    caller: Caller
    permit_id: str = ""
    generation: int = 0


class Walk:
    """Three replicas that do what comes to their mind, with one circuit that is never touched from outside."""

    def __init__(self, url: str, scope: Scope, seed: int) -> None:
        self.scope = scope
        self.seen: list[tuple[Case, Effect]] = []
        self._random = random.Random(seed)
        self._index = _AFTER_ALL_BATCHES + seed
        self._client = redis.asyncio.Redis.from_url(url, decode_responses=True)
        self._store = RedisStore(self._client, timeout_seconds=60, script_path=[PLANTED_LUA])
        self._limits = scope.config.limits()
        self._now_ms = 1_766_000_000_000
        self._members = [Member(IDLE) for _ in range(scope.replicas)]
        self._permits = 0
        self._left: set[str] = set()

    async def run(self) -> None:
        """Take a number of steps."""
        async with self._client:
            for _ in range(_STEPS):
                await self._step()
            await self._store.aclose()

    async def _step(self) -> None:
        if self._random.random() < 0.25:
            self._now_ms += self.scope.tick_ms
            return
        if self.scope.operator and self._random.random() < 0.1:
            action, duration_ms = self._random.choice(self.scope.operator)
            await self._ask(Member(IDLE, "nobody"), Question("control", action, duration_ms=duration_ms))
            return
        member = self._random.choice(self._members)
        chosen = self._chosen(member.caller)
        if isinstance(chosen, Turn):
            self._take(member, chosen)
            return
        effect = await self._ask(member, chosen)
        self._take(member, self._random.choice(answered(member.caller, chosen, effect, repeats=True)))

    def _chosen(self, caller: Caller) -> Turn | Question:
        """Something that may happen, and more often than not what usually does."""
        alone: list[Turn | Question] = [*turns(caller, abstains=self.scope.abstains)]
        asked: list[Turn | Question] = [question for _, question in questions(caller, repeats=True)]
        if self._random.random() < 0.3:
            return self._random.choice(alone + asked)
        if caller.phase == "running":
            return alone[self._random.choice((0, 1, 1))]
        return asked[0] if asked and caller.phase != "answered" else alone[0]

    def _take(self, member: Member, turn: Turn) -> None:
        if turn.stray is not None and len(self._members) < self.scope.replicas + 3:
            self._members.append(replace(member, caller=turn.stray))
        if turn.caller is None:
            self._members.remove(member)
            return
        if member.caller == IDLE:
            self._permits += 1
            member.permit_id = f"{self._random.getrandbits(32):x}-{self._permits}"
            self._left.add(member.permit_id)
        member.caller = turn.caller

    async def _ask(self, member: Member, question: Question) -> Effect:
        before = await self._dump()
        current = int(before.record.get("generation", 0))
        question = question._replace(fresh=question.verb == "report" and member.generation == current)
        traces = {token for token, _ in before.probes} | {field.removeprefix("run:") for field in before.window}
        others = sorted((traces & self._left) - {member.permit_id})
        living = Living(
            limits=self._limits,
            now_ms=self._now_ms,
            ahead_ms=current - self._now_ms,
            age=0,
            backwards=False,
            past=0,
            text="",
            names=(member.permit_id, *others),
        )
        case = living.case(before, question)
        await self._client.set("planted:now_ms", self._now_ms)
        answer = await self._put(member, question)
        effect = living.effect(case, before, await self._dump(), answer)
        if answer is not None and question.verb == "acquire" and member.caller.phase not in {"answered", "running"}:
            member.generation = answer.generation
        self.seen.append((case, effect))
        return effect

    async def _put(self, member: Member, question: Question) -> Answer:
        name = f"c{self._index}"
        if question.verb == "control":
            mode = None if question.word == "reset" else Mode(question.word)
            action = Override(mode=mode, reason="because", actor="anna", duration_ms=question.duration_ms)
            await self._store.control(name, action)
            return None
        if question.verb == "acquire":
            may_probe = question.word != "abstain"
            return await self._store.acquire(name, member.permit_id, self._limits, "replica", may_probe=may_probe)
        report = Report(
            permit_id=member.permit_id,
            generation=0 if question.verb == "give_back" else member.generation,
            outcome=Outcome(question.word),
            error="Boom",
            replica_id="replica",
            failures=int(question.word == "failure"),
        )
        return await self._store.record(name, report, self._limits)

    async def _dump(self) -> Dump:
        pipe = self._client.pipeline(transaction=False)
        records.get(pipe, self._index)
        return Dump(*await pipe.execute())


@pytest.mark.parametrize("scope", [TWO_PROBES, LONG_LEASE, RATE, ABSTAINERS, OPERATOR], ids=lambda scope: scope.name)
def test_a_circuit_with_a_history_does_what_one_without_does(scope: Scope, redis_url: str) -> None:
    """After any history a script does what it does to a circuit put together from the little that the search knows."""
    walks = [Walk(redis_url, scope, seed) for seed in range(_WALKS)]
    for walk in walks:
        asyncio.run(walk.run())
    seen = [each for walk in walks for each in walk.seen]
    with Circuits(redis_url, scope.config) as circuits:
        expected = dict(circuits.ask(list(dict.fromkeys(case for case, _ in seen))))
    for case, effect in seen:
        # What was told of replicas before is there or not, and a record that an operator began takes over the first
        # caller's configuration: neither is part of a circuit's state, and a stale report writes neither.
        assert effect._replace(untouched=True) == expected[case]._replace(untouched=True), case
        assert effect.untouched or effect.word != "stale"
    states = Counter(case.core.state for case, _ in seen if case.core != ABSENT)
    assert min(states[state] for state in ("closed", "open", "half_open")) > 5
