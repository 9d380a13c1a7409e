"""What must hold of every step of a script, and in every state of the fleet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from breaker import BreakerConfig, Consecutive
from tests.interleavings.callers import Caller
from tests.interleavings.words import BUCKETS, Case, Core, Effect, Trace


class BrokenPromiseError(AssertionError):
    """A promise does not hold; the message tells how it comes to that."""


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
    policy = config.policy
    if (
        core.state == "closed"
        and isinstance(policy, Consecutive)
        and (core.failures != counted or core.failures >= policy.failures)
    ):
        yield f"{core.failures} failures are counted, of {counted} failed calls"
    if core.state != "closed" and (counted or core.buckets):
        yield f"calls are remembered while the circuit is {core.state}"
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


def _in_window(core: Core) -> tuple[int, int]:
    live = [bucket for bucket in core.buckets if bucket.age < BUCKETS]
    return sum(bucket.calls for bucket in live), sum(bucket.failures for bucket in live)


def _trip_is_due(case: Case, config: BreakerConfig) -> bool:
    """Whether a report that counts is the one that trips."""
    failed, policy = case.question.word == "failure", config.policy
    if isinstance(policy, Consecutive):
        return failed and not case.own.counted and case.core.failures + 1 >= policy.failures
    calls, failures = _in_window(case.core)
    return calls + 1 >= policy.minimum_calls and failures + failed >= policy.threshold * (calls + 1)


def _acquire(case: Case, effect: Effect, config: BreakerConfig) -> Iterator[str]:
    core, own, abstains = case.core, case.own, case.question.word == "abstain"
    over = core.mode_ms == 0
    mode = "auto" if over else core.mode
    learns = mode in {"auto", "metrics_only"}
    if effect.core.mode != mode:
        yield "asking changed the operator's mode"
    if own.lease_ms > 0 and learns and not abstains:
        if effect.word != "permitted" or not (effect.untouched or over) or effect.own != own:
            yield "asking again for a permit that is held was not the same as asking once"
        return
    cooling = core.state == "open" and core.retry_ms > 0
    probing = core.state in {"open", "half_open"} and not cooling
    live = [trace.lease_ms for trace in (own, *case.others) if trace.lease_ms > 0]
    full = probing and (abstains or len(live) >= config.probe_limit)
    by_mode = {"forced_open": "refused", "forced_closed": "permitted", "metrics_only": "permitted"}
    expected = by_mode.get(mode, "refused" if cooling or full else "permitted")
    if effect.word != expected:
        yield f"asking was {effect.word} where it had to be {expected}"
    grants = learns and probing and not full
    if effect.own.lease_ms > (config.limits().lease_ms if grants else own.lease_ms) or (
        grants and effect.own.lease_ms < config.limits().lease_ms
    ):
        yield "a probe's place was given where none was due, or none where one was"
    if not grants and effect.moved and core.state != "absent":
        yield "asking changed the state and gave no place"
    if abstains and not (effect.untouched or over or core.state == "absent"):
        yield "who leaves probing to others changed the circuit"
    if effect.word == "refused":
        first = min(live, default=config.limits().lease_ms)
        rest = core.mode_ms if mode == "forced_open" else core.retry_ms if cooling else first
        if rest >= 0 and effect.retry_after_ms != rest:
            yield f"a refusal names {effect.retry_after_ms} ms to wait and not {rest}"


def _report(case: Case, effect: Effect, config: BreakerConfig) -> Iterator[str]:
    core, own, fresh, taken = case.core, case.own, case.question.fresh, effect.word == "recorded"
    if not fresh and taken:
        yield "a report of an earlier generation was taken"
    if core.state in {"absent", "open"} and taken:
        yield f"a report was taken while the circuit was {core.state}"
    if core.state == "half_open" and taken != (fresh and own.lease_ms > 0):
        yield "a report was taken without a live lease, or not taken with one"
    if core.state == "closed" and taken != fresh:
        yield "a report to a closed circuit was not taken"
    if taken and core.state == "half_open" and not effect.moved:
        if effect.own.lease_ms >= 0:
            yield "a settled probe kept its place"
        if effect.core.probe_successes - core.probe_successes != (case.question.word == "success"):
            yield "a probe's success was not counted once"
    if taken and core.state == "closed":
        yield from _counted(case, effect, config)


def _counted(case: Case, effect: Effect, config: BreakerConfig) -> Iterator[str]:
    """What a closed circuit makes of a report: exactly this, no more and no less."""
    core, after, word, failed = case.core, effect.core, case.question.word, case.question.word == "failure"
    due = word != "ignored" and _trip_is_due(case, config)
    if (after.state == "open") != due:
        yield "a circuit tripped that had no reason to, or did not trip that had"
    if after.state == "open":
        return
    if isinstance(config.policy, Consecutive):
        expected = {"failure": core.failures + (not case.own.counted), "success": 0, "ignored": core.failures}[word]
        if after.failures != expected:
            yield f"{after.failures} failures are counted and not {expected}"
    else:
        calls, failures = _in_window(core)
        expected_in_window = (calls, failures) if word == "ignored" else (calls + 1, failures + failed)
        if _in_window(after) != expected_in_window:
            yield f"{_in_window(after)} calls and failures are counted and not {expected_in_window}"


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
    elif after.state == "half_open" and (question.verb != "acquire" or core.retry_ms > 0):
        yield f"{why} before its cooldown was over"
    elif core.state == "half_open":
        if question.verb != "report" or not question.fresh or case.own.lease_ms <= 0:
            yield f"{why} without a probe's report"
        enough = core.probe_successes + 1 >= config.probe_successes
        if question.word != ("failure" if after.state == "open" else "success") or (
            after.state == "closed" and not enough
        ):
            yield f"{why} although the probes did not say so"
    elif core.state == "closed" and (question.verb != "report" or not _trip_is_due(case, config)):
        yield f"{why} without a reason"
    if after.state == "open" and after.retry_ms != config.limits().cooldown_ms:
        yield f"{why} for {after.retry_ms} ms, which is no cooldown"
