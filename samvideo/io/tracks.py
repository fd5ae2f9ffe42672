"""The per-frame results of a run on disk: `tracks.jsonl`, `tracks.json` and `tracks.csv`.

`tracks.jsonl` has a header on its first line and then one line per frame, so it is complete after every frame.
`tracks.json` is the same as one JSON document. Both are read line by line, in constant memory.
"""

import csv
import logging
import math
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from samvideo.errors import ConfigError, VideoError
from samvideo.geometry import mask_box
from samvideo.io.files import replacing, stream_json
from samvideo.io.masks import decode_rle, encode_rle
from samvideo.io.schema import read_json
from samvideo.types import BoolArray, FrameResult, VideoInfo

log = logging.getLogger(__name__)

LINES_FORMAT = "samvideo-tracks-2"
DOCUMENT_FORMAT = "samvideo-tracks-1"
STRIPPED_NAME = "video"  # of every source with `--strip-source`
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)

Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class _Video:
    """The `video` of a header; `rate` is a fraction such as "30000/1001", the rest as in `VideoInfo`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: str
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    rate: Annotated[str, Field(pattern=r"^[1-9]\d*(/[1-9]\d*)?$")]
    frame_count: Annotated[int, Field(ge=1)] | None = None
    renumbered: bool | None = None  # None: a file of before this was recorded


@dataclass(frozen=True, slots=True)
class _Header:
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    format: Literal["samvideo-tracks-1", "samvideo-tracks-2"]
    video: _Video


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One object on one frame; `bbox_xywh` and `area` are in pixels, `rle` is the COCO RLE of the mask.

    A run that was saved as a table only has a `centroid_xy` instead of `rle`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    object_id: Annotated[int, Field(alias="id", ge=1)]
    present: bool
    score: float
    area: Annotated[int, Field(ge=0)]
    bbox_xywh: Annotated[tuple[float, float, float, float], Field(alias="bbox")]
    rle: Annotated[dict[str, Any], Field(alias="segmentation")]
    centroid_xy: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One frame of a run: its index in the source, its time in seconds, its objects."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    index: Annotated[int, Field(ge=0)]
    seconds: float
    objects: tuple[ObjectRecord, ...]

    @classmethod
    def from_result(cls, result: FrameResult) -> "FrameRecord":
        """Encode the masks of a result; scores are rounded to 4 digits, times to microseconds."""
        objects = []
        for object_id, mask, score, present in result.rows():
            x1, y1, x2, y2 = mask_box(mask) or (0.0, 0.0, 0.0, 0.0)
            bbox = x1, y1, x2 - x1, y2 - y1
            entry = ObjectRecord(object_id, present, round(score, 4), int(mask.sum()), bbox, encode_rle(mask))
            objects.append(entry)
        return cls(result.index, round(result.seconds, 6), tuple(objects))

    def result(self, size_wh: tuple[int, int]) -> FrameResult:
        """Decode the masks; VideoError if one cannot be decoded."""
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

    def visible(self) -> dict[int, ObjectRecord]:
        """Return the objects that are present and whose masks are not empty, by id."""
        return {entry.object_id: entry for entry in self.objects if entry.present and entry.area > 0}

    def union(self, size_wh: tuple[int, int], object_ids: Collection[int]) -> BoolArray:
        """Return the (H, W) union of the masks of these objects."""
        return np.asarray(self.result(size_wh).select(object_ids).masks.any(0), bool)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of this frame."""
        without = {"objects": {"__all__": {"centroid_xy"}}}
        entry: dict[str, Any] = _FRAME.dump_python(self, by_alias=True, exclude=without)
        return entry


@dataclass(frozen=True, slots=True)
class _Document(_Header):
    frames: tuple[FrameRecord, ...]


@dataclass(frozen=True, slots=True)
class _RunSettings:
    renumbered: bool = False


@dataclass(frozen=True, slots=True)
class _Run:
    """The part of `run.json` that is read here."""

    settings: _RunSettings


_HEADER, _FRAME, _DOCUMENT = TypeAdapter(_Header), TypeAdapter(FrameRecord), TypeAdapter(_Document)
_RUN = TypeAdapter(_Run)


