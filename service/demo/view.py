"""The outage in the terminal: a live picture, or plain lines where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from service.demo.timeline import Mark, Outcome, Timeline

_BLOCKS = " ▁▂▃▄▅▆▇█"
_BIN_SECONDS = 0.25
_SHOWN_EVENTS = 9
_STYLES = {Outcome.CREATED: "green", Outcome.FAILED: "red", Outcome.REFUSED: "bright_black", Outcome.OTHER: "magenta"}
_STATE_STYLES = {"closed": "green", "open": "bold red", "half_open": "bold yellow"}
_MARK_STYLES = {Mark.BREAK: "red", Mark.HEAL: "green", Mark.TRIP: "bold red", Mark.PROBE: "yellow", Mark.CLOSE: "green"}


class View(Protocol):
    """Shows a timeline as far as it has come."""

    def update(self, timeline: Timeline) -> None:
        """Show what is new; called several times a second."""


@contextmanager
def open_view(console: Console) -> Iterator[View]:
    """Give the view that suits the console."""
    if not console.is_terminal:
        yield PlainView(console)
        return
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        yield LiveView(live)


class PlainView:
    """One line a second, and one for each event."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told_events = 0
        self._told_seconds = 0

    def update(self, timeline: Timeline) -> None:
        """Print the seconds that are over and the events that are new."""
        if not timeline.states:
            return
        for event in timeline.events[self._told_events :]:
            self._console.print(f"{event.at_seconds:5.1f} s  * {event.text}")
        self._told_events = len(timeline.events)
        while timeline.now_seconds >= self._told_seconds + 1:
            self._console.print(_one_line(timeline, self._told_seconds))
            self._told_seconds += 1


class LiveView:
    """A picture of the whole outage, drawn again and again."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def update(self, timeline: Timeline) -> None:
        """Draw it anew."""
        if not timeline.states:
            return
        self._live.update(Group(_graph(timeline, self._live.console.width), _replicas(timeline), _events(timeline)))


def _one_line(timeline: Timeline, begin_seconds: int) -> str:
    end_seconds = begin_seconds + 1
    counts = timeline.count(begin_seconds, end_seconds)
    answers = "  ".join(f"{outcome.short}: {counts[outcome]:2}" for outcome in Outcome)
    seen = ", ".join(f"{replica} {state}" for replica, state in sorted(timeline.seen_by.items()))
    provider = timeline.provider_count(begin_seconds, end_seconds)
    return f"{end_seconds:5.1f} s    {answers}   provider: {provider:2}   {seen}"


def _graph(timeline: Timeline, width: int) -> Table:
    """Draw one row of blocks for each kind of answer and for the provider's requests, newest at the right."""
    bins = max(20, width - 36)
    now = timeline.now_seconds
    first = max(0, int(now / _BIN_SECONDS) - bins)
    spans = [(number * _BIN_SECONDS, (number + 1) * _BIN_SECONDS) for number in range(first, first + bins)]
    counts = [timeline.count(*span) for span in spans]
    arrived = [timeline.provider_count(*span) for span in spans]
    last = timeline.count(now - 1, now)
    tallest = max(1, *(sum(count.values()) for count in counts), *arrived)
    table = Table.grid(padding=(0, 1))
    table.add_row("", Text("per second", style="dim"), Text(f"{now:.1f} s", style="dim"))
    for outcome in Outcome:
        bars = _bars([count[outcome] for count in counts], tallest)
        table.add_row(outcome.value, f"{last[outcome]:10}", Text(bars, style=_STYLES[outcome]))
    at_provider = f"{timeline.provider_count(now - 1, now):10}"
    table.add_row("at the provider", at_provider, Text(_bars(arrived, tallest), style="blue"))
    return table


def _bars(values: list[int], tallest: int) -> str:
    steps = len(_BLOCKS) - 1
    return "".join(_BLOCKS[-(-value * steps // tallest)] for value in values)


def _replicas(timeline: Timeline) -> Text:
    line = Text("\neach replica sees  ")
    for replica, state in sorted(timeline.seen_by.items()):
        line.append(f"{replica} ").append(f"{state}   ", style=_STATE_STYLES.get(state, ""))
    return line


def _events(timeline: Timeline) -> Text:
    lines = Text("\n")
    for event in timeline.events[-_SHOWN_EVENTS:]:
        lines.append(f"{event.at_seconds:5.1f} s  ", style="dim")
        lines.append(event.text + "\n", style=_MARK_STYLES.get(event.mark, ""))
    return lines
