"""Reads `tracks.json` of a run again, frame by frame, in constant memory however long it is."""

import csv
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import numpy as np

from samvideo.errors import ConfigError, VideoError
from samvideo.io.masks import decode_rle
from samvideo.types import FrameResult, VideoInfo

FORMAT = "samvideo-tracks-1"
CHUNK = 1 << 20
_FRAMES = re.compile(r'"frames"\s*:\s*\[')


@dataclass(frozen=True, slots=True)
class TrackedObject:
    """One object on one frame; `rle` are COCO run lengths of its mask, `bbox_xywh` and `area` are in pixels.

    A run saved as a table only has no `rle` but a `centroid_xy`.
    """

    object_id: int
    present: bool
    score: float
    area: int
    bbox_xywh: tuple[float, float, float, float]
    rle: dict[str, Any]
    centroid_xy: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """One frame of a run: its number in the source, its time in seconds, its objects."""

    index: int
    seconds: float
    objects: tuple[TrackedObject, ...]

    def result(self, size_wh: tuple[int, int]) -> FrameResult:
        """The frame as a tracker gave it, masks decoded.

        Raises:
            VideoError: a mask cannot be decoded.
        """
        masks = np.zeros((len(self.objects), size_wh[1], size_wh[0]), bool)
        for row, entry in enumerate(self.objects):
            try:
                masks[row] = decode_rle(entry.rle)
            except (ConfigError, ValueError) as error:
                raise VideoError(f"frame {self.index}, object {entry.object_id}: {error}") from error
        return FrameResult(
            self.index,
            self.seconds,
            tuple(entry.object_id for entry in self.objects),
            masks,
            np.array([entry.score for entry in self.objects], np.float32),
            np.array([entry.present for entry in self.objects], bool),
        )


class TracksFile:
    """A `tracks.json`; iterating reads it from the start, each time anew.

    Attributes:
        path: of the file.
        info: name, size and rate of the video it belongs to.

    Raises:
        VideoError: missing, or no tracks file; while iterating, where it is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open(encoding="utf-8") as file:
                head, _ = self._head(file)
        except (OSError, UnicodeDecodeError) as error:
            raise VideoError(
                f"{path} cannot be read ({error}): the folder of a run expected, written by "
                "`samvideo track … --save rle`"
            ) from error
        try:
            video = head["video"]
            size_wh = int(video["width"]), int(video["height"])
            self.info = VideoInfo(str(video["name"]), size_wh, Fraction(video["rate"]))
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise VideoError(f"{path} is no tracks file of samvideo ({error!r}): {FORMAT} expected") from error
        if head.get("format") != FORMAT or min(size_wh) < 1 or self.info.rate <= 0:
            raise VideoError(
                f"{path} is {head.get('format')!r} at {size_wh}: {FORMAT} with a size and a rate expected"
            )

    def _head(self, file: IO[str]) -> tuple[dict[str, Any], str]:
        """What stands before the frames, and the text read beyond."""
        text = file.read(CHUNK)
        found = _FRAMES.search(text)
        try:
            head = json.loads(text[: found.end()] + "]}") if found else {}
        except ValueError:
            head = {}
        return (head, text[found.end() :]) if found else (head, "")

    def __iter__(self) -> Iterator[TrackedFrame]:
        decoder = json.JSONDecoder()
        with self.path.open(encoding="utf-8") as file:
            _, text = self._head(file)
            place = 0
            while True:
                place = _skip(text, place)
                try:
                    if text[place : place + 1] == "]":
                        return
                    entry, place = decoder.raw_decode(text, place)
                except ValueError:
                    more = file.read(CHUNK)
                    if not more:
                        raise self._broken(text[place : place + 60]) from None
                    text, place = text[place:] + more, 0
                    continue
                yield self._frame(entry)

    def _frame(self, entry: Any) -> TrackedFrame:
        try:
            return TrackedFrame(
                int(entry["index"]),
                float(entry["seconds"]),
                tuple(
                    TrackedObject(
                        int(thing["id"]),
                        bool(thing["present"]),
                        float(thing["score"]),
                        int(thing["area"]),
                        tuple(thing["bbox"]),
                        thing["segmentation"],
                    )
                    for thing in entry["objects"]
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._broken(str(entry)[:60]) from error

    def _broken(self, near: str) -> VideoError:
        return VideoError(f"{self.path} is broken near {near!r}: make it anew with `samvideo track`")


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \n\r\t,":
        place += 1
    return place


class TracksTable:
    """A run's `tracks.csv`: places and sizes without masks; iterating reads it from the start, each time anew.

    Attributes:
        path: of the file.
        info: named after its folder. The frame's size is not in the table, so the greatest reach of a box is taken;
            the rate is that of the first two frames.

    Raises:
        VideoError: no such table; while iterating, where it is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        start: list[TrackedFrame] = []
        reach = [1.0, 1.0]
        for frame in self:
            start = [*start[:1], frame] if len(start) < 2 else start
            for thing in frame.objects:
                x, y, width, height = thing.bbox_xywh
                reach = [max(reach[0], x + width), max(reach[1], y + height)]
        rate = Fraction(25)
        if len(start) == 2 and start[1].seconds > start[0].seconds:
            passed = (start[1].index - start[0].index) / (start[1].seconds - start[0].seconds)
            rate = Fraction(passed).limit_denominator(1001)
        self.info = VideoInfo(path.parent.resolve().name, (math.ceil(reach[0]), math.ceil(reach[1])), rate)

    def __iter__(self) -> Iterator[TrackedFrame]:
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = csv.DictReader(file)
                for (index, seconds), group in groupby(rows, lambda row: (row["frame"], row["seconds"])):
                    yield TrackedFrame(int(index), float(seconds), tuple(_object(row) for row in group))
        except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
            raise VideoError(
                f"{self.path} cannot be read ({error!r}): a table written by `samvideo track` expected"
            ) from error


def _object(row: dict[str, str]) -> TrackedObject:
    x1, y1, x2, y2 = (float(row[name] or 0) for name in ("x1", "y1", "x2", "y2"))
    centroid = (float(row["centroid_x"]), float(row["centroid_y"])) if row["centroid_x"] else None
    return TrackedObject(
        int(row["object"]),
        row["present"] == "1",
        float(row["score"]),
        int(row["area"]),
        (x1, y1, x2 - x1, y2 - y1),
        {},
        centroid,
    )


def open_run(folder: Path) -> TracksFile | TracksTable:
    """What a run says of its frames: `tracks.json` in its folder, or `tracks.csv` where only that was saved.

    Raises:
        VideoError: there is neither.
    """
    if not folder.exists():
        raise VideoError(f"{folder} does not exist: the folder of a run expected, as `samvideo track` writes it")
    if folder.is_dir() and not (folder / "tracks.json").exists() and (folder / "tracks.csv").exists():
        return TracksTable(folder / "tracks.csv")
    return open_masks(folder)


def open_masks(folder: Path) -> TracksFile:
    """The masks of a run: `tracks.json` in its folder, or that file itself.

    Raises:
        VideoError: there are none.
    """
    return TracksFile(folder / "tracks.json" if folder.is_dir() else folder)
