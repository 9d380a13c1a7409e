"""The states of a small fleet, and every step from each of them.

States are the same when they differ only in which replica is which: replicas run the same protocol, and the names of
permits decide nothing, which `circuits` checks. Time passes by whole milliseconds, as it does on the server's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from tests.interleavings import promises
from tests.interleavings.callers import IDLE, Caller, Turn, answered, questions, turns
from tests.interleavings.promises import BrokenPromiseError
from tests.interleavings.scopes import Scope
from tests.interleavings.words import ABSENT, NO_TRACE, Case, Core, Effect, Question, Trace

_T = TypeVar("_T")
_K = TypeVar("_K")
_V = TypeVar("_V")
# What is known of circuits by numbers: core, traces of nobody, callers, strays. A million small tuples of small numbers
# fit where a million nested ones do not.
FleetState = tuple[int, ...]
Label = tuple[int, str]  # whose step, below zero nobody's, and what
_HEAD = 2


class UnansweredError(Exception):
    """A script has to be asked before a state can be looked at."""


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


class Fleets:
    """Every step from every state of a fleet.

    Args:
        scope: What may happen.
        answer: Says what a script does, or raises `UnansweredError`.

    Attributes:
        first: The state in which nothing has happened.
    """

    def __init__(self, scope: Scope, answer: Callable[[Case], Effect]) -> None:
        self._scope = scope
        self._answer = answer
        self._cores: _Numbers[Core] = _Numbers()
        self._orphans: _Numbers[tuple[Trace, ...]] = _Numbers()
        self._callers: _Numbers[Caller] = _Numbers()
        self._absent, self._nobodys = self._cores.of(ABSENT), self._orphans.of(())
        self._core_later = _Worked(self._make_core_later)
        self._orphans_later = _Worked(self._make_orphans_later)
        self._caller_later = _Worked(self._make_caller_later)
        self._caller_lost = _Worked(self._make_caller_lost)
        self._turns = _Worked(self._make_turns)
        self._questions = _Worked(self._make_questions)
        self._turns_after = _Worked(self._make_turns_after)
        self.first = self._state(self._absent, self._nobodys, [self._callers.of(IDLE)] * scope.replicas)

    def record(self, state: FleetState) -> tuple[Core, tuple[Trace, ...]]:
        """The record in a state."""
        return self._cores.things[state[0]], tuple([trace for trace, _ in self._traces(state)])

    def callers(self, state: FleetState) -> list[Caller]:
        """The callers in a state, strays last."""
        return [self._callers.things[caller] for caller in state[_HEAD:]]

    def steps(self, state: FleetState) -> list[tuple[Label, FleetState]]:
        """Every step from a state."""
        callers = state[_HEAD:]
        traces = self._traces(state)
        steps = self._steps_of_the_world(state, traces)
        busy = 0 < self._scope.most_calls < sum(bucket.calls for bucket in self._cores.things[state[0]].buckets)
        for place, caller in enumerate(callers):
            if place and callers[place - 1] == caller and place != self._scope.replicas:
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
                    self._demand_of_a_report(self._callers.things[caller], case, effect)
                then = self._spread(state, others, case, effect)
                steps += [
                    ((place, f"{text}, {step.text}"), self._moved(then, place, step))
                    for step in self._possible(state, caller, question, effect)
                ]
        return steps

    def _demand_of_a_report(self, caller: Caller, case: Case, effect: Effect) -> None:
        for broken in promises.broken_by_a_report(caller, case, effect):
            raise BrokenPromiseError(f"{broken}\n  {caller}\n  {case}\n  {effect}")

    def _steps_of_the_world(
        self, state: FleetState, traces: Sequence[tuple[Trace, int]]
    ) -> list[tuple[Label, FleetState]]:
        """Time, faults of the server, and operators."""
        core, orphans, *callers = state
        later = [self._caller_later[caller] for caller in callers]
        steps = [((-1, "time passes"), self._state(self._core_later[core], self._orphans_later[orphans], later))]
        if self._scope.losses:
            lost = [self._caller_lost[caller] for caller in callers]
            steps.append(((-1, "the server loses its data"), self._state(self._absent, self._nobodys, lost)))
        for action, duration_ms in self._scope.operator:
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
        if len(state) - _HEAD - self._scope.replicas < self._scope.strays:
            return steps
        return [step for step in steps if step.stray < 0]

    def _case(self, state: FleetState, others: Sequence[tuple[Trace, int]], own: Trace, question: Question) -> Case:
        return Case(self._cores.things[state[0]], tuple([trace for trace, _ in others]), own, question)

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
        replicas = self._scope.replicas
        return (core, orphans, *sorted(callers[:replicas]), *sorted(callers[replicas:]))

    def _make_core_later(self, core: int) -> int:
        return self._cores.of(self._cores.things[core].later(self._scope.tick_ms, self._scope.bucket_ms))

    def _make_orphans_later(self, orphans: int) -> int:
        return self._orphans.of(
            tuple(sorted(trace.later(self._scope.tick_ms) for trace in self._orphans.things[orphans]))
        )

    def _make_caller_later(self, caller: int) -> int:
        return self._callers.of(self._callers.things[caller].later(self._scope.tick_ms))

    def _make_caller_lost(self, caller: int) -> int:
        # It takes time to lose data: the clock is past every number of a generation when the circuit begins anew.
        return self._callers.of(
            self._callers.things[caller].later(self._scope.tick_ms)._replace(fresh=False, trace=NO_TRACE)
        )

    def _make_turns(self, caller: int) -> list[_Step]:
        known = self._callers.things[caller]
        return [self._numbered(turn, known.trace) for turn in turns(known, abstains=self._scope.abstains)]

    def _make_questions(self, caller: int) -> list[tuple[str, Question]]:
        return questions(self._callers.things[caller], repeats=self._scope.repeats)

    def _make_turns_after(self, key: tuple[int, Question, Effect]) -> list[_Step]:
        caller, question, effect = key
        possible = answered(self._callers.things[caller], question, effect, repeats=self._scope.repeats)
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
