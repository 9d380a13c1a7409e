"""Every order of the steps of a small fleet, breadth first, with the promises checked at each step."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.interleavings import promises
from tests.interleavings.circuits import Circuits
from tests.interleavings.fleets import Fleets, FleetState, UnansweredError
from tests.interleavings.promises import BrokenPromiseError
from tests.interleavings.recovery import StuckError, recovery
from tests.interleavings.scopes import Scope
from tests.interleavings.words import Case, Core, Effect, Trace


@dataclass(slots=True)
class Found:
    """What a search has seen.

    Attributes:
        depth: Steps from the beginning to the farthest state.
        newest: States at that depth; 0 when nothing new is left to be found at any depth.
        records: Distinct records, traces of permits included.
        executions: How often a script ran in the server.
        slowest_recovery: The most steps that one newcomer needed to close a circuit.
    """

    states: int = 1
    transitions: int = 0
    depth: int = 0
    newest: int = 1
    records: int = 0
    executions: int = 0
    slowest_recovery: int = 0
    seconds: float = 0.0


class Search:
    """One search; `run` it once.

    Args:
        scope: What is searched.
        circuits: Who executes the scripts.
        progress: Told after each depth.
        watch_steps: Whether the promises about single executions are checked. Without them what a mistake leads to is
            found as well, and that is how the tests know that it would be.
    """

    def __init__(
        self,
        scope: Scope,
        circuits: Circuits,
        progress: Callable[[Found], None] = lambda _: None,
        *,
        watch_steps: bool = True,
    ) -> None:
        self.found = Found()
        self._scope = scope
        self._circuits = circuits
        self._progress = progress
        self._watch_steps = watch_steps
        self._fleets = Fleets(scope, self._answer)
        self._effects: dict[Case, Effect] = {}
        self._missing: dict[Case, FleetState] = {}  # and where it came up first
        self._here = self._fleets.first
        self._came_from: dict[FleetState, FleetState | None] = {}
        self._records: dict[tuple[Core, tuple[Trace, ...]], FleetState] = {}

    def run(self) -> Found:
        """Search, or raise `BrokenPromiseError`."""
        started, found = time.monotonic(), self.found
        frontier = [self._fleets.first]
        self._came_from[frontier[0]] = None
        while frontier and found.depth != self._scope.depth:
            frontier = self._explore(frontier)
            found.depth += 1
            found.states, found.records, found.newest = len(self._came_from), len(self._records), len(frontier)
            found.executions, found.seconds = self._circuits.executions, time.monotonic() - started
            self._progress(found)
        self._recover_everywhere()
        found.executions, found.seconds = self._circuits.executions, time.monotonic() - started
        return found

    def _explore(self, states: Sequence[FleetState]) -> list[FleetState]:
        """Everything that is one step away and was never seen before."""
        fresh: list[FleetState] = []
        came_from = self._came_from
        while states:
            waiting = []
            for state in states:
                self._here = state
                try:
                    steps = self._fleets.steps(state)
                except UnansweredError:
                    waiting.append(state)
                    continue
                except BrokenPromiseError as broken:
                    self._demand([str(broken)], state)
                    raise
                self.found.transitions += len(steps)
                for _, after in steps:
                    if after not in came_from:
                        came_from[after] = state
                        fresh.append(after)
                        self._check(after)
            self._fetch()
            states = waiting
        return fresh

    def _answer(self, case: Case) -> Effect:
        effect = self._effects.get(case)
        if effect is None:
            self._missing.setdefault(case, self._here)
            raise UnansweredError
        return effect

    def _fetch(self) -> None:
        """Have the scripts answer what is missing, and check what they did."""
        missing, self._missing = self._missing, {}
        for case, effect in self._circuits.ask(list(missing)):
            self._effects[case] = effect
            if self._watch_steps:
                broken = promises.broken_by_a_step(case, effect, self._scope.config)
                self._demand(broken, missing[case], f"{case}\n  {effect}")

    def _check(self, state: FleetState) -> None:
        config, record = self._scope.config, self._fleets.record(state)
        if record not in self._records:
            self._records[record] = state
            self._demand(promises.broken_in_a_record(*record, config), state)
        across = self._scope.rounds_apart
        self._demand(promises.broken_by_callers(self._fleets.callers(state), config, across_rounds=across), state)

    def _demand(self, broken: Iterable[str], state: FleetState, last: str = "") -> None:
        if promises_broken := list(broken):
            raise BrokenPromiseError("\n".join([*promises_broken, *self._story(state), f"  {last}"]))

    def _story(self, state: FleetState) -> list[str]:
        """The shortest way to a state in words, with the circuit after each step."""
        way, before = [state], self._came_from[state]
        while before is not None:
            way.append(before)
            before = self._came_from[before]
        lines = []
        for here, there in itertools.pairwise(reversed(way)):
            (place, text) = next(label for label, after in self._fleets.steps(here) if after == there)
            who = "" if place < 0 else f"caller {place} ({self._fleets.callers(here)[place].phase}): "
            lines.append(f"  {who}{text}")
            lines.append(f"    {self._fleets.record(there)}")
        return lines

    def _recover_everywhere(self) -> None:
        """From every record that was seen, time and one healthy newcomer close the circuit."""
        recoveries = [(recovery(*record, self._scope), state) for record, state in self._records.items()]
        asked = [(newcomer, state, next(newcomer)) for newcomer, state in recoveries]
        while asked:
            self._missing.update((case, state) for _, state, case in asked if case not in self._effects)
            self._fetch()
            asking = asked
            asked = []
            for newcomer, state, case in asking:
                try:
                    asked.append((newcomer, state, newcomer.send(self._effects[case])))
                except StopIteration as closed:
                    self.found.slowest_recovery = max(self.found.slowest_recovery, closed.value)
                except StuckError as stuck:
                    self._demand([str(stuck)], state, str(case))
