"""A mutant: one small change to a file of the machine that a test should notice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = ("_machine", "_count", "_draw", "_record", "_window")


@dataclass(frozen=True, slots=True)
class Change:
    """A piece of text that becomes another.

    Attributes:
        start: Where it begins in the file.
        end: Where it ends.
        text: What stands there instead.
    """

    start: int
    end: int
    text: str

    def made_in(self, source: str) -> str:
        """Return the file with the change in it."""
        return source[: self.start] + self.text + source[self.end :]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change in its file.

    Attributes:
        path: The file, from the root of the repository.
        line: Where the change begins; for people, since it moves with every edit above it.
        key: The file, the function, and the lines before and after, which stay when other lines move.
        source: The whole file with the change in it.
    """

    path: str
    line: int
    key: str
    source: str

    @property
    def is_lua(self) -> bool:
        """Whether the scripts are changed, not the machine in Python."""
        return self.path.endswith(".lua")

    @property
    def module(self) -> str:
        """The name of the changed module in `breaker`, or of the script."""
        return Path(self.path).stem


def mutants_of(path: str, source: str, found: Iterable[tuple[str, Change]]) -> Iterator[Mutant]:
    """Make the changes, each text once.

    Args:
        path: The file.
        source: What it says.
        found: The function that a change is in, and the change.
    """
    seen, names = {source}, Counter[str]()
    for function, change in found:
        mutated = change.made_in(source)
        if mutated in seen:
            continue
        seen.add(mutated)
        begin = source.rfind("\n", 0, change.start) + 1
        after_end = source.find("\n", change.end)
        end = len(source) if after_end < 0 else after_end
        before = " ".join(source[begin:end].split())
        after = " ".join((source[begin : change.start] + change.text + source[change.end : end]).split())
        key = f"{Path(path).name} {function}: {before} -> {after or 'nothing'}"
        # The same line may stand in a function twice.
        names[key] += 1
        yield Mutant(
            path=path,
            line=source.count("\n", 0, change.start) + 1,
            key=key if names[key] == 1 else f"{key} ({names[key]})",
            source=mutated,
        )


def sampled(mutants: list[Mutant], size: int, seed: int) -> list[Mutant]:
    """Draw some of them, the same ones for a seed, in their order; all of them when the size is 0."""
    if not 0 < size < len(mutants):
        return mutants
    drawn = set(random.Random(seed).sample(range(len(mutants)), size))
    return [mutant for place, mutant in enumerate(mutants) if place in drawn]
