"""What runs remember for the next one: who killed a mutant, and how far an interrupted run came."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from tests.mutation.mutants import ROOT, Mutant

WALK = "_as_told"
_FILE = ROOT / ".cache" / "mutation" / "memory.json"
_MATTERS = ("breaker", "tests/contract", "tests/model", "tests/mutation", "tests/support", "tests/unit/breaker")
_NEAR_LINES = 3


def fingerprint() -> str:
    """Name the state of everything that a verdict depends on."""
    digest = hashlib.sha256()
    for folder in _MATTERS:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in {".py", ".lua"}:
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


class Memory:
    """Verdicts so far, and from them which tests to begin with.

    Attributes:
        verdicts: What this run, or one that it goes on with, found: a mutant's key and the test that killed it or
            nothing.
    """

    def __init__(self) -> None:
        kept: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8")) if _FILE.exists() else {}
        self._fingerprint = fingerprint()
        self._killers: dict[str, str] = kept.get("killers", {})
        self.verdicts: dict[str, str] = {}
        if kept.get("fingerprint") == self._fingerprint:
            self.verdicts = kept["verdicts"]
        self._kills: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self._seconds: dict[bool, dict[str, float]] = {}

    @property
    def is_current(self) -> bool:
        """False when files have changed since the beginning, so that verdicts are of different things."""
        return fingerprint() == self._fingerprint

    def learn_seconds(self, seconds: Mapping[str, float], *, lua: bool) -> None:
        """Remember how long each test takes without a mutant."""
        self._seconds[lua] = dict(seconds)

    def limit_seconds(self, *, lua: bool) -> float:
        """Tell when the tests hang."""
        return 30 + 5 * sum(self._seconds[lua].values())

    def learn(self, mutant: Mutant, killer: str) -> None:
        """Remember a verdict."""
        self.verdicts[mutant.key] = killer
        if killer:
            self._killers[mutant.key] = killer
            self._kills[mutant.path].append((mutant.line, killer))

    def order(self, mutant: Mutant) -> list[str]:
        """Return the tests in the order in which they find this mutant soonest: walks last, as they find anything."""
        likely: dict[str, float] = defaultdict(float)
        for line, killer in self._kills[mutant.path]:
            likely[killer] += 1 / (1 + abs(line - mutant.line) / _NEAR_LINES)
        remembered, seconds = self._killers.get(mutant.key), self._seconds[mutant.is_lua]

        def rank(test: str) -> tuple[bool, bool, float]:
            return WALK in test, test != remembered, -likely[test] / (seconds[test] + 0.02)

        return sorted(seconds, key=rank)

    def keep(self, *, finished: bool) -> None:
        """Write it down; what a finished run found is only a hint for the next."""
        _FILE.parent.mkdir(parents=True, exist_ok=True)
        kept = {
            "fingerprint": "" if finished else self._fingerprint,
            "verdicts": {} if finished else self.verdicts,
            "killers": self._killers,
        }
        _FILE.write_text(json.dumps(kept, indent=1), encoding="utf-8")
