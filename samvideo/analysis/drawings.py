"""The page's drawings: SVG text and embedded pictures; no script, no font, nothing to load."""

import base64
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import cv2
import numpy as np

from samvideo.analysis.intervals import Interval
from samvideo.analysis.shapes import Floats
from samvideo.render import object_colour
from samvideo.types import UInt8Array

WIDTH, LEFT, RIGHT = 900, 150, 20
GREY = "#888"
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # seconds between marks


class Row(NamedTuple):
    """One line of a timeline: bars where `intervals` are; `faint` ones lie behind them."""

    label: str
    colour: str
    intervals: Sequence[Interval]
    faint: Sequence[Interval] = ()


def colour_of(object_id: int) -> str:
    """The hue that the overlay gives the object, dark enough for lines on white paper."""
    return "#" + "".join(f"{round(0.78 * channel):02x}" for channel in object_colour(object_id))


def clock_of(seconds: float, step: float = 1.0) -> str:
    """A time as people write it: 2.5, 1:05, 1:02:03."""
    if seconds < 60 and step < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _svg(height: float, parts: list[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}" font-size="12" '
        f'fill="#222">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


class _Time:
    """The horizontal axis."""

    def __init__(self, span: tuple[float, float]) -> None:
        self.start, self.end = span
        self._scale = (WIDTH - LEFT - RIGHT) / max(self.end - self.start, 1e-9)
        self.step = next((s for s in STEPS if (self.end - self.start) / s <= 9), STEPS[-1])

    def x(self, seconds: float) -> float:
        return LEFT + (seconds - self.start) * self._scale

    def marks(self, top: float, bottom: float) -> list[str]:
        parts = []
        place = abs(np.ceil(self.start / self.step - 1e-9)) * self.step
        while place <= self.end + 1e-9:
            x = self.x(place)
            parts.append(f'<line x1="{x:.1f}" y1="{top:g}" x2="{x:.1f}" y2="{bottom:g}" stroke="#ddd"/>')
            parts.append(_text(x, bottom + 15, clock_of(place, self.step), "middle"))
            place += self.step
        return parts


def timeline(rows: Sequence[Row], span: tuple[float, float], title: str) -> str:
    """Bars over time, a line for each row."""
    each, time = 24, _Time(span)
    bottom = each * len(rows) + 4
    parts = time.marks(0, bottom)
    for number, row in enumerate(rows):
        top = number * each + 4
        parts.append(_text(LEFT - 8, top + 13, row.label[:22], "end"))
        for intervals, opacity in ((row.faint, 0.3), (row.intervals, 1.0)):
            for part in intervals:
                x, width = time.x(part.start_seconds), time.x(part.end_seconds) - time.x(part.start_seconds)
                parts.append(
                    f'<rect x="{x:.1f}" y="{top}" width="{max(width, 0.8):.1f}" height="{each - 7}" '
                    f'fill="{row.colour}" fill-opacity="{opacity}"/>'
                )
    return _svg(bottom + 22, parts, title)


def curve(
    points: tuple[Floats, Floats], span: tuple[float, float], unit: str, colour: str, level: float | None = None
) -> str:
    """A curve over time, broken where there is nothing; `level` is drawn as a dashed line."""
    height, top, time = 130, 14, _Time(span)
    values = points[1][~np.isnan(points[1])]
    high = max(float(values.max(initial=0)), level or 0.0) or 1.0
    step = _round_step(high)
    high = step * np.ceil(high / step)

    def y(value: float) -> float:
        return height - (value / high) * (height - top)

    parts = time.marks(top, height)
    for value in np.arange(0, high + step / 2, step):
        parts.append(
            f'<line x1="{LEFT}" y1="{y(value):.1f}" x2="{WIDTH - RIGHT}" y2="{y(value):.1f}" stroke="#eee"/>'
        )
        parts.append(_text(LEFT - 6, y(value) + 4, f"{value:g}", "end"))
    parts.append(_text(8, height / 2, unit))
    if level is not None:
        parts.append(
            f'<line x1="{LEFT}" y1="{y(level):.1f}" x2="{WIDTH - RIGHT}" y2="{y(level):.1f}" stroke="{GREY}" '
            'stroke-dasharray="4 4"/>'
        )
    known = ~np.isnan(points[1])
    for part in np.split(np.arange(len(known)), np.flatnonzero(np.diff(known)) + 1):
        if len(part) and known[part[0]]:
            pairs = " ".join(f"{time.x(points[0][k]):.1f},{y(points[1][k]):.1f}" for k in part)
            parts.append(
                f'<polyline points="{pairs}" fill="none" stroke="{colour}" stroke-width="1.6" '
                'stroke-linecap="round"/>'
            )
    return _svg(height + 22, parts, unit)


def _round_step(high: float) -> float:
    """A round number, three to six of which make the height."""
    power = 10 ** np.floor(np.log10(high))
    return float(next(s * power for s in (0.2, 0.5, 1, 2) if high / (s * power) <= 5))


def heat_picture(heat: Floats, size_wh: tuple[int, int], picture: UInt8Array | None) -> str:
    """The heat map over a greyed picture of the video, as an embedded JPEG; `heat` (rows, columns)."""
    width = min(640, max(size_wh))
    height = max(1, round(size_wh[1] * width / size_wh[0]))
    ground = np.full((height, width, 3), 235, np.uint8)
    if picture is not None:
        grey = cv2.cvtColor(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        ground = cv2.cvtColor((110 + 0.5 * grey).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    cell = max(size_wh) / max(heat.shape) * width / size_wh[0]
    smooth = cv2.GaussianBlur(heat, (0, 0), 0.8)
    shape = round(heat.shape[1] * cell), round(heat.shape[0] * cell)
    large = cv2.resize(smooth, shape, interpolation=cv2.INTER_CUBIC)[:height, :width]
    large = np.pad(large, ((0, height - large.shape[0]), (0, width - large.shape[1])))
    # The square root shows where it was seldom too.
    strength = np.sqrt(np.clip(large / max(float(large.max()), 1e-9), 0, 1))
    colours = cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = np.clip(1.6 * strength, 0, 0.9)[..., None]
    return embedded((ground * (1 - weight) + colours * weight).astype(np.uint8), "where it worked")


def embedded(rgb: UInt8Array, title: str) -> str:
    """A picture inside the page."""
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    return f'<img alt="{escape(title)}" src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}">'
