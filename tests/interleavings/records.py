"""How what the search says of a circuit is written down in Redis, and read there again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from breaker._limits import Limits
from breaker._types import Permitted, Recorded, Refused
from breaker._wire import Keys, KeySpace
from tests.interleavings.words import ABSENT, BUCKETS, Bucket, Case, Core, Effect, Trace, put_together

Answer = Permitted | Refused | Recorded | None

# Fields that scripts write for people, and that decide nothing.
_FOR_PEOPLE = {
    *("v", "revision", "opened_at", "opened_at_ms", "trip_reason", "last_error", "tripped_by", "mode_reason"),
    *("mode_actor", "failures", "calls", "slow_calls"),
}
# Fields that decide something, but nothing in what is searched: cooldowns do not grow, there is no ramp, no operator
# changes thresholds, no replica is an outlier, and every replica has the same configuration.
_SET_ASIDE = {*("reopens", "closed_at_ms", "settings", "outlier", "config", "config_before", "config_at_ms")}
_DECISIVE = {*("state", "generation", "run", "retry_at_ms", "probe_successes", "mode", "mode_until_ms")}
_PARTS = ("calls", "failures")
_RUN = "run:"
_KEYS = KeySpace("breaker:")


class Dump(NamedTuple):
    """Every key of a circuit."""

    record: Mapping[str, str]
    probes: Sequence[tuple[str, float]]
    window: Mapping[str, str]
    reporters: Sequence[tuple[str, float]]
    events: int


NOTHING = Dump({}, [], {}, [], 0)


def keys_of(index: int) -> Keys:
    """The keys of one of the circuits that are in the server at once."""
    return _KEYS.of(f"c{index}")


def put(pipe: Any, index: int, dump: Dump) -> None:
    """Write a circuit, in place of whatever was there."""
    keys = keys_of(index)
    pipe.delete(*keys)
    if dump.record:
        pipe.hset(keys.record, mapping=dump.record)
    if dump.probes:
        pipe.zadd(keys.probes, dict(dump.probes))
    if dump.window:
        pipe.hset(keys.window, mapping=dump.window)


def get(pipe: Any, index: int) -> None:
    """Read a circuit, in the order of a dump."""
    keys = keys_of(index)
    pipe.hgetall(keys.record)
    pipe.zrange(keys.probes, 0, -1, withscores=True)
    pipe.hgetall(keys.window)
    pipe.zrange(keys.reporters, 0, -1, withscores=True)
    pipe.xlen(keys.events)


def bucket_ms_of(limits: Limits) -> int:
    """How long a rate's bucket is; 0 where failures in a row count."""
    return limits.window_ms // BUCKETS


