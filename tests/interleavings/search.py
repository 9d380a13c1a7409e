"""Every order of the steps of a small fleet, breadth first, with the promises checked at each step.

States are the same when they differ only in which replica is which: replicas run the same protocol, and the names of
permits decide nothing, which `circuits` checks. Time passes by whole milliseconds, as it does on the server's clock.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from breaker import BreakerConfig
from breaker._types import Reporting
from tests.interleavings import promises
from tests.interleavings.callers import IDLE, Caller, Turn, answered, questions, turns
from tests.interleavings.circuits import Circuits
from tests.interleavings.records import bucket_ms_of
from tests.interleavings.words import ABSENT, NO_TRACE, Case, Core, Effect, Question, Trace

_T = TypeVar("_T")
_K = TypeVar("_K")
_V = TypeVar("_V")
# What is known of circuits by numbers: core, traces of nobody, callers, strays. A million small tuples of small numbers
# fit where a million nested ones do not.
FleetState = tuple[int, ...]
_Label = tuple[int, str]  # whose step, below zero nobody's, and what
_HEAD = 2

_ASK = Question("acquire")
# To end a mode, to be refused by it, by the cooldown and by others' leases, and to see that the circuit is closed.
_STEPS_BESIDE_PROBES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is searched.

    Attributes:
        tick_ms: What time passes by; whole buckets where a rate counts.
        abstains: Whether replicas may ask and leave probing to others, as they do that have a background probe.
        most_calls: Nobody asks while a rate's window holds more; without that it could hold any number.
        strays: How many callers that turned away may have mail on the way at once.
        repeats: Whether the server may get questions and reports twice.
        losses: Whether the server may lose all data.
        operator: What an operator may do: actions with their duration in ms, 0 for no end.
        depth: How many steps deep; None until nothing new is found.
    """

    name: str
    config: BreakerConfig
    replicas: int = 3
    tick_ms: int = 1
    abstains: bool = False
    most_calls: int = 0
    strays: int = 1
    repeats: bool = True
    losses: bool = False
    operator: tuple[tuple[str, int], ...] = ()
    depth: int | None = None

    @property
    def bucket_ms(self) -> int:
        """How long a rate's bucket is."""
        return bucket_ms_of(self.config.limits())

    @property
    def rounds_apart(self) -> bool:
        """Whether all leases of one half-open round are over before the next can begin."""
        limits = self.config.limits()
        return limits.cooldown_ms >= limits.lease_ms and not self.losses and not self.operator


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


class BrokenPromiseError(AssertionError):
    """A promise does not hold; the message tells the shortest story that shows it."""


class StuckError(Exception):
    """A newcomer could not close a circuit."""


class _Numbers(Generic[_T]):
    """Small numbers for things, in the order of their first appearance."""

    def __init__(self) -> None:
        self.things: list[_T] = []
        self._numbers: dict[_T, int] = {}

    def of(self, thing: _T) -> int:
        number = self._numbers.get(thing)
        if number is None:
            number = self._numbers[thing] = len(self.things)
            self.things.append(thing)
        return number


class _Worked(dict[_K, _V]):
    """What a function returns, worked out once for each key."""

    def __init__(self, work: Callable[[_K], _V]) -> None:
        super().__init__()
        self._work = work

    def __missing__(self, key: _K) -> _V:
        value = self[key] = self._work(key)
        return value


class _Step(NamedTuple):
    """A turn in numbers; -1 for nobody."""

    text: str
    caller: int
    stray: int
    orphan: Trace


class _Fleet(NamedTuple):
    """A state whose callers are not yet in order."""

    core: int
    orphans: int
    callers: Sequence[int]


