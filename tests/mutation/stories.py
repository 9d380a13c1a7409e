"""Long walks through a circuit's life, told once by the machine in Python and then asked of every mutant.

`tests/model` lets Hypothesis look for the shortest walk on which the two machines differ; here they are many,
fixed by a seed, and drawn so that circuits trip, recover, ramp and reopen. A real server is told a walk in one go.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import redis

from breaker import Adjust, BreakerConfig, Consecutive, FailureRate, MemoryStore, Mode, Outcome, Override, _wire
from breaker._types import Permitted, Report
from tests.support.stores import _PLANTED_LUA, ManualClock

_STEPS = 60
_REPLICAS = ["replica-1", "replica-2", "replica-3", ""]
_SETTINGS: dict[str, list[float | None]] = {
    "consecutive": [None, 1, 2],
    "cooldown_ms": [None, 1, 7000],
    "failure_percent": [None, 0, 25.5],
    "jitter_percent": [None, 10, 100],
    "max_cooldown_ms": [None, 3000],
    "minimum_calls": [None, 1, 5],
    "minimum_reporters": [None, 1, 2],
    "multiplier": [None, 2.5],
    "probe_limit": [None, 2],
    "probe_successes": [None, 2],
    "ramp_ms": [None, 0, 9000],
    "slow_percent": [None, 50],
    "stable_ms": [None, 0, 60_000],
    "window_ms": [None, 1000, 4000],
}


class Step(NamedTuple):
    """One command of a walk.

    Attributes:
        at_seconds: When it is given.
        method: Which of the store's verbs.
        args: What comes after the circuit's name.
        kwargs: What is named besides.
        answer: What the machine said.
    """

    at_seconds: float
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: Any


Story = list[Step]


class _Teller:
    """Makes up one walk: what comes next is drawn, with an eye on the circuit as it is."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._clock = ManualClock()
        self._store = MemoryStore(self._clock)
        self._permits: dict[str, Permitted] = {}
        config = self._config()
        other = self._config() if self._chance(0.3) else config
        self._limits = [config.limits(), config.limits(), other.limits()]
        self.story: Story = []

    def _chance(self, share: float) -> bool:
        return self._draw.random() < share

    def _config(self) -> BreakerConfig:
        choose = self._draw.choice
        rate = FailureRate(
            threshold=choose([0.2, 1 / 3, 0.5, 1.0]),
            window_seconds=choose([1.0, 4.0, 10.0]),
            minimum_calls=choose([1, 2, 4]),
            slow_call_seconds=choose([None, 0.5]),
            slow_rate_threshold=choose([0.5, 1.0]),
        )
        policies: list[Consecutive | FailureRate] = [Consecutive(1), Consecutive(2), Consecutive(3), rate, rate]
        return BreakerConfig(
            policy=choose(policies),
            minimum_reporters=choose([1, 1, 1, 2, 3]),
            cooldown_seconds=choose([0.05, 5.0]),
            cooldown_multiplier=choose([1.0, 1.0, 1.5, 3.0]),
            max_cooldown_seconds=choose([12.0, 40.0]),
            cooldown_jitter=choose([0.0, 0.25]),
            stable_after_seconds=choose([0.0, 3.0, 300.0]),
            call_timeout_seconds=1.0,
            probe_limit=choose([1, 1, 2]),
            probe_successes=choose([1, 1, 2]),
            ramp_seconds=choose([0.0, 0.0, 3.0]),
        )

    async def tell(self) -> Story:
        """Walk."""
        steps = [self._acquire, self._record, self._wait, self._batch, self._give_back, self._control, self._adjust]
        for _ in range(_STEPS):
            (step,) = self._draw.choices(steps, weights=[35, 40, 15, 3, 2, 2, 3])
            await step()
            await self._ask("snapshot")
        await self._ask("events", 2 * _STEPS)
        return self.story

    async def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        answer = await getattr(self._store, method)("c", *args, **kwargs)
        self.story.append(Step(self._clock.seconds, method, args, kwargs, answer))
        return answer

    async def _acquire(self) -> None:
        permit_id = f"permit-{self._draw.randrange(12)}"
        limits, replica = self._draw.choice(self._limits), self._draw.choice(_REPLICAS)
        reply = await self._ask("acquire", permit_id, limits, replica, may_probe=self._chance(0.9))
        if isinstance(reply, Permitted):
            self._permits[permit_id] = reply

    async def _record(self) -> None:
        if not self._permits:
            return
        permit_id = self._draw.choice(list(self._permits)[-3:] if self._chance(0.8) else list(self._permits))
        outcome = self._draw.choices(list(Outcome), weights=[45, 45, 10])[0]
        failed = outcome is Outcome.FAILURE
        told = Report(
            permit_id=permit_id,
            generation=self._permits[permit_id].generation,
            outcome=outcome,
            error=self._draw.choice(["Boom", "Crash", ""]) if failed else "",
            replica_id=self._draw.choice(_REPLICAS),
            calls=1,
            failures=int(failed),
            slow=self._draw.randrange(2),
            open_for_ms=self._draw.choice([1, 700, 10**7]) if failed and self._chance(0.08) else 0,
            alone=failed and self._chance(0.15),
        )
        await self._ask("record", told, self._draw.choice(self._limits))
        if self._chance(0.8):
            del self._permits[permit_id]

    async def _wait(self) -> None:
        if self._chance(0.15):
            self._clock.advance(-self._draw.choice([0.001, 0.4, 2, 6, 3600]))
            return
        seen = await self._store.snapshot("c")
        moments = [self._clock.now_ms + each for each in (1, 99, 100, 400, 1000, 1999, 2000, 4000, 60_000)]
        if seen is not None:
            closed_ms = seen.closed_at_ms + 3000 if seen.closed_at_ms else 0
            moments += 4 * [seen.retry_at_ms - 1, seen.retry_at_ms, seen.retry_at_ms, seen.probe_until_ms]
            moments += [seen.probe_until_ms - 1, seen.mode_until_ms - 1, seen.mode_until_ms, closed_ms - 1, closed_ms]
        later = [each for each in moments if each > self._clock.now_ms]
        self._clock.advance((self._draw.choice(later) - self._clock.now_ms) / 1000)

    async def _batch(self) -> None:
        if not self._permits:
            return
        permit_id, failures = self._draw.choice(list(self._permits)), self._draw.randrange(3)
        told = Report(
            permit_id="batch",
            generation=self._permits[permit_id].generation,
            outcome=Outcome.FAILURE if failures else Outcome.SUCCESS,
            replica_id="replica-2",
            calls=failures + self._draw.randrange(6),
            failures=failures,
            slow=self._draw.randrange(3),
        )
        await self._ask("record", told, self._limits[0])

    async def _give_back(self) -> None:
        told = Report(permit_id=f"permit-{self._draw.randrange(12)}", generation=0, outcome=Outcome.IGNORED)
        await self._ask("record", told, self._limits[0])

    async def _control(self) -> None:
        mode = self._draw.choice([*Mode, Mode.AUTO, None, None])
        duration_ms = self._draw.choice([0, 1500]) if mode not in {None, Mode.AUTO} else 0
        await self._ask("control", Override(mode=mode, reason="because", actor="anna", duration_ms=duration_ms))

    async def _adjust(self) -> None:
        names = self._draw.sample(sorted(_SETTINGS), self._draw.choice([1, 1, 3]))
        settings = {name: self._draw.choice(_SETTINGS[name]) for name in names}
        await self._ask("control", Adjust(settings=settings, reason="tuning", actor="anna"))


