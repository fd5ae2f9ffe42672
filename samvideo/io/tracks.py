"""The per-frame results of a run on disk: `tracks.jsonl` and `tracks.json`.

`tracks.jsonl` has a header on its first line and then one line per frame, so it is complete after every frame.
`tracks.json` is the same as one JSON document. Both are read line by line, in constant memory.
"""

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from samvideo.errors import ConfigError, VideoError
from samvideo.geometry import mask_box
from samvideo.io.files import replacing, stream_json
from samvideo.io.masks import encode_rle
from samvideo.io.rle import MAX_PIXELS, decode_rle, runs_of_rles
from samvideo.io.schema import parse_json, read_json
from samvideo.io.thumbnails import TEXT_LENGTH, thumbnail, to_text
from samvideo.types import MAX_OBJECT_ID, BoolArray, FrameResult, UInt8Array, VideoInfo, check_label

log = logging.getLogger(__name__)

LINES_FORMAT = "samvideo-tracks-2"
DOCUMENT_FORMAT = "samvideo-tracks-1"
STRIPPED_NAME = "video"  # of every source with `--strip-source`
T = TypeVar("T")
EXPECTED = "a tracks file as `samvideo track` writes it"
CHECKED_AT_ONCE = 64  # frames
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)

# Bounds within which everything that is made of a run can be computed and written.
Number = Annotated[float, Field(ge=-1e9, le=1e9)]
Index = Annotated[int, Field(ge=0, lt=2**31)]
ObjectId = Annotated[int, Field(ge=1, le=MAX_OBJECT_ID)]
Place = Annotated[float, Field(ge=0, le=2**16)]
Label = Annotated[str, AfterValidator(lambda text: check_label(text, ValueError))]
Side = Annotated[int, Field(ge=1, le=2**16)]
Area = Annotated[int, Field(ge=0, le=MAX_PIXELS)]
Thumbnail = Annotated[str, Field(pattern=rf"^[A-Za-z0-9+/]{{{TEXT_LENGTH}}}$")]
Rate = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}(/[1-9][0-9]{0,8})?$")]


