"""The CSV files and `analysis.json`; numbers have the same format in all of them and on the page."""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from samvideo.analysis.blocks import Block
from samvideo.analysis.findings import Findings, ObjectSummary
from samvideo.analysis.intervals import Interval
from samvideo.analysis.mask_geometry import Floats
from samvideo.analysis.motion import Motion
from samvideo.analysis.settings import AnalysisSettings
from samvideo.io.base import Closing
from samvideo.io.files import writing
from samvideo.io.rle import IntArray

DIGITS = 3
LISTS = ("intervals", "visible_intervals", "idle_intervals")
OBJECT_COLUMNS = tuple(field.name for field in fields(ObjectSummary) if field.name not in LISTS)
STREAMED = {
    "frames.csv": "frame,seconds,object,visible,score,area,centroid_x,centroid_y,tip_x,tip_y,flag",
    "motion.csv": "frame,seconds,object,point,x,y,speed,acceleration,jerk",
    "distances.csv": "frame,seconds,object_a,object_b,distance,contact",
}


def format_number(value: float | int | str | None) -> str:
    """Format a number with at most three decimals; None and non-finite numbers are empty."""
    if value is None or isinstance(value, (str, int)):
        return "" if value is None else str(value)
    if not math.isfinite(value):
        return ""
    return f"{value:.{DIGITS}f}".rstrip("0").rstrip(".")


class TableWriter(Closing):
    """Writes `frames.csv`, `motion.csv` and `distances.csv` while the run is read; raises OutputError.

    Args:
        folder: an existing folder.
        scale: units of length per pixel.
    """

    def __init__(self, folder: Path, scale: float) -> None:
        self._folder, self._scale = folder, scale
        self._files: dict[str, IO[str]] = {}
        with ExitStack() as stack:
            for name, head in STREAMED.items():
                with writing(folder / name):
                    self._files[name] = stack.enter_context((folder / name).open("w", encoding="utf-8", newline=""))
                self._write(name, [head + "\n"])
            self._stack = stack.pop_all()

    def frames(self, block: Block, object_id: int, tip: Floats) -> None:
        """Write the rows of an object in a block; `tip` (N', 2) belongs to its masks there, in pixels."""
        rows = np.flatnonzero(block.object_ids == object_id)
        frames = block.mask_frames[rows]
        self._rows(
            "frames.csv",
            block.times.frames[frames],
            block.times.seconds[frames],
            np.full(len(rows), object_id),
            block.visible[rows].astype(int),
            block.scores[rows],
            block.measurements.area[rows] * self._scale**2,
            *(block.measurements.centroid[rows] * self._scale).T,
            *(tip * self._scale).T,
            block.flags[frames],
        )

    def motion(self, object_id: int, point: str, motion: Motion) -> None:
        """Write the smoothed motion of the `centroid` or `tip` of an object."""
        samples, count = motion.samples, len(motion.samples)
        which = np.full(count, object_id), np.full(count, point)
        derivatives = motion.speed, motion.acceleration, motion.jerk
        self._rows("motion.csv", samples.frames, samples.seconds, *which, *samples.points.T, *derivatives)

    def distances(
        self, block: Block, pair: tuple[int, int], frames: IntArray, distance: Floats, touch: float
    ) -> None:
        """Write the distances of a pair on `frames` of a block; distances up to `touch` are contact."""
        times = block.times.frames[frames], block.times.seconds[frames]
        ids = (np.full(len(frames), object_id) for object_id in pair)
        self._rows("distances.csv", *times, *ids, distance, (distance <= touch).astype(int))

    def _rows(self, name: str, *columns: NDArray[Any]) -> None:
        texts = ([format_number(value) for value in column.tolist()] for column in columns)
        self._write(name, [",".join(row) + "\n" for row in zip(*texts, strict=True)])

    def _write(self, name: str, lines: list[str]) -> None:
        with writing(self._folder / name):
            self._files[name].writelines(lines)

    def close(self) -> None:
        """Close the files."""
        with writing(self._folder):
            self._stack.close()


