"""What one healthy newcomer needs to close a circuit, whatever state it is in."""

from __future__ import annotations

from collections.abc import Generator, Iterable

from breaker._types import Reporting
from tests.interleavings.scopes import Scope
from tests.interleavings.words import NO_TRACE, Case, Core, Effect, Question, Trace

_ASK = Question("acquire")
# To end a mode, to be refused by it, by the cooldown and by others' leases, and to see that the circuit is closed.
_STEPS_BESIDE_PROBES = 5


class StuckError(Exception):
    """A newcomer could not close a circuit."""


def recovery(core: Core, traces: Iterable[Trace], scope: Scope) -> Generator[Case, Effect, int]:
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
