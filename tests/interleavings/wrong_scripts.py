"""Scripts with the mistakes that breakers are known for, one each: the search has to find every one of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from tests.interleavings.scopes import ABSTAINERS, RATE, TWO_PROBES, Scope


@dataclass(frozen=True, slots=True)
class Mistake:
    """A line of a script that is another one.

    Attributes:
        right: What the script says; it must be there exactly once.
        wrong: What it says with the mistake.
        broken: What the search says about the step itself.
        leads_to: What it says about where that leads when it does not watch the steps; empty where nothing shows.
        scope: Where it shows.
    """

    name: str
    script: str
    right: str
    wrong: str
    broken: str
    leads_to: str = ""
    scope: Scope = TWO_PROBES

    def plant(self, folder: Path) -> None:
        """Write the script with its mistake into a folder."""
        text = (resources.files("breaker") / "lua" / f"{self.script}.lua").read_text(encoding="utf-8")
        assert text.count(self.right) == 1, f"{self.script}.lua has changed: {self.right!r} is to be found once"
        (folder / f"{self.script}.lua").write_text(text.replace(self.right, self.wrong), encoding="utf-8")


MISTAKES = (
    Mistake(
        name="the generation of a report is not looked at",
        script="record",
        right="told.generation ~= record.generation and not given_back_unseen",
        wrong="false",
        broken="a report of an earlier generation was taken",
        leads_to="a call that is no probe of this round had a say in it",
    ),
    Mistake(
        name="a lease counts as long as nobody has removed it",
        script="record",
        right="if tonumber(redis.call('ZSCORE', keys.probes, told.permit_id) or 0) <= now_ms then",
        wrong="if not redis.call('ZSCORE', keys.probes, told.permit_id) then",
        broken="a place was not given back, or one that was not held",
    ),
    Mistake(
        name="who is refused prolongs the lease that is in the way",
        script="acquire",
        right="return refused('probing'",
        wrong="redis.call('ZADD', keys.probes, now_ms + limits.lease_ms, first[1])\nreturn refused('probing'",
        broken="prolonged it",
    ),
    Mistake(
        name="lapsed leases keep their place",
        script="acquire",
        right="redis.call('ZCOUNT', keys.probes, '(' .. now_ms, '+inf')",
        wrong="redis.call('ZCARD', keys.probes)",
        broken="asking was refused where it had to be permitted",
        leads_to="time and healthy newcomers do not close the circuit",
    ),
    Mistake(
        name="asking twice takes two places",
        script="acquire",
        right="if tonumber(redis.call('ZSCORE', keys.probes, permit_id) or 0) > now_ms then",
        wrong="if false then",
        broken="was not the same as asking once",
    ),
    Mistake(
        name="a probe too many",
        script="acquire",
        right="'+inf') < limits.probe_limit",
        wrong="'+inf') <= limits.probe_limit",
        broken="asking was permitted where it had to be refused",
        leads_to="3 probes are out",
    ),
    Mistake(
        name="a generation that is nothing but the clock",
        script="_record",
        right="math.max(record.generation + 1, now_ms)",
        wrong="now_ms",
        broken="two circuits that are the same were told apart",
    ),
    Mistake(
        name="one failure counts as often as it is reported",
        script="_count",
        right="redis.call('HEXISTS', keys.window, RUN .. told.permit_id) == 1",
        wrong="false",
        broken="a circuit tripped that had no reason to",
    ),
    Mistake(
        name="who leaves probing to others gets a place all the same",
        script="acquire",
        right="if may_probe then\n  if tonumber",
        wrong="if true then\n  if tonumber",
        broken="asking was permitted where it had to be refused",
        scope=ABSTAINERS,
    ),
    Mistake(
        name="calls count for twice as long as the window",
        script="_window",
        right="width_ms * BUCKETS and",
        wrong="2 * width_ms * BUCKETS and",
        broken="a circuit tripped that had no reason to",
        scope=RATE,
    ),
    Mistake(
        name="a rate of too few calls trips",
        script="_count",
        right="if sums.calls < limits.minimum_calls then",
        wrong="if false then",
        broken="a circuit tripped that had no reason to",
        scope=RATE,
    ),
    Mistake(
        name="a settled probe keeps its place",
        script="record",
        right="redis.call('ZREM', keys.probes, told.permit_id)\n",
        wrong="",
        broken="a place was not given back, or one that was not held",
    ),
    Mistake(
        name="a lost answer is given back by whoever holds a place",
        script="record",
        right="redis.call('ZREM', keys.probes, told.permit_id)",
        wrong="redis.call('DEL', keys.probes)",
        broken="a live lease of somebody else was taken away",
        leads_to="3 probes run within their lease",
    ),
)
