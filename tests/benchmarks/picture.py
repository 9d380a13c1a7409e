"""Draws what a closed call costs, ours among the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.benchmarks.ours import RATE, WAITS, WAITS_MIRRORED
from tests.benchmarks.report import machine
from tests.benchmarks.subjects import Room, Subject
from tests.benchmarks.tables import in_order, number

_OURS, _THEIRS, _REFERENCE = "#0b6e99", "#b9c2c9", "#e4e7e9"
_TEXT, _QUIET_TEXT = "#1f2a30", "#66757f"
_TITLES = {
    Room.NONE: "for comparison",
    Room.PROCESS: "circuits in one process",
    Room.REDIS: "circuits shared by a fleet",
}

# Where the logarithmic axis begins and ends, microseconds.
_LEAST_US, _MOST_US = 0.02, 10_000

# These guard another call than all the others.
_ELSEWHERE = {WAITS, WAITS_MIRRORED}


def draw(subjects: list[Subject], path: Path) -> None:
    """Draw the picture; the same numbers give the same file."""
    rooms = [
        (room, [one for one in in_order(subjects) if one.room is room and one.name not in _ELSEWHERE]) for room in Room
    ]
    style: Any = {
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "text.color": _TEXT,
        "axes.edgecolor": _REFERENCE,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "figure.constrained_layout.w_pad": 0.12,
        "figure.constrained_layout.h_pad": 0.08,
        # The same picture from the same numbers: no random ids and no date.
        "svg.hashsalt": "switchgear",
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(9, 6.4), facecolor="white", layout="constrained")
        every = figure.subplots(len(rooms), 1, sharex=True, height_ratios=[len(there) for _, there in rooms])
        for axes, (room, there) in zip(every, rooms, strict=True):
            _draw_room(axes, room, there)
        every[-1].set_xlabel(f"microseconds for one closed call, logarithmic ({machine()})", color=_QUIET_TEXT)
        figure.suptitle("What a guarded call costs while all is well", x=0.015, ha="left", fontsize=14, weight="bold")
        figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_room(axes: Axes, room: Room, there: list[Subject]) -> None:
    places = range(len(there), 0, -1)
    axes.barh(places, [one.closed.median_us for one in there], color=[_color(one) for one in there], height=0.68)
    axes.set_yticks(places, [one.name for one in there])
    for label, one in zip(axes.get_yticklabels(), there, strict=True):
        label.set_color(_OURS if one.ours else _TEXT)
        label.set_fontweight("bold" if one.ours else "normal")
    for place, one in zip(places, there, strict=True):
        axes.text(
            one.closed.median_us * 1.12, place, _label(one), va="center", color=_OURS if one.ours else _QUIET_TEXT
        )
    axes.set_xscale("log")
    axes.set_xlim(_LEAST_US, _MOST_US)
    axes.set_title(_TITLES[room], loc="left", fontsize=10, color=_QUIET_TEXT)
    axes.tick_params(length=0)
    axes.tick_params(axis="x", which="both", labelcolor=_QUIET_TEXT, length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.grid(axis="x", color=_REFERENCE, linewidth=0.8)
    axes.set_axisbelow(True)


def _color(one: Subject) -> str:
    if one.ours:
        return _OURS
    return _REFERENCE if one.room is Room.NONE else _THEIRS


def _label(one: Subject) -> str:
    commands, cost = round(one.closed_commands or 0), f"{number(one.closed.median_us)} µs"
    if one.room is not Room.REDIS:
        return cost
    if one.name == RATE:
        return f"{cost}, one command for a batch of calls"
    return f"{cost}, {commands or 'no'} command{'s' if commands != 1 else ''}"
