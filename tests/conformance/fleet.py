"""Replicas that share a circuit, as tests talk to them: the same words whether they share a process or not."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import redis

from breaker import BreakerConfig, CallNotPermittedError, Consistency, View
from tests.conformance.replica import FAILURE, IGNORED, SUCCESS, Replica, word_for
from tests.conformance.worker import Pool, Worker
from tests.support.stores import START_SECONDS

NAME = "stripe:create_intent"
KEY = f"breaker:{{{NAME}}}"
COOLDOWN = 30.0
# Real calls never take that long, so what passes is only what a test lets pass.
CALL_TIMEOUT = 60.0
LEASE = CALL_TIMEOUT + 1.0
_STORE_TIMEOUT_SECONDS = 10.0
_DOORS = ("call", "block", "decorator")
# Hosts agree about nothing: how long they have been up, and with that what their clocks show, differs by years.
_HOST_CLOCKS = (0.0, 1e8, -3600.0)

_call_names = map("call-{}".format, itertools.count(1))


@dataclass(frozen=True)
class Call:
    """A call that is under way."""

    member: Member
    name: str

    async def succeed(self) -> Any:
        return await self.member.ask("finish", call=self.name, how=SUCCESS)

    async def fail(self) -> Any:
        return await self.member.ask("finish", call=self.name, how=FAILURE)

    async def end_ignored(self) -> Any:
        return await self.member.ask("finish", call=self.name, how=IGNORED)

    async def end(self, how: str) -> Any:
        return await self.member.ask("finish", call=self.name, how=how)

    async def cancel(self) -> Any:
        return await self.member.ask("cancel", call=self.name)


class Member:
    """One replica.

    Args:
        ask: Lets the replica do something.
        kill: Ends it without a chance to say goodbye.
    """

    def __init__(self, ask: Callable[..., Awaitable[Any]], kill: Callable[[], Awaitable[None]]) -> None:
        self.ask = ask
        self.kill = kill

    async def begin(self) -> Call:
        """Begin a call that the circuit permits."""
        call = Call(self, next(_call_names))
        kept_out = await self.ask("begin", call=call.name)
        assert kept_out is None, repr(kept_out)
        return call

    async def refused(self) -> CallNotPermittedError:
        """Begin a call that the circuit refuses."""
        kept_out = await self.ask("begin", call=next(_call_names))
        assert isinstance(kept_out, CallNotPermittedError), repr(kept_out)
        return kept_out

    async def begin_many(self, count: int) -> tuple[list[Call], Counter[str]]:
        """Begin many calls at once; return those that are under way, and the reasons of the others."""
        names = list(itertools.islice(_call_names, count))
        kept_out = await self.ask("begin_many", calls=names)
        inside = [Call(self, name) for name, error in zip(names, kept_out, strict=True) if error is None]
        return inside, Counter(word_for(error) for error in kept_out if error is not None)

    async def end_many(self, calls: list[Call], how: str) -> list[Any]:
        """Let many of this replica's calls end at once; return what their callers got."""
        ends: list[Any] = await self.ask("finish_many", calls=[call.name for call in calls], how=how)
        return ends

    async def run(self, how: str, times: int = 1) -> Counter[str]:
        """Make calls one after the other and count how they ended."""
        ends: Counter[str] = await self.ask("run", how=how, times=times)
        return ends

    async def run_many(self, how: str, times: int) -> Counter[str]:
        """Make calls at the same moment and count how they ended."""
        ends: Counter[str] = await self.ask("run_many", how=how, times=times)
        return ends


