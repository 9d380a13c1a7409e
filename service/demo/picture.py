"""The timeline as a picture."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from service.demo.timeline import Mark, Outcome, Timeline

_BIN_SECONDS = 0.25
_INK, _QUIET = "#1f2933", "#52606d"
# Told apart by people who see colours differently (Okabe and Ito), and in print.
_COLOURS = {
    Outcome.CREATED: "#009e73",
    Outcome.FAILED: "#d55e00",
    Outcome.REFUSED: "#9aa5b1",
    Outcome.OTHER: "#cc79a7",
}
_BANDS = {"closed": "#ffffff", "open": "#fdecea", "half_open": "#fff4c2"}
# A probe's name stands left of its line, because the circuit often closes at once.
_MARKS = {
    Mark.TRIP: ("trip", "left", "#b42318"),
    Mark.PROBE: ("probe", "right", "#9a6700"),
    Mark.CLOSE: ("close", "left", "#00664b"),
}
_BROKEN_COLOUR = "#b42318"
_PROVIDER_COLOUR = "#0072b2"


def save_picture(timeline: Timeline, path: Path) -> None:
    """Draw the timeline into a file; its suffix says how (`.svg`, `.png`)."""
    end_seconds = timeline.outcomes[-1][0] // _BIN_SECONDS * _BIN_SECONDS
    style: Any = {
        "font.size": 10,
        "font.family": "DejaVu Sans",
        "text.color": _INK,
        "axes.edgecolor": _QUIET,
        "axes.labelcolor": _INK,
        "xtick.color": _QUIET,
        "ytick.color": _QUIET,
        "axes.spines.top": False,
        "axes.spines.right": False,
        # The same picture from the same run: no random ids and no date.
        "svg.hashsalt": "switchgear",
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(10, 5.2), facecolor="white", layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        for axes in (top, bottom):
            _draw_bands(axes, timeline, end_seconds)
        _draw_outcomes(top, timeline, end_seconds)
        _draw_provider(bottom, timeline, end_seconds)
        _draw_fault(bottom, timeline, end_seconds)
        _draw_marks(top, bottom, timeline)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=100, metadata=metadata)


def _edges(end_seconds: float) -> list[float]:
    return [number * _BIN_SECONDS for number in range(int(end_seconds / _BIN_SECONDS) + 1)]


def _draw_bands(axes: Axes, timeline: Timeline, end_seconds: float) -> None:
    for band in timeline.bands(end_seconds):
        axes.axvspan(
            band.begin_seconds, band.end_seconds, color=_BANDS.get(band.state, "#ffffff"), linewidth=0, zorder=0
        )


def _draw_outcomes(axes: Axes, timeline: Timeline, end_seconds: float) -> None:
    edges = _edges(end_seconds)
    counts = [timeline.count(begin, end) for begin, end in pairwise(edges)]
    floor = [0.0] * len(counts)
    shown = [outcome for outcome in Outcome if any(count[outcome] for count in counts)]
    for outcome in shown:
        top = [low + count[outcome] / _BIN_SECONDS for low, count in zip(floor, counts, strict=True)]
        axes.stairs(top, edges, baseline=floor, fill=True, color=_COLOURS[outcome], linewidth=0, zorder=2)
        floor = top
    axes.set_ylim(0, max(floor) * 1.25)
    axes.set_ylabel("answers per second")
    patches = [Patch(color=_COLOURS[outcome], label=outcome.value) for outcome in shown]
    patches.append(Patch(facecolor=_BANDS["open"], edgecolor="#e0b4b0", label="circuit open"))
    axes.legend(handles=patches, loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=len(patches), frameon=False)


def _draw_provider(axes: Axes, timeline: Timeline, end_seconds: float) -> None:
    edges = _edges(end_seconds)
    heights = [timeline.provider_count(begin, end) / _BIN_SECONDS for begin, end in pairwise(edges)]
    axes.stairs(heights, edges, fill=True, color=_PROVIDER_COLOUR, linewidth=0, zorder=2)
    axes.set_ylim(0, max(1.0, *heights) * 1.2)
    axes.set_ylabel("at the\nprovider")
    axes.set_xlabel("seconds")
    axes.set_xlim(0, end_seconds)


def _draw_fault(axes: Axes, timeline: Timeline, end_seconds: float) -> None:
    """Say above the provider's requests how long it was broken."""
    height = axes.get_ylim()[1] * 0.86
    begin, end, *_ = (*timeline.at(Mark.BREAK), *timeline.at(Mark.HEAL), end_seconds)
    axes.plot((begin, end), (height, height), color=_BROKEN_COLOUR, linewidth=3, solid_capstyle="butt", zorder=4)
    axes.text(begin + 0.5, height * 0.93, "the provider answers 500", color=_BROKEN_COLOUR, va="top", zorder=4)


def _draw_marks(top: Axes, bottom: Axes, timeline: Timeline) -> None:
    ceiling = top.get_ylim()[1]
    for mark, (label, side, colour) in _MARKS.items():
        for at in timeline.at(mark):
            for axes in (top, bottom):
                axes.axvline(at, color=colour, linewidth=1, linestyle=(0, (4, 3)), zorder=3)
            shift = 4 if side == "left" else -4
            top.annotate(label, (at, ceiling), (shift, -12), textcoords="offset points", color=colour, ha=side)