def write_tables(folder: Path, findings: Findings, settings: AnalysisSettings) -> None:
    """Write the short tables and `analysis.json`, with the same numbers. Raises OutputError."""
    heads = {
        "objects.csv": (OBJECT_COLUMNS, ([getattr(o, name) for name in OBJECT_COLUMNS] for o in findings.objects)),
        "intervals.csv": (
            ("kind", "object", "other", "label", *(field.name for field in fields(Interval)), "seconds"),
            _interval_rows(findings),
        ),
        "events.csv": (
            ("frame", "seconds", "event", "object", "other"),
            ([e.frame, e.seconds, e.event, e.object, e.other] for e in findings.events),
        ),
        "heatmap.csv": (("object", "row", "column", "x", "y", "seconds"), _heat_rows(findings, settings.scale)),
    }
    for name, (head, rows) in heads.items():
        with writing(folder / name), (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(head)
            writer.writerows([format_number(cell) for cell in row] for row in rows)
    with writing(folder / "analysis.json"):
        (folder / "analysis.json").write_text(
            json.dumps(tree_of(findings, settings), indent=1) + "\n", encoding="utf-8"
        )


def _interval_rows(findings: Findings) -> Iterator[list[Any]]:
    def rows(kind: str, one: Any, other: Any, label: str, parts: Sequence[Interval]) -> Iterator[list[Any]]:
        for part in parts:
            yield [kind, one, other, label, *asdict(part).values(), part.seconds]

    for entry in findings.objects:
        yield from rows("in view", entry.id, None, entry.label, entry.intervals)
        yield from rows("visible", entry.id, None, entry.label, entry.visible_intervals)
        yield from rows("idle", entry.id, None, entry.label, entry.idle_intervals)
    for pair in findings.pairs:
        yield from rows("contact", pair.a, pair.b, pair.kind, pair.intervals)
    for usage in findings.usage:
        yield from rows("usage", None, None, usage.label, usage.intervals)
    for flagged in findings.flagged:
        yield from rows("flagged", None, None, flagged.flag, flagged.intervals)


def _heat_rows(findings: Findings, scale: float) -> Iterator[list[Any]]:
    for number, heat in findings.charts.heat.items():
        cell = max(findings.size_wh) / max(heat.shape) * scale
        for row, column in np.argwhere(heat > 0).tolist():
            yield [number, row, column, (column + 0.5) * cell, (row + 0.5) * cell, float(heat[row, column])]


def tree_of(findings: Findings, settings: AnalysisSettings) -> dict[str, Any]:
    """Return the content of `analysis.json`; numbers are rounded as in the tables."""
    flat = ("source", "rate", "frames", "start_seconds", "end_seconds", "unit")
    chosen = {
        "labels": {str(number): label for number, label in sorted(settings.labels.items())},
        "tissue": sorted(settings.tissue),
        "bridge_seconds": settings.bridge,
        "contact_gap_px": settings.contact_gap,
        "idle_speed": findings.idle_speed,
        "idle_seconds": settings.idle_seconds,
        "smooth_seconds": settings.smooth,
        "mm_per_pixel": settings.mm_per_pixel,
    }
    tree = {
        "format": "samvideo-analysis-1",
        **{name: getattr(findings, name) for name in flat},
        "pictures_seen": findings.images_checked,
        "width": findings.size_wh[0],
        "height": findings.size_wh[1],
        "settings": chosen,
        "objects": [asdict(entry) for entry in findings.objects],
        "pairs": [asdict(pair) for pair in findings.pairs],
        "usage": [asdict(usage) for usage in findings.usage],
        "flagged": [asdict(flagged) for flagged in findings.flagged],
        "events": [asdict(event) for event in findings.events],
    }
    rounded: dict[str, Any] = _rounded(tree)
    return rounded


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(inner) for inner in value]
    return round(value, DIGITS) if isinstance(value, float) else value
