"""Value types shared by all layers; NumPy only.

Pixel coordinates: x to the right, y down, the origin at the *corner* of the top-left pixel, so the centre of
that pixel is (0.5, 0.5) and a frame of width W spans x in [0, W]. Boxes are `xyxy`, sizes are `wh`, arrays `hw`.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samvideo.errors import ConfigError, PromptError, shown
from samvideo.moments import LAST_FRAME

UInt8Array = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
MAX_OBJECT_ID = 2**31 - 1  # ids are stored as int32
MAX_COORDINATE = 1e9  # pixels
MAX_LABEL = 100  # characters


def image_wh(rgb: Any) -> tuple[int, int]:
    """Return width and height of an image; ConfigError unless it is uint8 (H, W, 3) of at least one pixel."""
    if not isinstance(rgb, np.ndarray):
        raise ConfigError(
            f"a frame or image must be a uint8 NumPy array (H, W, 3), red first, not a {type(rgb).__name__}; "
            "convert it first (np.asarray for an image of Pillow, samvideo.open_video for files)"
        )
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ConfigError(
            f"a frame or image must be uint8 of shape (H, W, 3), not {rgb.dtype} {rgb.shape}; "
            "convert it first (cv2.cvtColor for grey or BGR images)"
        )
    if min(rgb.shape[:2]) < 1:
        raise ConfigError(f"a frame or image must have at least one pixel, not shape {rgb.shape}")
    return rgb.shape[1], rgb.shape[0]


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame of a video.

    Attributes:
        index: position in the source, counting every frame in display order from 0.
        seconds: presentation time, from the start of the source.
        rgb: uint8 (H, W, 3), red first. Treat as read-only: readers and sinks share it.
    """

    index: int
    seconds: float
    rgb: UInt8Array

    def __post_init__(self) -> None:
        image_wh(self.rgb)

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]

    def __repr__(self) -> str:
        width, height = self.size_wh
        return f"Frame(index={self.index}, seconds={self.seconds:.3f}, {width}x{height})"


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a source that are known before decoding; None means unknown (streams, broken headers).

    Attributes:
        name: a short name for users and output files.
        size_wh: displayed size in pixels, after rotation.
        rate: average frames per second; for a folder of images the playback rate.
        duration: in seconds.
        codec: the codec's name, "images" for a folder.
        rotation: clockwise degrees stated by the container (already applied).
        has_audio: whether the source has an audio track that can be copied.
        pixel_aspect: width of a pixel through its height; frames are not stretched, so that a picture is shown
            `pixel_aspect` times as wide as it has columns.
        live: whether the source arrives as it is made and cannot be read again: a camera, a pipe, a stream.
        renumbered: of a run: its frames are numbered and timed from the first one tracked, wherever that was in
            the source (`--strip-source` with `--start`).
    """

    name: str
    size_wh: tuple[int, int]
    rate: Fraction
    frame_count: int | None = None
    duration: float | None = None
    codec: str = "unknown"
    rotation: int = 0
    has_audio: bool = False
    pixel_aspect: Fraction = Fraction(1)
    live: bool = False
    renumbered: bool = False


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Base class of prompts; use `Points`, `Box` or `Mask`.

    Attributes:
        object_id: the object, 1 to 2^31 - 1; None means a new object with the next free id.
        frame: source index of its frame, for `track`; if `seconds` is None too, the first tracked frame.
        seconds: alternatively a time; selects the frame shown at that time.
        label: name of the object's class, such as "grasper"; one prompt of an object is enough to give it.
    """

    object_id: int | None = None
    frame: int | None = None
    seconds: float | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        # ids and frames of other tools may be numbers such as 1.0
        object.__setattr__(self, "object_id", _whole("object_id", self.object_id, 1, MAX_OBJECT_ID))
        object.__setattr__(self, "frame", _whole("frame", self.frame, 0, LAST_FRAME))
        if self.frame is not None and self.seconds is not None:
            raise PromptError(f"give frame or seconds, not both (frame={self.frame}, seconds={self.seconds})")
        if self.seconds is not None and not (_is_number(self.seconds) and 0 <= self.seconds <= LAST_FRAME):
            raise PromptError(f"seconds is {shown(self.seconds)}: a number of at least 0 expected")
        if self.label is not None:
            object.__setattr__(self, "label", check_label(self.label))


