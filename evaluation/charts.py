"""The report's drawings, as SVG text: no script, no font, nothing to load."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4c9a", "#5f5f5f")
"""Okabe and Ito's, which readers who see colours differently tell apart; a run keeps its colour in all drawings."""


class Dot(NamedTuple):
    """A method in the drawing of accuracy against speed; `colour` empty for published ones, drawn hollow."""

    label: str
    fps: float
    percent: float
    colour: str = ""


def _svg(width: float, height: float, parts: list[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" aria-label="{escape(title)}" '
        f'font-size="12" fill="#333">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#ddd") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def scatter(dots: Sequence[Dot], ylabel: str) -> str:
    """Accuracy in percent against frames per second, the latter on a logarithmic scale."""
    width, height, left, right, top, bottom = 860, 400, 56, 220, 30, 44
    low, high = min(dot.percent for dot in dots), max(dot.percent for dot in dots)
    low, high = min(low, (low + high) / 2 - 5), max(high, (low + high) / 2 + 5)  # a lone dot needs a scale too
    step = next(s for s in (1, 2, 5, 10, 20) if (high - low) / s <= 8)
    low, high = math.floor(low / step - 0.5) * step, math.ceil(high / step + 0.5) * step
    slowest = math.floor(math.log10(min(dot.fps for dot in dots)))
    fastest = max(math.ceil(math.log10(max(dot.fps for dot in dots))), slowest + 1)

    def x(fps: float) -> float:
        return left + (math.log10(fps) - slowest) / (fastest - slowest) * (width - left - right)

    def y(percent: float) -> float:
        return height - bottom - (percent - low) / (high - low) * (height - top - bottom)

    parts = []
    for percent in range(low, high + 1, step):
        parts += [
            _line(left, y(percent), width - right, y(percent)),
            _text(left - 6, y(percent) + 4, f"{percent}", "end"),
        ]
    for power in range(slowest, fastest + 1):
        for factor in (1, 2, 5) if power < fastest else (1,):
            place = x(factor * 10**power)
            parts += [_line(place, top, place, height - bottom, "#eee")]
            parts += [_text(place, height - bottom + 16, f"{factor * 10**power:g}", "middle")]
    parts += [
        _text((left + width - right) / 2, height - 6, "frames per second in the tracker (log scale)", "middle")
    ]
    parts += [_text(8, 12, ylabel)]
    for dot, offset in zip(dots, _label_rows([y(dot.percent) for dot in dots], 13), strict=True):
        fill, stroke = (dot.colour, dot.colour) if dot.colour else ("#fff", "#888")
        parts.append(
            f'<circle cx="{x(dot.fps):.1f}" cy="{y(dot.percent):.1f}" r="5" fill="{fill}" stroke="{stroke}"/>'
        )
        weight = 'font-weight="bold"' if dot.colour else 'fill="#777"'
        parts += [_line(x(dot.fps) + 6, y(dot.percent), width - right + 8, offset, "#ccc")]
        parts += [_text(width - right + 12, offset + 4, dot.label, extra=weight)]
    return _svg(width, height, parts, "accuracy against speed")


def _label_rows(places: list[float], distance: float) -> list[float]:
    """Heights for labels near their dots that do not cover each other."""
    rows = list(places)
    order = sorted(range(len(places)), key=lambda k: places[k])
    for before, after in pairwise(order):
        rows[after] = max(rows[after], rows[before] + distance)
    return rows


def bars(rows: Sequence[tuple[str, Sequence[float | None]]], colours: Sequence[str]) -> str:
    """For each row (a sequence) one bar per run, in percent."""
    thick, gap, left, width = 12, 8, 190, 860
    each = thick * len(colours) + gap
    height, scale = each * len(rows) + 30, (width - left - 60) / 100
    parts = []
    for percent in range(0, 101, 20):
        place = left + percent * scale
        parts += [_line(place, 0, place, height - 22), _text(place, height - 6, f"{percent}", "middle")]
    for number, (name, values) in enumerate(rows):
        top = number * each + gap / 2
        parts.append(_text(left - 8, top + (each - gap) / 2 + 4, name, "end"))
        for run, (value, colour) in enumerate(zip(values, colours, strict=True)):
            if value is None:
                continue
            place = top + run * thick
            parts.append(
                f'<rect x="{left}" y="{place:.1f}" width="{value * scale:.1f}" height="{thick - 2}" '
                f'fill="{colour}"/>'
            )
            parts.append(_text(left + value * scale + 5, place + thick - 3, f"{value:.1f}", extra='font-size="11"'))
    return _svg(width, height, parts, "scores by sequence")


def lines(
    curves: Mapping[str, tuple[Sequence[int], Sequence[float], str]], length: int, marks: Sequence[int]
) -> str:
    """J over time: for each label the frame indices, values and colour; `marks` are frames shown as thumbnails."""
    width, height, left, right, top, bottom = 860, 170, 40, 130, 10, 26

    def x(index: int) -> float:
        return left + index / max(length - 1, 1) * (width - left - right)

    def y(value: float) -> float:
        return top + (1 - value) * (height - top - bottom)

    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        parts += [
            _line(left, y(value), width - right, y(value)),
            _text(left - 5, y(value) + 4, f"{value:g}", "end"),
        ]
    for index in marks:
        parts += [
            _line(x(index), top, x(index), height - bottom, "#b00"),
            _text(x(index), top + 8, f"{index}", extra='fill="#b00"'),
        ]
    for index in range(0, length, max(1, length // 8)):
        parts.append(_text(x(index), height - 8, str(index), "middle"))
    ends = [y(values[-1]) for _, values, _ in curves.values()]
    for (label, (indices, values, colour)), row in zip(curves.items(), _label_rows(ends, 13), strict=True):
        points = " ".join(f"{x(k):.1f},{y(v):.1f}" for k, v in zip(indices, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(_text(width - right + 6, row + 4, label, extra=f'fill="{colour}"'))
    return _svg(width, height, parts, "J over time")


def standalone(svg: str) -> str:
    """A drawing as a file of its own, on white."""
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="background:#fff" ', 1) + "\n"


def curve(curves: Mapping[str, Sequence[tuple[float, float]]], xlabel: str, ylabel: str) -> str:
    """A line with dots per label through its (x, y), both from 0."""
    width, height, left, right, top, bottom = 860, 380, 56, 240, 30, 44
    longest = max(x for points in curves.values() for x, _ in points)
    highest = max(y for points in curves.values() for _, y in points)
    step = _round_step(highest / 6)
    ceiling = math.ceil(highest / step) * step

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point
        return left + x / longest * (width - left - right), height - bottom - y / ceiling * (height - top - bottom)

    parts = [_text(8, 12, ylabel), _text((left + width - right) / 2, height - 6, xlabel, "middle")]
    for count in range(round(ceiling / step) + 1):
        _, level = place((0, count * step))
        parts += [_line(left, level, width - right, level), _text(left - 6, level + 4, f"{count * step:g}", "end")]
    for x in sorted({x for points in curves.values() for x, _ in points}):
        across, _ = place((x, 0))
        parts.append(_text(across, height - bottom + 16, f"{x:g}", "middle"))
    ends = [place(points[-1])[1] for points in curves.values()]
    for number, ((label, points), row) in enumerate(zip(curves.items(), _label_rows(ends, 14), strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        places = [place(point) for point in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places]
        parts.append(_text(width - right + 14, row + 4, label, extra=f'fill="{colour}"'))
    return _svg(width, height, parts, f"{ylabel} against {xlabel}")


def _round_step(least: float) -> float:
    """The next of 1, 2, 5, 10, ... in any decade."""
    decade = 10 ** math.floor(math.log10(least))
    return next(factor * decade for factor in (1, 2, 5, 10) if factor * decade >= least)
