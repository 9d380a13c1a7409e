"""Scripts with the mistakes that breakers are known for, one each: the search has to find every one of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mistake:
    """A line of a script that is another one.

    Attributes:
        right: What the script says; it must be there exactly once.
        wrong: What it says with the mistake.
        broken: What the search says about the step itself.
        leads_to: What it says about where that leads when it does not watch the steps; empty where nothing shows.
    """

    name: str
    script: str
    right: str
    wrong: str
    broken: str
    leads_to: str = ""

    def plant(self, folder: Path) -> None:
        """Write the script with its mistake into a folder."""
        text = (resources.files("breaker") / "lua" / f"{self.script}.lua").read_text(encoding="utf-8")
        assert text.count(self.right) == 1, f"{self.script}.lua has changed: {self.right!r} is to be found once"
        (folder / f"{self.script}.lua").write_text(text.replace(self.right, self.wrong), encoding="utf-8")


MISTAKES = (
    Mistake(
        name="the generation of a report is not looked at",
        script="record",
        right="generation ~= record.generation and not given_back_unseen",
        wrong="false",
        broken="a report of an earlier generation was taken",
        leads_to="a call that is no probe of this round had a say in it",
    ),
    Mistake(
        name="a lease counts as long as nobody has removed it",
        script="record",
        right="if deadline_ms <= now_ms then",
        wrong="if deadline_ms == 0 then",
        broken="a place was not given back, or one that was not held",
    ),
    Mistake(
        name="who is refused prolongs the lease that is in the way",
        script="acquire",
        right="return refused('probing'",
        wrong="redis.call('ZADD', keys.probes, now_ms + lease_ms, first[1])\nreturn refused('probing'",
        broken="prolonged it",
    ),
    Mistake(
        name="lapsed leases keep their place",
        script="acquire",
        right="redis.call('ZREMRANGEBYSCORE', keys.probes, '-inf', now_ms)\n",
        wrong="",
        broken="asking was refused where it had to be permitted",
        leads_to="a newcomer is refused and told to wait 0 ms",
    ),
    Mistake(
        name="asking twice takes two places",
        script="acquire",
        right="if deadline_ms > now_ms then",
        wrong="if false then",
        broken="was not the same as asking once",
    ),
    Mistake(
        name="a probe too many",
        script="acquire",
        right="redis.call('ZCARD', keys.probes) < probe_limit",
        wrong="redis.call('ZCARD', keys.probes) <= probe_limit",
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
        script="record",
        right="redis.call('HEXISTS', keys.window, permit_id) == 0",
        wrong="true",
        broken="a call was counted as failed that had not failed, or twice",
    ),
    Mistake(
        name="a settled probe keeps its place",
        script="record",
        right="redis.call('ZREM', keys.probes, permit_id)\n",
        wrong="",
        broken="a place was not given back, or one that was not held",
    ),
    Mistake(
        name="a lost answer is given back by whoever holds a place",
        script="record",
        right="redis.call('ZREM', keys.probes, permit_id)",
        wrong="redis.call('DEL', keys.probes)",
        broken="a live lease of somebody else was taken away",
        leads_to="3 probes run within their lease",
    ),
)