def check_label(label: Any, error: type[Exception] = PromptError) -> str:
    """Return a label without blanks around it; `error` unless it is 1 to 100 printable characters."""
    text = label.strip(" ") if isinstance(label, str) else ""
    if not text or len(text) > MAX_LABEL or not text.isprintable():
        raise error(f"label is {shown(label)}: 1 to {MAX_LABEL} printable characters expected, such as grasper")
    return text


def _whole(name: str, value: Any, least: int, most: int) -> int | None:
    """Return a whole number as int, None for None; PromptError for anything else."""
    if value is None:
        return None
    if not _is_number(value) or not least <= value <= most or value != int(value):
        raise PromptError(f"{name} is {shown(value)}: a whole number from {least} to {most} expected")
    return int(value)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _coordinates(values: Any, described: str) -> NDArray[np.float64]:
    """Convert to an array of finite numbers; PromptError, with what was expected, if that is not possible."""
    with suppress(TypeError, ValueError, OverflowError):
        numbers = np.asarray(values, np.float64)
        truths = any(isinstance(value, (bool, np.bool_)) for value in np.asarray(values, object).flat)
        if not truths and (np.abs(numbers) <= MAX_COORDINATE).all():
            return numbers
    raise PromptError(f"{described} expected, not {shown(values)}")


def _labels(values: Any, count: int) -> NDArray[np.int64]:
    """Convert labels, all 1 if None; PromptError if these are not `count` times 0 or 1."""
    if values is None:
        return np.ones(count, np.int64)
    with suppress(TypeError, ValueError, OverflowError):
        labels = np.asarray(values, np.float64)
        if labels.shape == (count,) and np.isin(labels, (0, 1)).all():
            return labels.astype(np.int64)
    raise PromptError(f"labels must be {count} values of 1 (object) or 0 (not), not {shown(values)}")


def _refuse_shares(coordinates: NDArray[np.float64], what: str) -> None:
    """Raise PromptError if these are shares of the frame, as some tools give them, and not pixels."""
    if (coordinates >= 0).all() and (coordinates <= 1).all() and (coordinates % 1 > 0).any():
        raise PromptError(
            f"{what} {coordinates.tolist()} lies in the top-left pixel: coordinates in pixels expected. If these "
            "are shares of the frame, multiply x by its width and y by its height (`samvideo info` prints them)"
        )


@dataclass(frozen=True)
class Box(Prompt):
    """A box around the object: `xyxy` = (left, top, right, bottom) in pixels of its frame.

    Fractions that all lie in 0 to 1 are shares of the frame, not pixels: PromptError.
    """

    xyxy: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        super().__post_init__()
        four = "a box of four finite numbers x1, y1, x2, y2"
        corners = _coordinates(self.xyxy, four)
        if corners.shape != (4,):
            raise PromptError(f"{four} expected, not {shown(self.xyxy)}")
        _refuse_shares(corners, "box")
        box = tuple(corners.tolist())
        if box[0] >= box[2] or box[1] >= box[3]:
            raise PromptError(
                f"box {box} has no area: x1 < x2 and y1 < y2 expected (left, top, right, bottom; "
                "a box given as x, y, width, height needs x2 = x + width)"
            )
        object.__setattr__(self, "xyxy", box)