class Fleet:
    """Replicas and the server that they share.

    Args:
        url: The server.
        consistency: What the replicas are configured with.
        pool: Where to take processes from; None for a fleet in the test's own process.
    """

    def __init__(self, url: str, consistency: Consistency, pool: Pool | None) -> None:
        self.consistency = consistency
        self.members: list[Member] = []
        self._connect(url)
        self._opened: list[dict[str, Any]] = []
        self._pool = pool
        self._left: list[Member] = []
        self._now_ms = round(START_SECONDS * 1000)

    def config(self, **changes: Any) -> BreakerConfig:
        """The configuration of the fleet, with changes."""
        options = {"cooldown_seconds": COOLDOWN, "call_timeout_seconds": CALL_TIMEOUT, "consistency": self.consistency}
        return BreakerConfig(**{**options, **changes})

    async def start(
        self,
        count: int = 3,
        *,
        config: BreakerConfig | None = None,
        plant_clocks: bool = True,
        warm: bool = True,
        **options: Any,
    ) -> list[Member]:
        """Start replicas that have each made a call.

        Args:
            count: How many.
            config: Their configuration.
            plant_clocks: Whether time passes at the test's word only.
            warm: Whether they make a call and follow the circuit before the test begins.
            options: For `Replica.open`.
        """
        if plant_clocks:
            self._plant()
        if self._pool is not None:
            self.members = [self._in_its_process(worker) for worker in self._pool.take(count)]
        else:
            self.members = [self._in_this_process(Replica()) for _ in range(count)]
        defaults = {
            "url": self._url,
            "name": NAME,
            "config": config or self.config(),
            "decode_responses": False,
            "pause_seconds": None,
            "timeout_seconds": _STORE_TIMEOUT_SECONDS,
            "heartbeat_seconds": 1.0,
        }
        for index, member in enumerate(self.members):
            own = {
                "replica_id": f"api-{index + 1}",
                "door": _DOORS[index % len(_DOORS)],
                "clock_seconds": _HOST_CLOCKS[index % len(_HOST_CLOCKS)] if plant_clocks else None,
            }
            self._opened.append({**defaults, **own, **options})
            await member.ask("open", **self._opened[-1])
        if warm:
            await self.each(lambda member: member.run(SUCCESS))
            await self.caught_up()
        return self.members

    async def close(self) -> None:
        """End the replicas."""
        for member in self.members + self._left:
            await member.ask("close")
        self.members, self._left = [], []
        self.cli.close()
        self._bytes.close()

    async def move(self, url: str) -> None:
        """Let every replica begin anew, with another server that has the same data."""
        self.cli.close()
        self._bytes.close()
        self._connect(url)
        for member, options in zip(self.members, self._opened, strict=True):
            await member.ask("close")
            await member.ask("open", **{**options, "url": url})

    async def lines(self) -> list[str]:
        """What the replicas have logged; a process has one log for all replicas in it."""
        logs = await self.each(lambda member: member.ask("lines"))
        return logs[0] if self._pool is None else list(itertools.chain(*logs))

    async def each(self, do: Callable[[Member], Awaitable[Any]]) -> list[Any]:
        """Let every replica do something at the same time."""
        return await asyncio.gather(*map(do, self.members))

    async def advance(self, seconds: float) -> None:
        """Let time pass for the server and for every replica."""
        self._now_ms += round(seconds * 1000)
        self._plant()
        await self.each(lambda member: member.ask("advance", seconds=seconds))

    async def caught_up(self) -> None:
        """Wait until every replica knows what the server knows; in strict consistency none has to."""
        if self.consistency is Consistency.MIRRORED:
            generation, revision = (int(part) for part in self.cli.hmget(KEY, "generation", "revision"))
            await self.each(lambda member: member.ask("catch_up", generation=generation, revision=revision))

    async def fail(self, times: int) -> None:
        """Let calls fail, by turns, each known to all before the next."""
        for member in itertools.islice(itertools.cycle(self.members), times):
            assert await member.run(FAILURE) == {"ProviderDownError": 1}
            await self.caught_up()

    async def trip(self) -> None:
        """Open the circuit by as many failures as that takes, by turns."""
        await self.fail(3)
        assert self.state == "open"

    async def reach_half_open(self, prober: Member) -> Call:
        """Trip, let the cooldown pass, and begin the probe."""
        await self.trip()
        await self.advance(COOLDOWN)
        return await self.probe(prober)

    async def probe(self, prober: Member) -> Call:
        """Begin a probe that everybody knows of."""
        call = await prober.begin()
        assert self.state == "half_open"
        await self.caught_up()
        return call

    @property
    def record(self) -> dict[str, str]:
        """The circuit as HGETALL shows it."""
        record: dict[str, str] = self.cli.hgetall(KEY)
        return record

    @property
    def state(self) -> str:
        return self.record["state"]

    @property
    def leases(self) -> list[int]:
        """When the leases of the probes lapse, on the planted clock, counted in ms from now."""
        return [
            int(until_ms) - self._now_ms for _, until_ms in self.cli.zrange(f"{KEY}:probes", 0, -1, withscores=True)
        ]

    @property
    def events(self) -> list[str]:
        """What happened to the circuit, oldest first."""
        return [fields["event"] for _, fields in self.cli.xrange(f"{KEY}:events")]

    def everything(self) -> dict[bytes, bytes | None]:
        """Every key in the server with its content, the planted clock left out."""
        return {key: self._bytes.dump(key) for key in self._bytes.scan_iter() if key != b"planted:now_ms"}

    async def view(self) -> View:
        """The circuit as a store reads it."""
        seen, _ = await self.members[0].ask("read")
        assert isinstance(seen, View)
        return seen

    def _connect(self, url: str) -> None:
        self._url = url
        # The client's own types tell neither its two modes nor text from bytes.
        self.cli: Any = redis.Redis.from_url(url, decode_responses=True, driver_info=None)
        self._bytes: Any = redis.Redis.from_url(url, driver_info=None)

    def _plant(self) -> None:
        self.cli.set("planted:now_ms", self._now_ms)

    def _in_this_process(self, replica: Replica) -> Member:
        async def ask(verb: str, **arguments: Any) -> Any:
            return await getattr(replica, verb)(**arguments)

        async def kill() -> None:
            await replica.disappear()
            self.members.remove(member)
            self._left.append(member)

        member = Member(ask, kill)
        return member

    def _in_its_process(self, worker: Worker) -> Member:
        async def kill() -> None:
            worker.kill()
            self.members.remove(member)

        member = Member(worker.ask, kill)
        return member
