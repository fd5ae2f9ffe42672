"""The per-frame results of a run that was saved as a table only: `tracks.csv`."""

import csv
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, islice
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from samvideo.errors import VideoError
from samvideo.io.rle import MAX_PIXELS
from samvideo.io.schema import first_fault, read_json
from samvideo.io.tracks import (
    Area,
    FrameRecord,
    Index,
    Label,
    Number,
    ObjectId,
    ObjectRecord,
    Place,
    TracksFile,
    in_order,
    labels_in,
    open_masks,
)
from samvideo.types import VideoInfo


@dataclass(frozen=True, slots=True)
class _RunSettings:
    renumbered: bool = False


@dataclass(frozen=True, slots=True)
class _Run:
    """The part of `run.json` that is read here."""

    settings: _RunSettings


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the table; an object without pixels has neither box nor centroid."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)
    frame: Index
    seconds: Number
    object: ObjectId
    present: bool
    score: Number
    area: Area
    x1: Place | None
    y1: Place | None
    x2: Place | None
    y2: Place | None
    centroid_x: Place | None
    centroid_y: Place | None
    label: Label | None = None

    def __post_init__(self) -> None:
        places = self.x1, self.centroid_x, self.x2, self.y1, self.centroid_y, self.y2
        if self.area == 0 and set(places) == {None}:
            return
        x1, x, x2, y1, y, y2 = (-1.0 if place is None else place for place in places)
        if self.area == 0 or not 0 <= x1 <= x <= x2 or not 0 <= y1 <= y <= y2:
            raise ValueError("an object with pixels has a box with the centroid inside, another one has neither")

    def entry(self) -> ObjectRecord:
        """Return what the row says of its object."""
        x1, y1, x2, y2 = (side or 0.0 for side in (self.x1, self.y1, self.x2, self.y2))
        centroid = None
        if self.centroid_x is not None and self.centroid_y is not None:
            centroid = self.centroid_x, self.centroid_y
        bbox = x1, y1, x2 - x1, y2 - y1
        return ObjectRecord(self.object, self.present, self.score, self.area, bbox, {}, centroid, self.label)


_RUN, _ROW = TypeAdapter(_Run), TypeAdapter(_Row)


class TracksTable:
    """A run's `tracks.csv`: positions and areas without masks; every iteration reads it from the start.

    Its `info` is named after the folder. The table does not contain the frame size, so the largest extent of a box
    is used; the rate is that of the first two frames.

    Raises:
        VideoError: no such table; while iterating, a row is not valid.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        start = list(islice(self, 2))
        extent = [1.0, 1.0]
        for frame in self:
            for entry in frame.objects:
                x, y, width, height = entry.bbox_xywh
                extent = [max(extent[0], x + width), max(extent[1], y + height)]
        size = math.ceil(extent[0]), math.ceil(extent[1])
        if size[0] * size[1] > MAX_PIXELS:
            raise VideoError(f"{path}: boxes reach to {size}: at most {MAX_PIXELS} pixels expected")
        rate = Fraction(25)
        if len(start) == 2 and start[1].seconds > start[0].seconds:
            passed = (start[1].index - start[0].index) / (start[1].seconds - start[0].seconds)
            if not 1e-6 < passed < 1e8:
                raise VideoError(f"{path}: {passed:g} frames per second at its start: times in seconds expected")
            rate = Fraction(passed).limit_denominator(1001) if passed > 1 else Fraction(round(1e6 * passed), 10**6)
        renumbered = _is_renumbered(path.with_name("run.json"))
        self.info = VideoInfo(path.parent.resolve().name, size, rate, renumbered=renumbered)

    def __iter__(self) -> Iterator[FrameRecord]:
        return in_order(self._frames(), self.path)

    def labels(self) -> dict[int, str]:
        """Read the labels of the objects that have one, by id; see `labels_in`."""
        return labels_in(self, self.path)

    def _frames(self) -> Iterator[FrameRecord]:
        for (index, seconds), rows in groupby(self._rows(), lambda row: (row.frame, row.seconds)):
            try:
                yield FrameRecord(index, seconds, tuple(row.entry() for row in rows))
            except ValueError as error:
                raise VideoError(f"{self.path}: frame {index}: {error}") from error

    def _rows(self) -> Iterator[_Row]:
        line, expected = 1, "a table written by `samvideo track` expected"
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                rows = csv.DictReader(file)
                for row in rows:
                    line = rows.line_num
                    yield _ROW.validate_python({str(name): cell or None for name, cell in row.items()})
        except ValidationError as error:
            raise VideoError(f"{self.path}, line {line}{first_fault(error)}; {expected}") from error
        except (OSError, ValueError, csv.Error) as error:
            raise VideoError(f"{self.path} cannot be read after line {line} ({error}): {expected}") from error


def _is_renumbered(path: Path) -> bool:
    """Whether `run.json` says that the frames of the run are renumbered; False if it says nothing."""
    with suppress(VideoError):
        return read_json(path, _RUN, "the run.json of a run", VideoError).settings.renumbered
    return False


def open_run(folder: str | os.PathLike[str]) -> TracksFile | TracksTable:
    """Open what a run recorded per frame: its masks, or `tracks.csv` if only that was saved, else VideoError."""
    folder = Path(folder)
    if not folder.exists():
        raise VideoError(f"{folder} does not exist: the folder of a run expected, as `samvideo track` writes it")
    has_masks = any((folder / name).exists() for name in ("tracks.jsonl", "tracks.json"))
    if folder.is_dir() and not has_masks and (folder / "tracks.csv").exists():
        return TracksTable(folder / "tracks.csv")
    return open_masks(folder)
