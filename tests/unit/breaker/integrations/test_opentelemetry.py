"""What a trace shows of the circuits that a request met."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from breaker import (
    BreakerConfig,
    BreakerEvent,
    CallNotPermittedError,
    CircuitBreaker,
    EventKind,
    MemoryStore,
    State,
    sync,
)
from breaker.integrations.opentelemetry import add_span_event, set_span_attributes
from tests.support.stores import ManualClock

FAILURES = 3


class _Traces:
    """Spans that have ended, and what makes them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer: Tracer = self.provider.get_tracer("test")

    @property
    def last(self) -> ReadableSpan:
        return self._exporter.get_finished_spans()[-1]

    @property
    def events(self) -> list[str]:
        return [event.name for event in self.last.events]


@pytest.fixture
def traces() -> Iterator[_Traces]:
    """Traces that are kept in memory."""
    traces = _Traces()
    yield traces
    traces.provider.shutdown()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> CircuitBreaker:
    """A breaker that tells the current span what happens."""
    config = BreakerConfig(cooldown_seconds=30)
    return CircuitBreaker("stripe:create_intent", MemoryStore(clock), config, listeners=[add_span_event])


async def fails() -> None:
    """Fail as a sick dependency does."""
    raise ConnectionError


async def works() -> None:
    """Succeed."""


async def trip(breaker: CircuitBreaker) -> None:
    """Open the circuit."""
    for _ in range(FAILURES):
        with pytest.raises(ConnectionError):
            await breaker.call(fails)


async def test_the_request_whose_call_trips_the_circuit_has_it_in_its_span(
    traces: _Traces, breaker: CircuitBreaker
) -> None:
    """The event names the circuit, its new state and its generation."""
    with traces.tracer.start_as_current_span("request"):
        await trip(breaker)
    (event,) = traces.last.events
    assert event.name == "breaker.tripped"
    assert event.attributes == {
        "breaker.name": "stripe:create_intent",
        "breaker.state": "open",
        "breaker.generation": breaker.status.generation,
        "breaker.local": False,
    }


async def test_every_span_has_its_own_events(traces: _Traces, breaker: CircuitBreaker, clock: ManualClock) -> None:
    """A refused request has the refusal in its span, and the probe of the recovery the recovery."""
    with traces.tracer.start_as_current_span("the last before the outage"):
        await trip(breaker)
    with traces.tracer.start_as_current_span("refused"), pytest.raises(CallNotPermittedError):
        await breaker.call(works)
    assert traces.events == ["breaker.refused"]
    clock.advance(30)
    with traces.tracer.start_as_current_span("probe"):
        await breaker.call(works)
    assert traces.events == ["breaker.half_opened", "breaker.closed"]


async def test_a_refusal_says_why_in_the_span(traces: _Traces, breaker: CircuitBreaker) -> None:
    """So that an operator's word can be told from an outage; what is no refusal has no reason."""
    with traces.tracer.start_as_current_span("request"):
        await trip(breaker)
        with pytest.raises(CallNotPermittedError):
            await breaker.call(works)
    tripped, refused = (dict(event.attributes or {}) for event in traces.last.events)
    assert refused["breaker.refusal_reason"] == "open"
    assert "breaker.refusal_reason" not in tripped


async def test_a_breaker_can_be_described_in_the_span(traces: _Traces, breaker: CircuitBreaker) -> None:
    """The circuit's name, state and generation become attributes, as this replica knows them."""
    await trip(breaker)
    with traces.tracer.start_as_current_span("request"):
        set_span_attributes(breaker)
    assert traces.last.attributes == {
        "breaker.name": "stripe:create_intent",
        "breaker.state": "open",
        "breaker.generation": breaker.status.generation,
    }


def test_a_breaker_of_threads_can_be_described_in_the_span(traces: _Traces) -> None:
    """A worker's span tells of its circuit like any other."""
    with traces.tracer.start_as_current_span("job"):
        set_span_attributes(sync.CircuitBreaker("stripe:create_intent", sync.MemoryStore()))
    assert dict(traces.last.attributes or {})["breaker.state"] == "closed"


async def test_a_refusal_can_be_described_in_the_span(traces: _Traces, breaker: CircuitBreaker) -> None:
    """A refused request says why, and when to come back."""
    await trip(breaker)
    with traces.tracer.start_as_current_span("request"):
        with pytest.raises(CallNotPermittedError) as refused:
            await breaker.call(works)
        set_span_attributes(refused.value)
    assert traces.last.attributes == {
        "breaker.name": "stripe:create_intent",
        "breaker.state": "open",
        "breaker.generation": breaker.status.generation,
        "breaker.refusal_reason": "open",
        "breaker.retry_after_seconds": 30.0,
    }


async def test_a_span_that_has_ended_is_left_alone(traces: _Traces, breaker: CircuitBreaker) -> None:
    """A report that arrives after its request adds nothing, and the SDK has nothing to warn of."""
    event = BreakerEvent(kind=EventKind.CLOSED, name="c", state=State.CLOSED, generation=1)
    with traces.tracer.start_as_current_span("request") as span:
        span.end()
        add_span_event(event)
        set_span_attributes(breaker)
    assert (traces.events, dict(traces.last.attributes or {})) == ([], {})


async def test_without_a_span_nothing_happens(breaker: CircuitBreaker) -> None:
    """A program that traces nothing is guarded as ever."""
    await trip(breaker)
    set_span_attributes(breaker)
    assert breaker.status.state is State.OPEN
