"""What was observed while the outage was played: answers, provider requests, what each replica saw, and when."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    """How one request for a payment intent ended."""

    CREATED = "201 created"
    FAILED = "424 provider failed"
    REFUSED = "503 refused"
    OTHER = "other"

    @property
    def short(self) -> str:
        """The status alone."""
        return self.value.partition(" ")[0]

    @classmethod
    def of(cls, status: int | None) -> Outcome:
        """Return the outcome for an HTTP status; None means that no answer came."""
        return {201: cls.CREATED, 424: cls.FAILED, 503: cls.REFUSED}.get(status or 0, cls.OTHER)


class Mark(StrEnum):
    """What an event is about."""

    BREAK = "break"
    HEAL = "heal"
    TRIP = "trip"
    PROBE = "probe"
    CLOSE = "close"
    NOTE = "note"


class Event(NamedTuple):
    """Something worth telling, in words."""

    at_seconds: float
    mark: Mark
    text: str


class Band(NamedTuple):
    """A span in which the fleet's circuit had one state."""

    begin_seconds: float
    end_seconds: float
    state: str


@dataclass(slots=True)
class Timeline:
    """Everything observed, in seconds since the first request."""

    started_at: float = field(default_factory=time.monotonic)
    outcomes: list[tuple[float, Outcome]] = field(default_factory=list)
    provider_requests: list[tuple[float, int]] = field(default_factory=list)
    states: list[tuple[float, str]] = field(default_factory=list)
    seen_by: dict[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    probes: int = 0

    @property
    def now_seconds(self) -> float:
        """How long the play has been going on."""
        return time.monotonic() - self.started_at

    def add_event(self, mark: Mark, text: str) -> None:
        """Note that something happened now."""
        self.events.append(Event(self.now_seconds, mark, text))

    def at(self, mark: Mark) -> list[float]:
        """Return when events of this kind happened."""
        return [event.at_seconds for event in self.events if event.mark is mark]

    def bands(self, end_seconds: float) -> list[Band]:
        """Return the spans between the circuit's changes of state."""
        ends = [*(begin for begin, _ in self.states[1:]), end_seconds]
        return [Band(begin, end, state) for (begin, state), end in zip(self.states, ends, strict=True)]

    def count(self, begin_seconds: float, end_seconds: float) -> Counter[Outcome]:
        """Count the outcomes of a span."""
        return Counter(outcome for at, outcome in self.outcomes if begin_seconds <= at < end_seconds)

    def provider_count(self, begin_seconds: float, end_seconds: float) -> int:
        """Count the requests that reached the provider in a span."""
        return sum(arrived for at, arrived in self.provider_requests if begin_seconds <= at < end_seconds)
