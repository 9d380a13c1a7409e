"""Shows in traces what circuits did to a request: events and attributes of its span.

For breakers of `breaker` and of `breaker.sync`. While Redis is away events tell what the replica does by itself, with
`breaker.local` true. Needs the extra `opentelemetry`, which is the API alone: where no SDK makes spans, nothing here
does anything.
"""

from __future__ import annotations

from typing import Protocol

from opentelemetry.trace import get_current_span

from breaker import BreakerEvent, CallNotPermittedError, Status


class _Breaker(Protocol):
    """What has a status: a breaker for tasks or for threads."""

    @property
    def status(self) -> Status: ...


def add_span_event(event: BreakerEvent) -> None:
    """Add what happened to a circuit to the current span; a listener, to be given to `CircuitBreaker(listeners=...)`.

    The span is that of the request whose call brought the event about. What no request brought about, such as the end
    of a background probe, is in no span.

    Args:
        event: What happened; it becomes an event such as `breaker.tripped`, with the attributes `breaker.name`,
            `breaker.state`, `breaker.generation` and `breaker.local`, a refusal with `breaker.refusal_reason` too.
    """
    span = get_current_span()
    # A report that nobody waited for may arrive when its span has ended.
    if span.is_recording():
        attributes = {
            "breaker.name": event.name,
            "breaker.state": event.state.value,
            "breaker.generation": event.generation,
            "breaker.local": event.local,
        }
        if event.reason is not None:
            attributes["breaker.refusal_reason"] = event.reason.value
        span.add_event(f"breaker.{event.kind}", attributes)


def set_span_attributes(circuit: _Breaker | CallNotPermittedError) -> None:
    """Set attributes of the current span that say how a circuit is.

    `breaker.name`, `breaker.state` and `breaker.generation`; for a refusal also `breaker.refusal_reason` and
    `breaker.retry_after_seconds`.

    Args:
        circuit: A breaker of `breaker` or `breaker.sync`, whose circuit is shown as this replica knows it, or the
            refusal of a call.
    """
    span = get_current_span()
    if not span.is_recording():
        return
    if isinstance(circuit, CallNotPermittedError):
        name, state, generation = circuit.breaker, circuit.state, circuit.generation
        span.set_attribute("breaker.refusal_reason", circuit.reason.value)
        span.set_attribute("breaker.retry_after_seconds", circuit.retry_after_seconds)
    else:
        status = circuit.status
        name, state, generation = status.name, status.state, status.generation
    span.set_attributes({"breaker.name": name, "breaker.state": state.value, "breaker.generation": generation})