@dataclass(frozen=True, slots=True)
class _Video:
    """The `video` of a header; `rate` is a fraction such as "30000/1001", the rest as in `VideoInfo`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: str
    width: Side
    height: Side
    rate: Rate
    frame_count: Annotated[int, Field(ge=1, le=2**31)] | None = None
    renumbered: bool | None = None  # None: a file of before this was recorded

    def __post_init__(self) -> None:
        if self.width * self.height > MAX_PIXELS:
            raise ValueError(f"it should have at most {MAX_PIXELS} pixels")


@dataclass(frozen=True, slots=True)
class _Header:
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    format: Literal["samvideo-tracks-1", "samvideo-tracks-2"]
    video: _Video


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One object on one frame; `bbox_xywh` and `area` are in pixels, `rle` is the COCO RLE of the mask.

    A run that was saved as a table only has a `centroid_xy` instead of `rle`. `label` is the name of its class.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    object_id: Annotated[ObjectId, Field(alias="id")]
    present: bool
    score: Number
    area: Area
    bbox_xywh: Annotated[tuple[Place, Place, Place, Place], Field(alias="bbox")]
    rle: Annotated[dict[str, Any], Field(alias="segmentation")]
    centroid_xy: tuple[float, float] | None = None
    label: Label | None = None


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One frame of a run: its index in the source, its time in seconds, its objects, and how it looks.

    `thumbnail` is text of `samvideo.io.thumbnails`; None: a file of before this was recorded.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    index: Index
    seconds: Number
    objects: tuple[ObjectRecord, ...]
    thumbnail: Thumbnail | None = None

    def __post_init__(self) -> None:
        if len({entry.object_id for entry in self.objects}) < len(self.objects):
            raise ValueError("it should hold every object once")

    @classmethod
    def from_result(cls, result: FrameResult, rgb: UInt8Array | None = None) -> "FrameRecord":
        """Encode the masks of a result; scores are rounded to 4 digits, times to microseconds.

        `rgb` is the frame (H, W, 3), for its thumbnail.
        """
        objects = []
        for object_id, mask, score, present in result.rows():
            x1, y1, x2, y2 = mask_box(mask) or (0.0, 0.0, 0.0, 0.0)
            bbox = x1, y1, x2 - x1, y2 - y1
            entry = ObjectRecord(object_id, present, round(score, 4), int(mask.sum()), bbox, encode_rle(mask))
            objects.append(replace(entry, label=result.labels.get(object_id)))
        look = None if rgb is None else to_text(thumbnail(rgb))
        return cls(result.index, round(result.seconds, 6), tuple(objects), look)

    def result(self, size_wh: tuple[int, int]) -> FrameResult:
        """Decode the masks; VideoError if one cannot be decoded."""
        masks = np.zeros((len(self.objects), size_wh[1], size_wh[0]), bool)
        for row, entry in enumerate(self.objects):
            try:
                masks[row] = decode_rle(entry.rle, size_wh)
            except ConfigError as error:
                raise VideoError(f"frame {self.index}, object {entry.object_id}: {error}") from error
        return FrameResult(
            self.index,
            self.seconds,
            tuple(entry.object_id for entry in self.objects),
            masks,
            np.array([entry.score for entry in self.objects], np.float32),
            np.array([entry.present for entry in self.objects], bool),
            labels={entry.object_id: entry.label for entry in self.objects if entry.label is not None},
        )

    def visible(self) -> dict[int, ObjectRecord]:
        """Return the objects that are present and whose masks are not empty, by id."""
        return {entry.object_id: entry for entry in self.objects if entry.present and entry.area > 0}

    def union(self, size_wh: tuple[int, int], object_ids: Collection[int]) -> BoolArray:
        """Return the (H, W) union of the masks of these objects."""
        return np.asarray(self.result(size_wh).select(object_ids).masks.any(0), bool)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of this frame."""
        without: dict[str, Any] = {"objects": {"__all__": {"centroid_xy"}}}
        if self.thumbnail is None:
            without["thumbnail"] = True
        entry: dict[str, Any] = _FRAME.dump_python(self, by_alias=True, exclude=without)
        for one in entry["objects"]:
            if one["label"] is None:
                del one["label"]
        return entry

    def labelled(self, labels: Mapping[int, str]) -> "FrameRecord":
        """Return the frame with these labels instead of its own, where there are some."""
        objects = (replace(entry, label=labels.get(entry.object_id, entry.label)) for entry in self.objects)
        return replace(self, objects=tuple(objects))


@dataclass(frozen=True, slots=True)
class _Document(_Header):
    frames: tuple[FrameRecord, ...]


_HEADER, _FRAME, _DOCUMENT = TypeAdapter(_Header), TypeAdapter(FrameRecord), TypeAdapter(_Document)
_ANY: TypeAdapter[Any] = TypeAdapter(Any)