async def tell(seed: int) -> Story:
    """Make up a walk, the same one each time."""
    return await _Teller(seed).tell()


async def ask_memory(story: Story) -> list[Any]:
    """Ask the machine in Python."""
    clock = ManualClock()
    store, answers = MemoryStore(clock), []
    for step in story:
        clock.seconds = step.at_seconds
        answers.append(await getattr(store, step.method)("c", *step.args, **step.kwargs))
    return answers


def ask_server(client: redis.Redis, story: Story) -> list[Any]:
    """Ask the scripts in a real server, which is emptied first."""
    scripts, keys = _wire.Scripts([_PLANTED_LUA]), _wire.KeySpace("breaker:").of("c")
    with client.pipeline(transaction=False) as pipe:
        pipe.flushall()
        for operation in ("acquire", "record", "snapshot", "control"):
            pipe.script_load(getattr(scripts, operation).text)
        begun = len(pipe)
        for step in story:
            pipe.set("planted:now_ms", round(step.at_seconds * 1000))
            if step.method == "events":
                pipe.xrevrange(keys.events, count=step.args[0])
                continue
            touched = keys[:2] if step.method == "snapshot" else keys
            pipe.evalsha(getattr(scripts, step.method).sha, len(touched), *touched, *_arguments(step))
        replies = pipe.execute(raise_on_error=False)[begun + 1 :: 2]
    return [_read(step.method, reply) for step, reply in zip(story, replies, strict=True)]


def _arguments(step: Step) -> Sequence[str | int]:
    match step.method:
        case "acquire":
            return _wire.acquire_arguments(*step.args, **step.kwargs)
        case "record":
            return _wire.record_arguments(*step.args)
        case "control":
            return _wire.control_arguments(*step.args)
        case _:
            return ()


def _read(method: str, reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    match method:
        case "acquire":
            return _wire.acquired(reply)
        case "record":
            return _wire.recorded(reply)
        case "events":
            return _wire.logged(reply)
        case _:
            return _wire.shown(reply)