@dataclass(frozen=True, eq=False)
class Points(Prompt):
    """Clicks on one frame.

    Attributes:
        xy: (N, 2) pixel coordinates.
        labels: (N,) 1 for a click on the object, 0 for a click beside it; all 1 by default.
    """

    xy: Any
    labels: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        pairs = "points, a list of finite (x, y) pairs, shape (N, 2) with N >= 1,"
        xy = _coordinates(self.xy, pairs)
        if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) == 0:
            raise PromptError(f"{pairs} expected, not {shown(self.xy)}")
        if len(xy) > 1:
            _refuse_shares(xy, "each of the clicks")
        object.__setattr__(self, "xy", xy.astype(np.float32))
        object.__setattr__(self, "labels", _labels(self.labels, len(xy)))


@dataclass(frozen=True, eq=False)
class Mask(Prompt):
    """The object's mask on one frame: `mask` (H, W), non-zero inside, at frame size. May be empty."""

    mask: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        mask = np.asarray(self.mask)
        if mask.ndim != 2:
            raise PromptError(f"a mask prompt is one (H, W) array, not shape {mask.shape}; one prompt per object")
        object.__setattr__(self, "mask", mask.astype(bool))


@dataclass(frozen=True, eq=False)
class FrameResult:
    """Result of a tracker for one frame; row k of every array belongs to `object_ids[k]`.

    Attributes:
        index, seconds: those of the frame.
        object_ids: the user's ids, in ascending order; they never change.
        masks: bool (K, H, W) at frame size.
        scores: float32 (K,) in [0, 1], the tracker's confidence in the mask.
        present: bool (K,), False if the tracker considers the object not visible.
        logits: float32 (K, H, W) if requested, else None; positive inside.
        labels: of the objects that prompts gave one, by id; may be of others than these.
        revised: results of earlier frames, of one object each and without logits, that this frame changed; empty
            but for trackers that are asked to revise.
    """

    index: int
    seconds: float
    object_ids: tuple[int, ...]
    masks: BoolArray
    scores: FloatArray
    present: BoolArray
    logits: FloatArray | None = field(default=None, repr=False)
    labels: Mapping[int, str] = field(default_factory=dict, repr=False)
    revised: tuple["FrameResult", ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        count = len(self.object_ids)
        shapes = self.masks.shape[:1], self.scores.shape, self.present.shape
        if self.masks.ndim != 3 or any(shape != (count,) for shape in shapes):
            raise ConfigError(
                f"{count} objects need masks (K, H, W), scores (K,), present (K,) with K = {count}, not "
                f"{self.masks.shape}, {self.scores.shape}, {self.present.shape}"
            )

    def rows(self) -> Iterator[tuple[int, BoolArray, float, bool]]:
        """Yield (object id, mask, score, present) of each object."""
        for row, object_id in enumerate(self.object_ids):
            yield object_id, self.masks[row], float(self.scores[row]), bool(self.present[row])

    def mask(self, object_id: int) -> BoolArray:
        """Return the (H, W) mask of one object; KeyError if it is not tracked."""
        if object_id not in self.object_ids:
            raise KeyError(f"object {object_id} is not tracked; tracked: {list(self.object_ids)}")
        mask: BoolArray = self.masks[self.object_ids.index(object_id)]
        return mask

    def select(self, object_ids: Collection[int]) -> "FrameResult":
        """Return the result for these objects only, in the same order; ids that are not tracked are ignored."""
        rows = np.array([i in object_ids for i in self.object_ids], bool)
        return replace(
            self,
            object_ids=tuple(i for i in self.object_ids if i in object_ids),
            masks=self.masks[rows],
            scores=self.scores[rows],
            present=self.present[rows],
            logits=None if self.logits is None else self.logits[rows],
            revised=tuple(r for r in self.revised if set(r.object_ids) <= set(object_ids)),
        )

    def __repr__(self) -> str:
        states = ", ".join(f"{i}: {'present' if p else 'lost'} {s:.2f}" for i, _, s, p in self.rows())
        return f"FrameResult(index={self.index}, seconds={self.seconds:.3f}, {{{states}}})"
