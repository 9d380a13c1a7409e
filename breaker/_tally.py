"""Calls that a rate has not been told of yet, so that a healthy call sends nothing by itself."""

from __future__ import annotations


class Tally:
    """Gathers the calls of one generation, the newest that it has heard of.

    Attributes:
        generation: The generation.
        calls: How many calls wait to be reported.
        slow: How many of them were slow.
    """

    __slots__ = ("calls", "generation", "slow")

    def __init__(self) -> None:
        self.generation = self.calls = self.slow = 0

    def add(self, generation: int, slow: int = 0) -> None:
        """Let a call wait; one of an earlier generation is dropped, as it would be stale on arrival."""
        if generation > self.generation:
            self.generation, self.calls, self.slow = generation, 0, 0
        if generation == self.generation:
            self.calls += 1
            self.slow += slow

    def take(self, generation: int) -> tuple[int, int]:
        """Return how many calls of a generation wait, and how many of them were slow; they wait no longer."""
        if generation != self.generation:
            return 0, 0
        taken = self.calls, self.slow
        self.calls = self.slow = 0
        return taken
