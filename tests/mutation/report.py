"""What the mutants said: the page, and which survivors nobody has explained."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.mutation.memory import WALK
from tests.mutation.mutants import ROOT, Mutant
from tests.mutation.session import HUNG

PAGE = ROOT / "docs" / "mutation.md"
_EXPLAINED = Path(__file__).parent / "survivors.toml"

_PREAMBLE = """\
# What the tests notice

`make mutants` wrote this page. It made {count:,} small changes to the machine, in Python and in Lua, one at a time, and
ran the tests for each: a comparison or its boundary, `and` for `or`, a condition that always or never holds, a number
one more or less, an empty text; an operand, an argument, a field, a statement left out. {killed:,} of these mutants
were killed, {promises:,} by a test of a promise (`tests/contract`, and `tests/unit/breaker` for Python), the others by
the walks alone ({walks} seeded walks of about a hundred commands, where every answer has to be what the machine in
Python says){hung}. {equivalent} survived because nobody could tell them from the original, and {open} because no test
does.

Python is tried with the store in memory, Lua in a real Valkey. Not changed are declarations (types, decorators, the
fields of `Record`) and the names of Redis commands.

| file | mutants | killed | by the walks alone | survived | of these equivalent |
|---|--:|--:|--:|--:|--:|
"""


class Explanation(NamedTuple):
    """Why a mutant survives."""

    why: str
    equivalent: bool


class Found(NamedTuple):
    """A mutant and the test that killed it, if one did."""

    mutant: Mutant
    killer: str


def explanations() -> dict[str, Explanation]:
    """Read why each known survivor survives."""
    explained = {}
    for group in tomllib.loads(_EXPLAINED.read_text(encoding="utf-8")).get("survivors", []):
        for key in group["mutants"]:
            if key in explained:
                raise ValueError(f"explained twice: {key}")
            explained[key] = Explanation(group["why"], group["equivalent"])
    return explained


def unexplained(found: Sequence[Found], explained: Mapping[str, Explanation]) -> list[str]:
    """Name the survivors without an explanation."""
    return [each.mutant.key for each in found if not each.killer and each.mutant.key not in explained]


def outdated(found: Sequence[Found], explained: Mapping[str, Explanation]) -> list[str]:
    """Name what is explained and does not survive, or is no mutant any more."""
    survivors = {each.mutant.key for each in found if not each.killer}
    return [key for key in explained if key not in survivors]


def write(found: Sequence[Found], explained: Mapping[str, Explanation], walks: int) -> None:
    """Write the page."""
    paths = list(dict.fromkeys(each.mutant.path for each in found))
    equivalent = {key for key, explanation in explained.items() if explanation.equivalent}
    rows = [_row(f"`{path}`", [each for each in found if each.mutant.path == path], equivalent) for path in paths]
    survivors = [each.mutant for each in found if not each.killer]
    killed = [each.killer for each in found if each.killer]
    text = _PREAMBLE.format(
        count=len(found),
        killed=len(killed),
        promises=sum(WALK not in killer and killer != HUNG for killer in killed),
        walks=walks,
        hung=f", {killed.count(HUNG)} by never ending" if HUNG in killed else "",
        equivalent=sum(mutant.key in equivalent for mutant in survivors),
        open=sum(mutant.key not in equivalent for mutant in survivors),
    )
    text += "\n".join([*rows, _row("together", list(found), equivalent), ""])
    for title, wanted in (("Survivors that no test sees", False), ("Survivors that change nothing", True)):
        those = [mutant for mutant in survivors if (mutant.key in equivalent) is wanted]
        if those:
            text += f"\n## {title}\n{_listed(those, explained)}"
    PAGE.write_text(text, encoding="utf-8")


def _row(title: str, found: Sequence[Found], equivalent: set[str]) -> str:
    survivors = [each.mutant.key for each in found if not each.killer]
    numbers = [
        len(found),
        len(found) - len(survivors),
        sum(WALK in each.killer for each in found),
        len(survivors),
        sum(key in equivalent for key in survivors),
    ]
    return "| " + " | ".join([title, *map(str, numbers)]) + " |"


def _listed(mutants: Sequence[Mutant], explained: Mapping[str, Explanation]) -> str:
    """List mutants with the same reason together."""
    groups: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        why = explained[mutant.key].why if mutant.key in explained else "Not explained."
        groups.setdefault(why, []).append(mutant)
    return "".join(f"\n{why}\n\n" + "".join(f"- `{mutant.key}`\n" for mutant in those) for why, those in groups.items())