class TracksFile:
    """A `tracks.jsonl` or `tracks.json`; every iteration reads it from the start.

    A last line of a `tracks.jsonl` that was cut off while it was written is ignored with a warning.

    Raises:
        VideoError: the file is missing or has no valid header; while iterating, a frame is not valid.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._warned = False
        with self._open() as file:
            first = file.readline().rstrip()
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
        return in_order(self.unordered(), self.path)

    def unordered(self) -> Iterator[FrameRecord]:
        """Yield the frames, which may be in any order, as the steps of a run that goes backward are."""
        if self._layout == "document":
            yield from self._document().frames
            return
        number = 1
        with self._open() as file:
            file.readline()
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

    def labels(self) -> dict[int, str]:
        """Read the labels of the objects that have one, by id; see `labels_in`."""
        return labels_in(self, self.path)

    def check_masks(self) -> None:
        """Raise VideoError for the first mask that is not valid, or whose size or area is not the stated one."""
        frames = iter(self)
        while batch := list(islice(frames, CHECKED_AT_ONCE)):
            entries = [(frame.index, entry) for frame in batch for entry in frame.objects]
            try:
                runs = runs_of_rles([entry.rle for _, entry in entries], self.info.size_wh)
            except ConfigError as error:
                for frame in batch:
                    frame.result(self.info.size_wh)  # names frame and object
                raise VideoError(f"{self.path}: {error}") from error
            areas = np.bincount(runs.mask, runs.bottom - runs.top, runs.count).astype(int)
            for (index, entry), area in zip(entries, areas.tolist(), strict=True):
                if entry.area != area:
                    raise VideoError(
                        f"{self.path}: frame {index}, object {entry.object_id}: area is {entry.area}, but the mask "
                        f"has {area} pixels; {EXPECTED} expected"
                    )

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        try:
            with self.path.open("rb") as file:
                yield file
        except OSError as error:
            raise VideoError(
                f"{self.path} cannot be read ({error}): the folder of a run expected, written by "
                "`samvideo track … --save rle`"
            ) from error

    def _document(self) -> _Document:
        """Read a document that is laid out in another way than one frame per line."""
        return read_json(self.path, _DOCUMENT, EXPECTED, VideoError)

    def _is_torn(self, line: bytes) -> bool:
        try:
            _ANY.validate_json(line)
        except ValidationError:
            if not self._warned:
                self._warned = True
                log.warning("%s: the last line is incomplete and ignored: its run was killed", self.path)
            return True
        return False

    def _parse(self, schema: TypeAdapter[T], text: bytes, line: int) -> T:
        return parse_json(text, schema, f"{self.path}, line {line}", EXPECTED, VideoError)


def header_of(info: VideoInfo, format: str) -> dict[str, Any]:
    """Return the JSON object of a header."""
    width, height = info.size_wh
    # names of files may hold bytes that are not text
    name = info.name.encode("utf-8", "replace").decode()
    video: dict[str, Any] = {"name": name, "width": width, "height": height, "rate": str(info.rate)}
    video |= {"frame_count": info.frame_count, "renumbered": info.renumbered}
    return {"format": format, "video": video}


def write_document(tracks: TracksFile, out: Path, info: VideoInfo, labels: Mapping[int, str]) -> None:
    """Write `tracks.json` in constant memory, with this `info` and these labels. OSError if that fails."""
    head = header_of(info, DOCUMENT_FORMAT)
    with replacing(out) as part:
        stream_json(part, head, {"frames": (frame.labelled(labels).to_json() for frame in tracks)})


def labels_in(frames: Iterable[FrameRecord], path: Path) -> dict[int, str]:
    """Return the labels of objects in the frames of a file, by id; VideoError if an object has two."""
    labels: dict[int, str] = {}
    for frame in frames:
        for entry in frame.objects:
            if entry.label is not None and labels.setdefault(entry.object_id, entry.label) != entry.label:
                raise VideoError(
                    f"{path}: frame {frame.index}, object {entry.object_id}: label is {entry.label!r}, but "
                    f"{labels[entry.object_id]!r} before: one label per object expected"
                )
    return labels


def in_order(frames: Iterator[FrameRecord], path: Path) -> Iterator[FrameRecord]:
    """Yield the frames of a file; VideoError if one does not come after the one before."""
    last = -1
    for frame in frames:
        if frame.index <= last:
            raise VideoError(
                f"{path}: frame {frame.index} comes after {last}: the frames of a run must be in order of time"
            )
        last = frame.index
        yield frame


def open_masks(folder: str | os.PathLike[str]) -> TracksFile:
    """Open the masks of a run: `tracks.jsonl` or else `tracks.json` of its folder, or that file itself."""
    folder = Path(folder)
    if not folder.is_dir():
        return TracksFile(folder)
    lines = folder / "tracks.jsonl"
    return TracksFile(lines if lines.exists() else folder / "tracks.json")
