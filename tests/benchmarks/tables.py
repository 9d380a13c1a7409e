"""The tables of one run, as rows that the terminal and the page both show."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.benchmarks.fleet import CIRCUITS, IDLE_REPLICAS, REPLICAS
from tests.benchmarks.ours import MIRRORED, STRICT
from tests.benchmarks.peers import YARDSTICK
from tests.benchmarks.results import Results, percentile
from tests.benchmarks.subjects import Room, Subject

# The one other column that is text.
WHERE = "circuits in"


@dataclass(slots=True)
class Table:
    """One table.

    Attributes:
        columns: The first is text, as is `WHERE`; the others are numbers.
        rows: A cell for each column.
        marked: The numbers of the rows to point out.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    marked: set[int] = field(default_factory=set)

    def add(self, *cells: str, marked: bool = False) -> None:
        """Add a row."""
        if marked:
            self.marked.add(len(self.rows))
        self.rows.append(cells)


def tables(results: Results) -> list[Table]:
    """Make all of them."""
    return [_goals(results), _calls(results), _against_each(results), _fleet(results)]


def in_order(subjects: list[Subject]) -> list[Subject]:
    """Sort by room, and within a room by what a closed call costs."""
    return sorted(subjects, key=lambda one: (list(Room).index(one.room), one.closed.median_us))


def number(value: float) -> str:
    """Write a number with as many digits as mean something."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _goals(results: Results) -> Table:
    table = Table("Goals", ("goal", "measured", "at most", ""))
    for goal in results.goals():
        unit = f" {goal.unit}" if goal.unit else ""
        verdict = "met" if goal.met else "missed"
        # As many digits as it takes to see on which side of the limit it is.
        found, most = number(goal.measured), number(goal.limit)
        if found == most:
            found = f"{goal.measured:.4g}"
        table.add(goal.what, found + unit, most + unit, verdict, marked=not goal.met)
    for what, measured in results.asides():
        table.add(what, number(measured), "", "")
    return table


def _calls(results: Results) -> Table:
    table = Table(
        f"One guarded call that does nothing, with its ratio to {YARDSTICK} and the commands that reach Redis",
        ("", WHERE, "closed, µs", "ratio", "commands", "refused, µs", "ratio", "commands"),
    )
    yardstick = results.subject(YARDSTICK)
    for one in in_order(results.subjects):
        cells = [
            number(one.closed.median_us),
            number(one.closed.ratio_to(yardstick.closed)),
            _count(one.closed_commands),
        ]
        if one.refused is not None and yardstick.refused is not None:
            refused = one.refused
            cells += [
                number(refused.median_us),
                number(refused.ratio_to(yardstick.refused)),
                _count(one.refused_commands),
            ]
        else:
            cells += ["", "", ""]
        table.add(one.name, one.room, *cells, marked=one.ours)
    return table


def _against_each(results: Results) -> Table:
    table = Table(
        "Calls of this library as multiples of each other one's",
        ("", WHERE, "mirrored, closed", "mirrored, refused", "strict, closed", "strict, refused"),
    )
    mirrored, strict = results.subject(MIRRORED), results.subject(STRICT)
    for one in in_order([subject for subject in results.subjects if not subject.ours]):
        refused = [
            number(ours.refused.ratio_to(one.refused)) if ours.refused and one.refused else ""
            for ours in (mirrored, strict)
        ]
        closed = [number(ours.closed.ratio_to(one.closed)) for ours in (mirrored, strict)]
        table.add(one.name, one.room, closed[0], refused[0], closed[1], refused[1])
    return table


def _count(commands: float | None) -> str:
    # To a tenth, so that a breaker's background poll that happened to fall between the calls is not taken for theirs.
    return "" if commands is None else f"{round(commands, 1):g}"


def _fleet(results: Results) -> Table:
    table = Table("A fleet", ("", "measured"))
    trips, messages, many, silence = results.trips, results.messages, results.many, results.silence_seconds
    for what, count, delays in (
        (f"from a failure to each of {REPLICAS} replicas refusing", len(trips.last), trips.each),
        (f"from a failure to the last of {REPLICAS} replicas refusing", len(trips.last), trips.last),
        ("- disturbed ones as well", len(trips.last_of_all), trips.last_of_all),
        (f"from a bare PUBLISH to the last of {REPLICAS} idle processes", len(messages.last), messages.last),
        ("- disturbed ones as well", len(messages.last_of_all), messages.last_of_all),
    ):
        parts = " / ".join(number(percentile(delays, share)) for share in (0.5, 0.99, 1.0))
        table.add(f"{what}: p50 / p99 / max of {count:,}", f"{parts} ms")
    relied = f"{number(percentile(silence, 0.5))} / {number(silence[-1])} s"
    table.add(f"from a connection's silent death to asking Redis again: p50 / max of {len(silence)}", relied)
    table.add(f"commands in a second of {IDLE_REPLICAS} idle replicas", number(results.idle_commands))
    for state, taken in results.key_bytes.items():
        table.add(f"memory of one circuit's keys in Redis, {state}", f"{taken:,} B")
    table.add(f"memory in Redis for each of {CIRCUITS:,} circuits, subscription included", f"{many.redis_bytes:,.0f} B")
    table.add(f"memory in a replica for each of {CIRCUITS:,} circuits", f"{many.replica_bytes:,.0f} B")
    table.add(f"{CIRCUITS:,} circuits in one replica: all used once after", f"{number(many.first_use_seconds)} s")
    table.add(f"{CIRCUITS:,} circuits in one replica: all kept fresh after", f"{number(many.fresh_seconds)} s")
    closed = f"{number(many.closed_us)} / {number(many.one_closed_us)} µs"
    table.add("a closed call there: each to another circuit / always to the same", closed)
    return table
