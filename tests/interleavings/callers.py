"""The protocol of one caller in small steps, with everything that may go wrong between it and the server.

A caller of a replica is idle, or it has asked (`asking`), its answer is on the way (`answered`), its call runs
(`running`), or its report is on the way (`reporting`). What is still on the way when the caller itself has turned away
becomes a stray: mail that the server may get at any later time, or never. Every permit has an id of its own, so who has
left no trace in the record and has nothing on the way is gone for good.
"""

from __future__ import annotations

from typing import NamedTuple

from breaker import Outcome
from breaker._types import Reporting
from tests.interleavings.words import NO_TRACE, Effect, Question, Trace

_ASK = Question("acquire")
_ABSTAIN = Question("acquire", "abstain")
_GIVE_BACK = Question("give_back", Outcome.IGNORED.value)


class Caller(NamedTuple):
    """A caller of a replica, or a stray.

    Attributes:
        phase: See above. `abstaining` has asked and leaves probing to others; `anew` has heard that the server does not
            know the circuit, and asks again for its failure; `stray` is nobody's any more.
        fresh: Its permit carries the generation that the record is in.
        wants: Which outcomes its permit asks to be reported.
        probe_ms: What is left of its lease by its own reckoning, 0 when that is over; -1 when it is no probe.
        outcome: What it reports.
        mail: What of a stray is on the way.
        trace: What the record holds of its permit.
    """

    phase: str
    fresh: bool = False
    wants: str = ""
    probe_ms: int = -1
    outcome: str = ""
    mail: tuple[str, ...] = ()
    trace: Trace = NO_TRACE

    def later(self, ms: int) -> Caller:
        """The same after some time."""
        probe_ms = max(0, self.probe_ms - ms) if self.probe_ms > 0 else self.probe_ms
        return self._replace(probe_ms=probe_ms, trace=self.trace.later(ms))


IDLE = Caller("idle")


class Turn(NamedTuple):
    """What becomes of a caller in one step.

    Attributes:
        text: The step in words, for the story of a broken promise.
        caller: The caller afterwards; None for a stray with nothing on the way any more.
        stray: What it leaves on the way.
    """

    text: str
    caller: Caller | None
    stray: Caller | None = None


def turns(caller: Caller, *, abstains: bool) -> list[Turn]:
    """Every step that needs no server; who abstains may also ask and leave probing to others."""
    trace = caller.trace
    match caller.phase:
        case "idle":
            asks = [Turn("asks", Caller("asking"))]
            return [*asks, Turn("asks, but not to probe", Caller("abstaining"))] if abstains else asks
        case "asking" | "abstaining":
            return [
                Turn("is cancelled while its question is on the way", IDLE, _stray("acquire", "give_back")),
                Turn("is killed while its question is on the way", IDLE, _stray("acquire")),
            ]
        case "answered":
            return [
                Turn("hears the answer", caller._replace(phase="running")),
                Turn("is cancelled before it hears the answer", IDLE, _stray("give_back", trace=trace)),
                Turn("never hears the answer", IDLE),
            ]
        case "running":
            ends = [Turn(f"its call ends: {outcome}", _ended(caller, outcome)) for outcome in Outcome]
            return [*ends, Turn("is killed", IDLE)]
        case "reporting" | "anew":
            return [Turn("its mail is lost", IDLE)]
        case _:
            return [Turn("its mail is lost", None)]


def questions(caller: Caller, *, repeats: bool) -> list[tuple[str, Question]]:
    """Everything of a caller that the server may get now; with repeats also what it got before."""
    match caller.phase:
        case "asking":
            return [("its question arrives", _ASK)]
        case "abstaining" | "anew":
            # Who begins a circuit anew has called already: a probe's place would make its old failure a probe's.
            return [("its question arrives", _ABSTAIN)]
        case "answered" | "running" if repeats:
            return [("its question arrives again", _ASK)]
        case "reporting":
            return [("its report arrives", Question("report", caller.outcome, caller.fresh))]
        case "stray":
            return [(f"mail arrives: {word}", _mailed(caller, word)) for word in caller.mail]
        case _:
            return []


def answered(caller: Caller, question: Question, effect: Effect, *, repeats: bool) -> list[Turn]:
    """What may become of a caller when the server has got its question."""
    left = tuple(word for word in caller.mail if _mailed(caller, word) != question)
    caller = caller._replace(trace=effect.own, fresh=caller.fresh and not effect.moved)
    match caller.phase:
        case "asking" | "abstaining":
            return [_admitted(effect)]
        case "anew":
            return [_begun_anew(caller, effect)]
        case "reporting":
            return _reported(caller, effect, repeats=repeats)
        case "stray":
            return [Turn(effect.word, caller._replace(mail=left) if left else None)]
        case _:
            return [Turn(effect.word, caller)]


def _admitted(effect: Effect) -> Turn:
    if effect.word == "refused":
        return Turn("refused", IDLE)
    probe = effect.told == "half_open" and effect.wants == Reporting.ALL
    probe_ms = effect.own.lease_ms if probe else -1
    return Turn("permitted", Caller("answered", fresh=True, wants=effect.wants, probe_ms=probe_ms, trace=effect.own))


def _begun_anew(caller: Caller, effect: Effect) -> Turn:
    # Whatever it is told: its failure counts if the circuit is closed, and says nothing if it is not.
    return Turn(effect.word, caller._replace(phase="reporting", fresh=True))


def _reported(caller: Caller, effect: Effect, *, repeats: bool) -> list[Turn]:
    if not effect.known and caller.outcome == Outcome.FAILURE:
        return [Turn("unknown", caller._replace(phase="anew"))]
    again = caller._replace(phase="stray", mail=(caller.outcome,), outcome="")
    twice = [Turn(f"{effect.word}, and on the way once more", IDLE, again)] if repeats else []
    return [Turn(effect.word, IDLE), *twice]


def _stray(*mail: str, trace: Trace = NO_TRACE) -> Caller:
    return Caller("stray", mail=mail, trace=trace)


def _mailed(caller: Caller, word: str) -> Question:
    known = {"acquire": _ASK, "give_back": _GIVE_BACK}
    return known.get(word) or Question("report", word, caller.fresh)


def _ended(caller: Caller, outcome: Outcome) -> Caller:
    if not Reporting(caller.wants).wants(outcome):
        return IDLE
    return caller._replace(phase="reporting", outcome=outcome.value, wants="", probe_ms=min(caller.probe_ms, 0))
