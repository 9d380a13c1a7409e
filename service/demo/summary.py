"""What the outage has shown, in numbers."""

from __future__ import annotations

from collections import Counter

from service.demo.timeline import Mark, Outcome, Timeline


def summary(timeline: Timeline) -> str:
    """Sum up a played outage."""
    counts = Counter(outcome for _, outcome in timeline.outcomes)
    broken, healed = timeline.at(Mark.BREAK)[0], timeline.at(Mark.HEAL)[-1]
    tripped, closed = timeline.at(Mark.TRIP)[0], timeline.at(Mark.CLOSE)[-1]
    answers = ", ".join(f"{outcome.value} {counts[outcome]}" for outcome in Outcome)
    probes = len(timeline.at(Mark.PROBE))
    return f"""
{len(timeline.outcomes)} requests were answered: {answers}.
The provider broke after {broken:.1f} s; {tripped - broken:.2f} s later the whole fleet refused.
While the circuit was open, {counts[Outcome.REFUSED]} requests were refused at once, and {timeline.probes} reached the \
provider, in {probes} probes: one after each cooldown.
The provider healed after {healed:.1f} s; {closed - healed:.1f} s later a probe closed the circuit."""
