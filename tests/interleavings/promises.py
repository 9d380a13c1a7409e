"""What must hold of every step of a script, and in every state of the fleet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from breaker import BreakerConfig, Consecutive
from tests.interleavings.callers import Caller
from tests.interleavings.circuits import Case, Core, Effect, Trace

_BEFORE = {"closed": {"half_open"}, "open": {"closed", "half_open"}, "half_open": {"open"}}


def broken_by_a_step(case: Case, effect: Effect, config: BreakerConfig) -> Iterator[str]:
    """Tell which promises one execution of a script breaks."""
    core, after = case.core, effect.core
    if not effect.current:
        yield "an answer names another generation than the record"
    if effect.moved and not effect.rose:
        yield "the generation went back or fell behind the clock"
    if core.state != after.state and not effect.moved:
        yield "the state changed and the generation did not"
    if effect.word == "stale" and not effect.untouched:
        yield "a stale report had an effect"
    for trace, later in zip(case.others, effect.others, strict=True):
        if later.lease_ms > trace.lease_ms or (later.counted and not trace.counted):
            yield "a step gave somebody else a lease, prolonged it or counted another's failure"
        if trace.lease_ms > 0 > later.lease_ms and not effect.moved:
            yield "a live lease of somebody else was taken away"
    verb = case.question.verb
    yield from {"acquire": _acquire, "report": _report, "give_back": _give_back, "control": _control}[verb](
        case, effect, config
    )
    if core.state not in {"absent", after.state}:
        yield from _transition(case, effect, config)


def broken_in_a_record(core: Core, traces: Sequence[Trace], config: BreakerConfig) -> Iterator[str]:
    """Tell which promises a record breaks."""
    live = sum(trace.lease_ms > 0 for trace in traces)
    if live > config.probe_limit:
        yield f"{live} probes are out"
    if core.state != "half_open" and any(trace.lease_ms >= 0 for trace in traces):
        yield f"there are leases while the circuit is {core.state}"
    counted = sum(trace.counted for trace in traces)
    if core.state == "closed" and (core.failures != counted or core.failures >= _threshold(config)):
        yield f"{core.failures} failures are counted, of {counted} failed calls"
    if core.state != "closed" and counted:
        yield f"failures of single calls are remembered while the circuit is {core.state}"
    if core.state == "half_open" and not core.probe_successes < config.probe_successes:
        yield "enough probes have succeeded and the circuit is half-open"


def broken_by_callers(callers: Sequence[Caller], config: BreakerConfig, *, across_rounds: bool) -> Iterator[str]:
    """Tell whether too many probes run that rely on their lease; across rounds, those of earlier rounds included."""
    running = sum(
        caller.phase in {"answered", "running"} and caller.probe_ms > 0 and (caller.fresh or across_rounds)
        for caller in callers
    )
    if running > config.probe_limit:
        yield f"{running} probes run within their lease"


def broken_by_a_report(caller: Caller, case: Case, effect: Effect) -> Iterator[str]:
    """Tell whether a call decided about a half-open circuit that was not its probe."""
    if case.core.state == "half_open" and effect.word == "recorded" and caller.probe_ms < 0:
        yield "a call that is no probe of this round had a say in it"


def _threshold(config: BreakerConfig) -> int:
    assert isinstance(config.policy, Consecutive)
    return config.policy.failures


def _acquire(case: Case, effect: Effect, config: BreakerConfig) -> Iterator[str]:
    core, own = case.core, case.own
    over = core.mode_ms == 0
    mode = "auto" if over else core.mode
    live = sum(trace.lease_ms > 0 for trace in (own, *case.others))
    if effect.core.mode != mode:
        yield "asking changed the operator's mode"
    if own.lease_ms > 0 and mode in {"auto", "metrics_only"}:
        if effect.word != "permitted" or not (effect.untouched or over) or effect.own != own:
            yield "asking again for a permit that is held was not the same as asking once"
        return
    forced = {"forced_open": "refused", "forced_closed": "permitted", "metrics_only": "permitted"}.get(mode)
    cooling = core.state == "open" and core.retry_ms > 0
    full = core.state == "half_open" and live >= config.probe_limit
    expected = forced or ("refused" if cooling or full else "permitted")
    if effect.word != expected:
        yield f"asking was {effect.word} where it had to be {expected}"
    grants = mode in {"auto", "metrics_only"} and core.state in {"open", "half_open"} and not cooling and not full
    if (effect.own.lease_ms > 0) != (grants or own.lease_ms > 0):
        yield "a probe's place was given where none was due, or none where one was"
    if effect.word == "refused":
        if not mode.startswith("forced") and (effect.own.lease_ms > 0 or effect.moved):
            yield "a refusal changed the circuit"
        left = [trace.lease_ms for trace in case.others if trace.lease_ms > 0]
        rest = core.mode_ms if mode == "forced_open" else core.retry_ms if cooling else min(left, default=0)
        if rest >= 0 and effect.retry_after_ms != rest:
            yield f"a refusal names {effect.retry_after_ms} ms to wait and not {rest}"


def _report(case: Case, effect: Effect, _: BreakerConfig) -> Iterator[str]:
    core, own, failed = case.core, case.own, case.question.word == "failure"
    if not case.question.fresh and effect.word != "stale":
        yield "a report of an earlier generation was taken"
    if core.state in {"absent", "open"} and effect.word != "stale":
        yield f"a report was taken while the circuit was {core.state}"
    if core.state == "half_open" and (effect.word == "recorded") != (case.question.fresh and own.lease_ms > 0):
        yield "a report was taken without a live lease, or not taken with one"
    if effect.word == "recorded" and core.state == "half_open" and not effect.moved:
        if effect.own.lease_ms >= 0:
            yield "a settled probe kept its place"
        if effect.core.probe_successes - core.probe_successes != (case.question.word == "success"):
            yield "a probe's success was not counted once"
    if effect.core.failures > core.failures and (not failed or own.counted or effect.core.failures > core.failures + 1):
        yield "a call was counted as failed that had not failed, or twice"


def _give_back(case: Case, effect: Effect, _: BreakerConfig) -> Iterator[str]:
    core, own = case.core, case.own
    holds = core.state == "half_open" and own.lease_ms > 0
    if effect.moved or effect.core != core or effect.others != case.others:
        yield "giving back a place changed more than the place"
    if (effect.word == "recorded") != holds or (holds and effect.own.lease_ms >= 0):
        yield "a place was not given back, or one that was not held"


def _control(case: Case, effect: Effect, _: BreakerConfig) -> Iterator[str]:
    core, after, action = case.core, effect.core, case.question.word
    if action == "reset":
        if (after.state, after.failures, after.mode) != ("closed", 0, "auto"):
            yield "a reset left something"
    elif core.state != "absent" and (
        effect.moved or effect.others != case.others or after._replace(mode=core.mode, mode_ms=core.mode_ms) != core
    ):
        yield "an operator's mode changed the machine beneath it"
    elif after.mode != action:
        yield "an operator's mode did not come into force"


def _transition(case: Case, effect: Effect, config: BreakerConfig) -> Iterator[str]:
    core, after, question = case.core, effect.core, case.question
    why = f"the circuit went from {core.state} to {after.state}"
    if question == ("control", "reset", False, 0):
        return
    if core.state not in _BEFORE[after.state]:
        yield f"{why}, which is no transition"
    elif after.state == "half_open":
        if question.verb != "acquire" or core.retry_ms > 0:
            yield f"{why} before its cooldown was over"
    elif core.state == "half_open":
        if question.verb != "report" or not question.fresh or case.own.lease_ms <= 0:
            yield f"{why} without a probe's report"
        elif after.state == "open" and question.word != "failure":
            yield f"{why} without a failure"
        elif after.state == "closed" and (
            question.word != "success" or core.probe_successes + 1 < config.probe_successes
        ):
            yield f"{why} without enough successful probes"
    elif question.word != "failure" or case.own.counted or core.failures + 1 < _threshold(config):
        yield f"{why} without enough distinct failures"
