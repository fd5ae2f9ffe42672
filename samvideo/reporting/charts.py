"""Charts as SVG text, drawn by matplotlib without pyplot: equal input gives equal bytes.

The SVG can go into an HTML page or into a file. It needs no script, no font file and no network. Text stays text,
so that it can be searched, selected and read aloud.
"""

import math
import re
import warnings
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4c9a", "#5f5f5f")
"""The palette of Okabe and Ito, which readers with colour vision deficiencies can distinguish."""

GREY, RED = "#888888", "#bb0000"
WIDTH = 9.0  # inches
TOP, BOTTOM, LEFT, RIGHT = 0.25, 0.25, 1.7, 0.3  # inches, margins of a chart with names on its left
TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # seconds between ticks
MOST_TICKS = 12  # at values of their own
LONGEST_NAME = 22  # characters that fit into the left margin
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 9.0,
    "axes.axisbelow": True,
    "axes.edgecolor": "#dddddd",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "grid.color": "#e4e4e4",
    "lines.linewidth": 1.3,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "legend.labelcolor": "linecolor",
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
}


class Dot(NamedTuple):
    """A method in the chart of accuracy against speed; published ones have no colour and are drawn hollow."""

    label: str
    fps: float
    percent: float
    colour: str = ""


class Series(NamedTuple):
    """A curve; `x` and `y` have equal lengths."""

    label: str
    colour: str
    x: ArrayLike
    y: ArrayLike


class TimelineRow(NamedTuple):
    """A row of a timeline: bars over `spans`, (start, end) in seconds, and pale ones over `pale` behind them."""

    label: str
    colour: str
    spans: Sequence[tuple[float, float]]
    pale: Sequence[tuple[float, float]] = ()


def accuracy_against_speed(title: str, dots: Sequence[Dot], ylabel: str) -> str:
    """Chart accuracy in percent against frames per second on a logarithmic axis; at least one dot."""
    percents = [dot.percent for dot in dots]
    middle = (min(percents) + max(percents)) / 2
    low, high = min(*percents, middle - 5) - 1, max(*percents, middle + 5) + 1  # a single dot needs a range too
    slowest = math.floor(math.log10(min(dot.fps for dot in dots)))
    fastest = max(math.ceil(math.log10(max(dot.fps for dot in dots))), slowest + 1)

    def plot(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=99))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set(xlim=(10.0**slowest, 10.0**fastest), ylim=(low, high), title=ylabel)
        axes.set_xlabel("frames per second in the tracker (log scale)")
        heights = [(percent - low) / (high - low) for percent in percents]
        for dot, height, row in zip(dots, heights, _separated(heights, 0.045), strict=True):
            x = (math.log10(dot.fps) - slowest) / (fastest - slowest)
            axes.plot([x, 1.02], [height, row], color="#cccccc", lw=0.8, transform=axes.transAxes)
            axes.plot(dot.fps, dot.percent, "o", mfc=dot.colour or "white", mec=dot.colour or GREY)
            weight, colour = ("bold", "black") if dot.colour else ("normal", "#666666")
            axes.text(1.03, row, dot.label, color=colour, weight=weight, va="center", transform=axes.transAxes)

    return _svg(plot, title, 4.2, left=0.6, right=2.4, bottom=0.45)


def bars_by_row(title: str, rows: Sequence[tuple[str, Sequence[float | None]]], colours: Sequence[str]) -> str:
    """Chart percentages as groups of horizontal bars, a group for each named row; a bar is left out for None."""
    bar = 0.13  # inches
    group = bar * len(colours) + 0.09
    middles = [(number + 0.5) * group for number in range(len(rows))]

    def plot(axes: Axes) -> None:
        axes.set(xlim=(0, 100), ylim=(max(len(rows), 1) * group, 0))
        axes.set_yticks(middles, [_shortened(name) for name, _ in rows])
        axes.grid(visible=False, axis="y")
        for number, colour in enumerate(colours):
            offset = (number - (len(colours) - 1) / 2) * bar
            given = [(y + offset, values[number]) for y, (_, values) in zip(middles, rows, strict=True)]
            for y, value in given:
                if value is not None:
                    axes.barh(y, value, height=0.85 * bar, color=colour)
                    axes.text(value + 0.6, y, f"{value:.1f}", fontsize=8, va="center_baseline")

    return _svg(plot, title, group * max(len(rows), 1) + TOP + BOTTOM)


def curves_from_zero(series: Sequence[Series], xlabel: str, ylabel: str) -> str:
    """Chart curves with a dot for each value; both axes start at 0."""

    def plot(axes: Axes) -> None:
        for curve in series:
            axes.plot(curve.x, curve.y, "o-", color=curve.colour, label=curve.label)
        axes.set(xlim=(0, None), ylim=(0, None), xlabel=xlabel, title=ylabel)
        values = np.unique(np.concatenate([np.asarray(curve.x) for curve in series]))
        if len(values) <= MOST_TICKS:
            axes.set_xticks(values)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(visible=False, axis="x")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))

    return _svg(plot, f"{ylabel} against {xlabel}", 4.0, left=0.6, right=2.6, bottom=0.45)