class _UnansweredError(Exception):
    """A script has to be asked before a state can be looked at."""


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
        self.scope = scope
        self.found = Found()
        self._circuits = circuits
        self._progress = progress
        self._watch_steps = watch_steps
        self._cores: _Numbers[Core] = _Numbers()
        self._orphans: _Numbers[tuple[Trace, ...]] = _Numbers()
        self._callers: _Numbers[Caller] = _Numbers()
        self._effects: dict[Case, Effect] = {}
        self._missing: dict[Case, None] = {}
        self._came_from: dict[FleetState, FleetState | None] = {}
        self._records: dict[tuple[Core, tuple[Trace, ...]], FleetState] = {}
        self._absent, self._nobodys = self._cores.of(ABSENT), self._orphans.of(())
        self._core_later = _Worked(self._make_core_later)
        self._orphans_later = _Worked(self._make_orphans_later)
        self._caller_later = _Worked(self._make_caller_later)
        self._caller_lost = _Worked(self._make_caller_lost)
        self._turns = _Worked(self._make_turns)
        self._questions = _Worked(self._make_questions)
        self._turns_after = _Worked(self._make_turns_after)

    def run(self) -> Found:
        """Search, or raise `BrokenPromiseError`."""
        started, found = time.monotonic(), self.found
        first = (self._absent, self._nobodys, *[self._callers.of(IDLE)] * self.scope.replicas)
        self._came_from[first] = None
        frontier = [first]
        while frontier and found.depth != self.scope.depth:
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
                try:
                    steps = self._steps(state)
                except _UnansweredError:
                    waiting.append(state)
                    continue
                self.found.transitions += len(steps)
                for _, after in steps:
                    if after not in came_from:
                        came_from[after] = state
                        fresh.append(after)
                        self._check(after)
            self._fetch()
            states = waiting
        return fresh

    def _steps(self, state: FleetState) -> list[tuple[_Label, FleetState]]:
        """Every step from a state."""
        callers = state[_HEAD:]
        traces = self._traces(state)
        steps = self._steps_of_the_world(state, traces)
        busy = 0 < self.scope.most_calls < sum(bucket.calls for bucket in self._cores.things[state[0]].buckets)
        for place, caller in enumerate(callers):
            if place and callers[place - 1] == caller and place != self.scope.replicas:
                continue  # Who is like the one before does the same.
            if busy and self._callers.things[caller] == IDLE:
                continue
            here = _Fleet(state[0], state[1], callers)
            steps += [((place, step.text), self._moved(here, place, step)) for step in self._possible(state, caller)]
            others = [entry for entry in traces if entry[1] != place]
            for text, question in self._questions[caller]:
                case = self._case(state, others, self._callers.things[caller].trace, question)
                effect = self._answer(case)
                if question.verb == "report":
                    self._demand(promises.broken_by_a_report(self._callers.things[caller], case, effect), state, text)
                then = self._spread(state, others, case, effect)
                steps += [
                    ((place, f"{text}, {step.text}"), self._moved(then, place, step))
                    for step in self._possible(state, caller, question, effect)
                ]
        return steps

    def _steps_of_the_world(
        self, state: FleetState, traces: Sequence[tuple[Trace, int]]
    ) -> list[tuple[_Label, FleetState]]:
        """Time, faults of the server, and operators."""
        core, orphans, *callers = state
        later = [self._caller_later[caller] for caller in callers]
        steps = [((-1, "time passes"), self._state(self._core_later[core], self._orphans_later[orphans], later))]
        if self.scope.losses:
            lost = [self._caller_lost[caller] for caller in callers]
            steps.append(((-1, "the server loses its data"), self._state(self._absent, self._nobodys, lost)))
        for action, duration_ms in self.scope.operator:
            case = self._case(state, traces, NO_TRACE, Question("control", action, duration_ms=duration_ms))
            then = self._spread(state, traces, case, self._answer(case))
            steps.append(((-1, f"an operator: {action}"), self._state(*then)))
        return steps

    def _possible(
        self, state: FleetState, caller: int, question: Question | None = None, effect: Effect | None = None
    ) -> list[_Step]:
        """The turns that a caller may take, those that leave a stray only where there is room for one."""
        if question is None or effect is None:
            steps = self._turns[caller]
        else:
            steps = self._turns_after[caller, question, effect]
        if len(state) - _HEAD - self.scope.replicas < self.scope.strays:
            return steps
        return [step for step in steps if step.stray < 0]

    def _case(self, state: FleetState, others: Sequence[tuple[Trace, int]], own: Trace, question: Question) -> Case:
        return Case(self._cores.things[state[0]], tuple([trace for trace, _ in others]), own, question)

    def _answer(self, case: Case) -> Effect:
        effect = self._effects.get(case)
        if effect is None:
            self._missing[case] = None
            raise _UnansweredError
        return effect

    def _traces(self, state: FleetState) -> list[tuple[Trace, int]]:
        """Every trace in the record and whose it is, in the order of traces; below zero nobody's."""
        things = self._callers.things
        traces = [
            (things[caller].trace, place)
            for place, caller in enumerate(state[_HEAD:])
            if things[caller].trace != NO_TRACE
        ]
        traces += [(trace, -1 - place) for place, trace in enumerate(self._orphans.things[state[1]])]
        traces.sort()
        return traces

    def _spread(self, state: FleetState, others: Sequence[tuple[Trace, int]], case: Case, effect: Effect) -> _Fleet:
        """Carry what a script did to all but the one who asked."""
        callers, orphans = list(state[_HEAD:]), state[1]
        if effect.others != case.others:
            left = []
            for (_, place), trace in zip(others, effect.others, strict=True):
                if place >= 0:
                    callers[place] = self._callers.of(self._callers.things[callers[place]]._replace(trace=trace))
                elif trace != NO_TRACE:
                    left.append(trace)
            orphans = self._orphans.of(tuple(sorted(left)))
        if effect.moved:
            callers = [self._callers.of(self._callers.things[caller]._replace(fresh=False)) for caller in callers]
        return _Fleet(self._cores.of(effect.core), orphans, callers)

    def _moved(self, fleet: _Fleet, place: int, step: _Step) -> FleetState:
        """Let one of a fleet take its turn."""
        core, orphans, callers = fleet[0], fleet[1], list(fleet[2])
        if step.caller < 0:
            del callers[place]
        else:
            callers[place] = step.caller
        if step.stray >= 0:
            callers.append(step.stray)
        if step.orphan != NO_TRACE:
            orphans = self._orphans.of(tuple(sorted((*self._orphans.things[orphans], step.orphan))))
        return self._state(core, orphans, callers)

    def _state(self, core: int, orphans: int, callers: Sequence[int]) -> FleetState:
        replicas = self.scope.replicas
        return (core, orphans, *sorted(callers[:replicas]), *sorted(callers[replicas:]))

    def _fetch(self) -> None:
        """Have the scripts answer what is missing, and check what they did."""
        for case, effect in self._circuits.ask(list(self._missing)):
            self._effects[case] = effect
            if self._watch_steps:
                self._demand(promises.broken_by_a_step(case, effect, self.scope.config), None, f"{case}\n  {effect}")
        self._missing.clear()

    def _check(self, state: FleetState) -> None:
        config = self.scope.config
        record = self._cores.things[state[0]], tuple([trace for trace, _ in self._traces(state)])
        if record not in self._records:
            self._records[record] = state
            self._demand(promises.broken_in_a_record(*record, config), state)
        callers = [self._callers.things[caller] for caller in state[_HEAD:]]
        across = self.scope.rounds_apart
        self._demand(promises.broken_by_callers(callers, config, across_rounds=across), state)

    def _demand(self, broken: Iterable[str], state: FleetState | None, last: str = "") -> None:
        if promises_broken := list(broken):
            story = self._story(state) if state else []
            raise BrokenPromiseError("\n".join([*promises_broken, *story, f"  {last}"]))

    def _story(self, state: FleetState | None) -> list[str]:
        """The shortest way to a state in words, with the circuit after each step."""
        way: list[FleetState] = []
        while state is not None:
            way.append(state)
            state = self._came_from[state]
        way.reverse()
        lines = []
        for before, after in itertools.pairwise(way):
            steps = self._steps(before)
            (place, text) = next(label for label, there in steps if there == after)
            who = "" if place < 0 else f"caller {place} ({self._callers.things[before[_HEAD + place]].phase}): "
            lines.append(f"  {who}{text}")
            lines.append(f"    {self._cores.things[after[0]]} {[trace for trace, _ in self._traces(after)]}")
        return lines

    def _recover_everywhere(self) -> None:
        """From every record that was seen, time and one healthy newcomer close the circuit."""
        recoveries = [(_recovery(*record, self.scope), state) for record, state in self._records.items()]
        asked = [(recovery, state, next(recovery)) for recovery, state in recoveries]
        while asked:
            self._missing.update((case, None) for _, _, case in asked if case not in self._effects)
            self._fetch()
            asking = asked
            asked = []
            for recovery, state, case in asking:
                try:
                    asked.append((recovery, state, recovery.send(self._effects[case])))
                except StopIteration as closed:
                    self.found.slowest_recovery = max(self.found.slowest_recovery, closed.value)
                except StuckError as stuck:
                    self._demand([str(stuck)], state, str(case))

    def _make_core_later(self, core: int) -> int:
        return self._cores.of(self._cores.things[core].later(self.scope.tick_ms, self.scope.bucket_ms))

    def _make_orphans_later(self, orphans: int) -> int:
        return self._orphans.of(
            tuple(sorted(trace.later(self.scope.tick_ms) for trace in self._orphans.things[orphans]))
        )

    def _make_caller_later(self, caller: int) -> int:
        return self._callers.of(self._callers.things[caller].later(self.scope.tick_ms))

    def _make_caller_lost(self, caller: int) -> int:
        # It takes time to lose data: the clock is past every number of a generation when the circuit begins anew.
        return self._callers.of(
            self._callers.things[caller].later(self.scope.tick_ms)._replace(fresh=False, trace=NO_TRACE)
        )

    def _make_turns(self, caller: int) -> list[_Step]:
        known = self._callers.things[caller]
        return [self._numbered(turn, known.trace) for turn in turns(known, abstains=self.scope.abstains)]

    def _make_questions(self, caller: int) -> list[tuple[str, Question]]:
        return questions(self._callers.things[caller], repeats=self.scope.repeats)

    def _make_turns_after(self, key: tuple[int, Question, Effect]) -> list[_Step]:
        caller, question, effect = key
        possible = answered(self._callers.things[caller], question, effect, repeats=self.scope.repeats)
        return [self._numbered(turn, effect.own) for turn in possible]

    def _numbered(self, turn: Turn, trace: Trace) -> _Step:
        """Number a turn; a trace that neither caller nor stray carries on is nobody's."""
        held = any(who is not None and who.trace == trace for who in (turn.caller, turn.stray))
        return _Step(
            turn.text,
            -1 if turn.caller is None else self._callers.of(turn.caller),
            -1 if turn.stray is None else self._callers.of(turn.stray),
            NO_TRACE if held else trace,
        )