class TracksFile:
    """A `tracks.jsonl` or `tracks.json`; every iteration reads it from the start.

    A last line of a `tracks.jsonl` that was cut off while it was written is ignored with a warning.

    Raises:
        VideoError: the file is missing or has no valid header; while iterating, a frame is not valid.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._warned = False
        try:
            with path.open("rb") as file:
                first = file.readline().rstrip()
        except OSError as error:
            raise VideoError(
                f"{path} cannot be read ({error}): the folder of a run expected, written by "
                "`samvideo track … --save rle`"
            ) from error
        if first.endswith(b"["):
            self._layout, header = "document by line", self._parse(_HEADER, first + b"]}", 1)
        else:
            header = self._parse(_HEADER, first, 1) if b'"video"' in first else self._document()
            self._layout = "lines" if header.format == LINES_FORMAT else "document"
        video = header.video
        self.info = VideoInfo(
            video.name,
            (video.width, video.height),
            Fraction(video.rate),
            video.frame_count,
            renumbered=video.name == STRIPPED_NAME if video.renumbered is None else video.renumbered,
        )

    def __iter__(self) -> Iterator[FrameRecord]:
        if self._layout == "document":
            yield from self._document().frames
            return
        number = 1
        with self.path.open("rb") as file:
            next(file)
            for number, line in enumerate(file, 2):
                if self._layout == "document by line":
                    line = line.strip().removesuffix(b",")
                    if line == b"]}":
                        return
                elif not line.endswith(b"\n") and self._is_torn(line):
                    return
                yield self._parse(_FRAME, line, number)
        if self._layout == "document by line":
            raise VideoError(f"{self.path} is cut off after line {number}: the frames before are good")

    def object_ids(self) -> tuple[int, ...]:
        """Read the ids of all objects, ascending."""
        return tuple(sorted({entry.object_id for frame in self for entry in frame.objects}))

    def _document(self) -> _Document:
        """Read a document that is laid out in another way than one frame per line."""
        return self._parse(_DOCUMENT, self.path.read_bytes(), None)

    def _is_torn(self, line: bytes) -> bool:
        try:
            _FRAME.validate_json(line)
        except ValidationError as error:
            torn = error.errors()[0]["type"] == "json_invalid"
            if torn and not self._warned:
                self._warned = True
                log.warning("%s: the last line is incomplete and ignored: its run was killed", self.path)
            return torn
        return False

    def _parse(self, model: TypeAdapter[Model], text: bytes, line: int | None) -> Model:
        try:
            return model.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            value = first["input"]
            shown = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            place = f"{self.path}" if line is None else f"{self.path}, line {line}"
            field = ".".join(map(str, first["loc"])) or "text"
            raise VideoError(
                f"{place}: {field} is {shown[:60]!r}: {first['msg']}; "
                "a tracks file as `samvideo track` writes it expected"
            ) from error


def header_of(info: VideoInfo, format: str) -> dict[str, Any]:
    """Return the JSON object of a header."""
    width, height = info.size_wh
    video: dict[str, Any] = {"name": info.name, "width": width, "height": height, "rate": str(info.rate)}
    video |= {"frame_count": info.frame_count, "renumbered": info.renumbered}
    return {"format": format, "video": video}


def write_document(tracks: TracksFile, out: Path, info: VideoInfo | None = None) -> None:
    """Write `tracks.json` in constant memory; `info` replaces that of the tracks. OSError if that fails."""
    head = header_of(info or tracks.info, DOCUMENT_FORMAT)
    with replacing(out) as part:
        stream_json(part, head, {"frames": (frame.to_json() for frame in tracks)})


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
        rate = Fraction(25)
        if len(start) == 2 and start[1].seconds > start[0].seconds:
            passed = (start[1].index - start[0].index) / (start[1].seconds - start[0].seconds)
            rate = Fraction(passed).limit_denominator(1001)
        name, size_wh = path.parent.resolve().name, (math.ceil(extent[0]), math.ceil(extent[1]))
        self.info = VideoInfo(name, size_wh, rate, renumbered=_is_renumbered(path.with_name("run.json")))

    def __iter__(self) -> Iterator[FrameRecord]:
        line = 1
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = csv.DictReader(file)
                for (index, seconds), group in groupby(rows, lambda row: (row["frame"], row["seconds"])):
                    line = rows.line_num
                    yield FrameRecord(int(index), float(seconds), tuple(_object(row) for row in group))
        except (OSError, AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
            raise VideoError(
                f"{self.path} cannot be read near line {line} ({error!r}): a table written by `samvideo track` "
                "expected"
            ) from error


def _is_renumbered(path: Path) -> bool:
    """Whether `run.json` says that the frames of the run are renumbered; False if it says nothing."""
    with suppress(VideoError):
        return read_json(path, _RUN, "the run.json of a run", VideoError).settings.renumbered
    return False


def _object(row: dict[str, str]) -> ObjectRecord:
    x1, y1, x2, y2 = (float(row[name].strip() or 0) for name in ("x1", "y1", "x2", "y2"))
    centroid = (float(row["centroid_x"]), float(row["centroid_y"])) if row["centroid_x"] else None
    bbox, present = (x1, y1, x2 - x1, y2 - y1), row["present"] == "1"
    return ObjectRecord(int(row["object"]), present, float(row["score"]), int(row["area"]), bbox, {}, centroid)


def open_run(folder: Path) -> TracksFile | TracksTable:
    """Open what a run recorded per frame: its masks, or `tracks.csv` if only that was saved, else VideoError."""
    if not folder.exists():
        raise VideoError(f"{folder} does not exist: the folder of a run expected, as `samvideo track` writes it")
    has_masks = any((folder / name).exists() for name in ("tracks.jsonl", "tracks.json"))
    if folder.is_dir() and not has_masks and (folder / "tracks.csv").exists():
        return TracksTable(folder / "tracks.csv")
    return open_masks(folder)


def open_masks(folder: Path) -> TracksFile:
    """Open the masks of a run: `tracks.jsonl` or else `tracks.json` of its folder, or that file itself."""
    if not folder.is_dir():
        return TracksFile(folder)
    lines = folder / "tracks.jsonl"
    return TracksFile(lines if lines.exists() else folder / "tracks.json")