def scores_over_frames(title: str, series: Sequence[Series], count: int, marked: Sequence[int]) -> str:
    """Chart scores from 0 to 1 over the `count` frames of a sequence, with vertical lines at `marked` frames."""

    def plot(axes: Axes) -> None:
        for frame in marked:
            axes.axvline(frame, color=RED, lw=0.8)
            axes.text(frame, 1.02, f"{frame}", color=RED, fontsize=8, ha="center")
        for curve in series:
            axes.plot(curve.x, curve.y, color=curve.colour, label=curve.label)
        axes.set(xlim=(0, max(count - 1, 1)), ylim=(0, 1), xticks=range(0, count, max(1, count // 8)))
        axes.grid(visible=False, axis="x")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))

    return _svg(plot, title, 1.9, left=0.4, right=2.0)


def timeline(title: str, rows: Sequence[TimelineRow], span: tuple[float, float]) -> str:
    """Chart when things happen as bars over time, from `span[0]` to `span[1]` seconds; rows from top to bottom."""
    shortest = 0.001 * (span[1] - span[0])  # seconds; a shorter bar is invisible

    def plot(axes: Axes) -> None:
        axes.set_ylim(max(len(rows), 1), 0)
        axes.set_yticks([number + 0.5 for number in range(len(rows))], [_shortened(row.label) for row in rows])
        axes.grid(visible=False, axis="y")
        _set_time_axis(axes, span)
        for number, row in enumerate(rows):
            for spans, opacity in ((row.pale, 0.3), (row.spans, 1.0)):
                bars = [(start, max(end - start, shortest)) for start, end in spans]
                axes.broken_barh(bars, (number + 0.15, 0.7), color=row.colour, alpha=opacity, lw=0)

    return _svg(plot, title, 0.25 * max(len(rows), 1) + TOP + BOTTOM)


def value_over_time(curve: Series, unit: str, span: tuple[float, float], level: float | None = None) -> str:
    """Chart a value from 0 over time.

    Args:
        curve: values over seconds, interrupted where they are NaN; its label becomes the title.
        unit: of the values.
        span: start and end in seconds.
        level: drawn as a dashed line.
    """
    x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
    known = np.pad(~np.isnan(y), 1)
    alone = known[1:-1] & ~known[:-2] & ~known[2:]  # a line of one point is invisible

    def plot(axes: Axes) -> None:
        axes.plot(x, y, color=curve.colour)
        axes.plot(x[alone], y[alone], "o", color=curve.colour, ms=2)
        if level is not None:
            axes.axhline(level, color=GREY, lw=0.8, ls="--")
        highest = max(np.nanmax(y, initial=0), level or 0)
        axes.set(ylim=(0, 1.05 * highest or 1), ylabel=unit)
        axes.yaxis.set_major_formatter("{x:g}")
        _set_time_axis(axes, span)

    return _svg(plot, curve.label, 1.6)


def format_time(seconds: float, step: float = 1.0) -> str:
    """Format a time as 2.5 s, 1:05 or 1:02:03; for a `step` of a minute or more never as seconds."""
    if seconds < 60 and step < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _svg(
    plot: Callable[[Axes], None],
    title: str,
    height: float,
    *,
    left: float = LEFT,
    right: float = RIGHT,
    bottom: float = BOTTOM,
) -> str:
    """Return the `<svg>` element of a figure with these margins (inches), whose axes `plot` fills.

    The title is read by screen readers, and keeps the ids of different charts on one page different.
    """
    text = StringIO()
    style: dict[Any, Any] = {**STYLE, "svg.hashsalt": title}
    with rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the reader's fonts may have it
        figure = Figure(figsize=(WIDTH, height))
        size = (WIDTH - left - right) / WIDTH, (height - TOP - bottom) / height
        axes = figure.add_axes((left / WIDTH, bottom / height, *size))
        plot(axes)
        for artist in axes.findobj():  # all limits contain the data, and every clip path is one more element and id
            artist.set_clip_on(False)
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=no_metadata)
    _, _, element = text.getvalue().partition("<svg")
    element = re.sub(r'<g id="[^"]*"', "<g", element)  # nothing refers to them, and they repeat in every chart
    return f'<svg role="img" aria-label={quoteattr(title)}{element}'


def _separated(heights: Sequence[float], distance: float) -> list[float]:
    """Lower some heights, so that labels there are at least `distance` from each other."""
    rows = list(heights)
    above = math.inf
    for number in sorted(range(len(rows)), key=lambda number: -rows[number]):
        above = rows[number] = min(rows[number], above - distance)
    return rows


def _set_time_axis(axes: Axes, span: tuple[float, float]) -> None:
    start, end = span
    hours = 3600 * math.ceil((end - start) / 9 / 3600)
    step = next((step for step in TIME_STEPS if (end - start) / step <= 9), hours)
    ticks = np.arange(math.ceil(start / step - 1e-9), math.floor(end / step + 1e-9) + 1) * step
    axes.set_xlim(start, max(end, start + 1e-9))
    axes.set_xticks(ticks, [format_time(tick, step) for tick in ticks.tolist()])


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
