"""Shows the tables in the terminal and writes them to a page."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import rich.table
from rich.console import Console

from tests.benchmarks.tables import WHERE, Table
from tests.benchmarks.timing import ROUNDS

_WIDTH = 120

_PREAMBLE = """\
`make bench` wrote this page and its picture ({machine}; the server and every replica on that one machine).
Microseconds belong to it; read the ratios. Every row takes its turn in every round, and a ratio is the median of what
the rounds gave, so it need not be that of the two medians beside it. Rows of this library, and goals that are not met,
are bold. Breakers are used as their decorators, those without asyncio as ordinary functions; the bare EVALSHA is the
very command that a strict call sends, over the driver as it comes. What a refused call is for no breaker is one that
raises an exception by itself. A trip or a message is undisturbed if, until all had seen it, the host of this virtual
machine took no processor time away from it (what the kernel calls stolen), and a fixed piece of work took no more than
twice its usual processor time before, in the midst of it and after (a neighbour can have the caches for longer than a
trip takes): nothing that a breaker could mend. The rows below show both."""

# Where another page shows the first table.
_BEGINS, _ENDS = "<!-- make bench writes from here -->", "<!-- to here -->"


def machine() -> str:
    """Say what matters about the machine, and nothing that identifies it."""
    version = ".".join(platform.python_version_tuple()[:2])
    return f"{os.cpu_count()} cores, {platform.python_implementation()} {version}"


def show(tables: list[Table]) -> None:
    """Print the tables, wide enough where the terminal is: half a number is no number."""
    console = Console(width=max(_WIDTH, Console().width))
    for table in tables:
        shown = rich.table.Table(title=table.title, title_justify="left", title_style="bold")
        for place, column in enumerate(table.columns):
            shown.add_column(column, no_wrap=True, justify="right" if place and column != WHERE else "left")
        for place, row in enumerate(table.rows):
            shown.add_row(*row, style="bold" if place in table.marked else None)
        console.print()
        console.print(shown)
    console.print(f"\n{machine()}; medians of {ROUNDS} rounds. Read the ratios, not the microseconds.")


def write(tables: list[Table], path: Path, picture: Path) -> None:
    """Write the page."""
    parts = [
        "# What it costs, as measured",
        _PREAMBLE.format(machine=machine()),
        f"![What a closed call costs]({picture.name})",
    ]
    for table in tables:
        parts += [f"## {table.title}", _markdown(table)]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def insert(table: Table, path: Path) -> None:
    """Bring a table on another page up to date."""
    before, _, rest = path.read_text(encoding="utf-8").partition(_BEGINS)
    _, mark, after = rest.partition(_ENDS)
    assert mark, f"{path.name} has no place for a table"
    path.write_text(f"{before}{_BEGINS}\n\n{_markdown(table)}\n\n{_ENDS}{after}", encoding="utf-8")


def _markdown(table: Table) -> str:
    rules = ["---" if not place or column == WHERE else "---:" for place, column in enumerate(table.columns)]
    rows = [table.columns, tuple(rules)]
    for place, row in enumerate(table.rows):
        rows.append(tuple(f"**{cell}**" if cell and place in table.marked else cell for cell in row))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