@dataclass(frozen=True, slots=True, kw_only=True)
class Guise:
    """One way to write down what a case leaves open: nothing in here may matter.

    Attributes:
        ahead_ms: How far the record's generation is ahead of the clock.
        age: How far an old permit's generation is behind the record's.
        backwards: Whether the names of permits sort the other way round.
        past: What happened before: a number of reopenings, calls that are no longer counted, and so on.
    """

    limits: Limits
    now_ms: int
    ahead_ms: int
    age: int
    backwards: bool
    past: int
    text: str

    @property
    def generation(self) -> int:
        """The record's generation."""
        return self.now_ms + self.ahead_ms

    def name(self, index: int) -> str:
        """The id of a permit; the one who asks comes first."""
        return f"{9 - index if self.backwards else index}-permit"

    def written(self, case: Case) -> Dump:
        """Write a case down."""
        core, now_ms = case.core, self.now_ms
        if core.state == "absent":
            return NOTHING
        record = {
            "state": core.state,
            "generation": self.generation,
            "failures": core.failures + self.past,
            "run": core.failures,
            "retry_at_ms": now_ms + core.retry_ms if core.state != "closed" else 0,
            "probe_successes": core.probe_successes,
            "mode": core.mode,
            "mode_until_ms": 0 if core.mode_ms < 0 else now_ms + core.mode_ms,
            "reopens": self.past,
            "closed_at_ms": now_ms - 5 if self.past else 0,
            "calls": self.past,
            "slow_calls": 0,
            "settings": "",
            "outlier": "",
            "config": self.limits.text,
            "config_before": self.text,
            "config_at_ms": now_ms - self.age,
            "revision": 7,
            "opened_at": "",
            "opened_at_ms": 0,
            "trip_reason": self.text,
            "last_error": self.text,
            "tripped_by": self.text,
            "mode_reason": self.text,
            "mode_actor": self.text,
            "v": 1,
        }
        traces = list(enumerate((case.own, *case.others)))
        leases = [(self.name(index), float(now_ms + trace.lease_ms)) for index, trace in traces if trace.lease_ms >= 0]
        window = {_RUN + self.name(index): str(now_ms) for index, trace in traces if trace.counted}
        for age, *amounts in core.buckets:
            # What is out of the window is as good as any other that is.
            bucket_ms = bucket_ms_of(self.limits)
            began_ms = now_ms - now_ms % bucket_ms - (age + (self.past if age == BUCKETS else 0)) * bucket_ms
            window |= {
                f"{began_ms}:{bucket_ms}:{part}": str(amount)
                for part, amount in zip(_PARTS, amounts, strict=True)
                if amount
            }
        by_deadline = sorted(leases, key=lambda member: (member[1], member[0]))
        return Dump({name: str(value) for name, value in record.items()}, by_deadline, window, [], 0)

    def effect(self, case: Case, before: Dump, after: Dump, answer: Answer) -> Effect:
        """Say what a script did."""
        leases = dict(after.probes)
        own, *others = [self._trace(index, leases, after.window) for index in range(1 + len(case.others))]
        assert not leases, f"leases of nobody: {leases}"
        old, new = (int(dump.record.get("generation", 0)) for dump in (before, after))
        return Effect(
            self._core(after),
            tuple(others),
            own,
            untouched=before == after,
            moved=new != old,
            rose=new > old and new >= self.now_ms,
            told="" if answer is None else str(answer.state),
            current=answer is None or answer.generation == new,
            known=answer is None or answer.generation > 0,
            **_told(answer),
        )

    def _trace(self, index: int, leases: dict[str, float], window: Mapping[str, str]) -> Trace:
        deadline_ms = leases.pop(self.name(index), None)
        lease_ms = -1 if deadline_ms is None else max(0, round(deadline_ms) - self.now_ms)
        return Trace(lease_ms, _RUN + self.name(index) in window)

    def _core(self, dump: Dump) -> Core:
        record, now_ms = dump.record, self.now_ms
        if not record:
            return ABSENT
        unknown = set(record) - _FOR_PEOPLE - _SET_ASIDE - _DECISIVE
        assert not unknown, f"say in records.py what these fields of the record decide: {unknown}"
        mode_until_ms = int(record["mode_until_ms"])
        return Core(
            state=record["state"],
            failures=int(record["run"]) if self.limits.consecutive else 0,
            retry_ms=max(0, int(record["retry_at_ms"]) - now_ms),
            probe_successes=int(record["probe_successes"]),
            mode=record["mode"],
            mode_ms=max(0, mode_until_ms - now_ms) if mode_until_ms else -1,
            buckets=() if self.limits.consecutive else self._buckets(dump.window),
        )

    @property
    def _bucket_now_ms(self) -> int:
        return self.now_ms - self.now_ms % bucket_ms_of(self.limits)

    def _buckets(self, window: Mapping[str, str]) -> tuple[Bucket, ...]:
        now_ms, bucket_ms = self._bucket_now_ms, bucket_ms_of(self.limits)
        parts = [(name.split(":"), int(amount)) for name, amount in window.items()]
        return put_together(
            Bucket((now_ms - int(began_ms)) // bucket_ms, **(dict.fromkeys(_PARTS, 0) | {part: amount}))
            for (began_ms, _, part), amount in parts
        )


def guises(limits: Limits) -> tuple[Guise, Guise]:
    """Two that differ in everything."""
    return (
        Guise(limits=limits, now_ms=1_766_000_000_000, ahead_ms=-700, age=1, backwards=False, past=0, text=""),
        Guise(limits=limits, now_ms=1_766_086_412_345, ahead_ms=2, age=86_400_000, backwards=True, past=3, text="Boom"),
    )


def _told(answer: Answer) -> dict[str, Any]:
    match answer:
        case Permitted():
            return {"word": "permitted", "wants": str(answer.reporting)}
        case Refused():
            return {"word": "refused", "reason": str(answer.reason), "retry_after_ms": answer.retry_after_ms}
        case Recorded():
            return {"word": "recorded" if answer.applied else "stale"}
        case _:
            return {"word": "done"}