def _recovery(core: Core, traces: Iterable[Trace], scope: Scope) -> Generator[Case, Effect, int]:
    """Be a newcomer that comes back when it is told to and whose calls succeed; return the steps until it is closed."""
    for step in range(1, scope.config.probe_successes + _STEPS_BESIDE_PROBES + 1):
        case = Case(core, tuple(sorted(traces)), NO_TRACE, _ASK)
        if core.mode != "auto" and core.mode_ms < 0:
            case = case._replace(question=Question("control", "auto"))
        effect = yield case
        core, traces = effect.core, _left(effect.others)
        if effect.word == "refused":
            wait_ms = effect.retry_after_ms
            if wait_ms < 1:
                raise StuckError(f"a newcomer is refused and told to wait {wait_ms} ms")
            just_under = _later(core, traces, wait_ms - 1, scope)
            if (yield Case(*just_under, NO_TRACE, _ASK)).word != "refused":
                raise StuckError("a newcomer is told to wait for longer than it has to")
            core, traces = _later(core, traces, wait_ms, scope)
        elif effect.word == "permitted" and effect.wants == Reporting.ALL:
            effect = yield Case(core, traces, effect.own, Question("report", "success", fresh=True))
            core, traces = effect.core, _left(effect.others)
            if effect.word != "recorded":
                raise StuckError("the success of a healthy newcomer's probe is not taken")
        elif effect.word == "permitted" and core.mode == "auto" and core.state == "closed":
            return step
        else:
            # Under an operator's mode that lets everything through the machine learns nothing: it ends first.
            core, traces = _later(core, traces, max(core.mode_ms, 0), scope)
    raise StuckError("time and healthy newcomers do not close the circuit")


def _left(traces: Iterable[Trace]) -> tuple[Trace, ...]:
    return tuple(sorted(trace for trace in traces if trace != NO_TRACE))


def _later(core: Core, traces: Iterable[Trace], wait_ms: int, scope: Scope) -> tuple[Core, tuple[Trace, ...]]:
    bucket_ms = scope.bucket_ms
    # Buckets do not matter to who recovers: they are empty unless the circuit is closed, and then there is no waiting.
    return core.later(wait_ms, bucket_ms), tuple(sorted(trace.later(wait_ms) for trace in traces))
