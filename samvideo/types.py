"""Value types shared by all layers; NumPy only.

Pixel coordinates: x to the right, y down, the origin at the *corner* of the top-left pixel, so the centre of
that pixel is (0.5, 0.5) and a frame of width W spans x in [0, W]. Boxes are `xyxy`, sizes are `wh`, arrays `hw`.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samvideo.errors import ConfigError, PromptError

UInt8Array = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


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
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise ConfigError(
                f"a frame must be uint8 of shape (H, W, 3), not {self.rgb.dtype} {self.rgb.shape}; "
                "convert it first (cv2.cvtColor for grey or BGR images)"
            )
        if min(self.rgb.shape[:2]) < 1:
            raise ConfigError(f"a frame must have at least one pixel, not shape {self.rgb.shape}")

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


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Base class of prompts; use `Points`, `Box` or `Mask`.

    Attributes:
        object_id: the object, at least 1; None means a new object with the next free id.
        frame: source index of its frame, for `track`; if `seconds` is None too, the first tracked frame.
        seconds: alternatively a time; selects the frame shown at that time.
    """

    object_id: int | None = None
    frame: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.object_id is not None and self.object_id < 1:
            raise PromptError(f"object ids count from 1 (0 is background), not {self.object_id}")
        if self.frame is not None and self.seconds is not None:
            raise PromptError(f"give frame or seconds, not both (frame={self.frame}, seconds={self.seconds})")
        if self.frame is not None and self.frame < 0:
            raise PromptError(f"frames count from 0, not {self.frame}")
        if self.seconds is not None and not (np.isfinite(self.seconds) and self.seconds >= 0):
            raise PromptError(f"a prompt's time must be at least 0 seconds, not {self.seconds}")


@dataclass(frozen=True)
class Box(Prompt):
    """A box around the object: `xyxy` = (left, top, right, bottom) in pixels of its frame."""

    xyxy: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        super().__post_init__()
        box = tuple(float(value) for value in self.xyxy)
        if len(box) != 4 or not np.isfinite(box).all():
            raise PromptError(f"a box is four finite numbers x1, y1, x2, y2, not {self.xyxy}")
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
        xy = np.asarray(self.xy, dtype=np.float32)
        if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) == 0 or not np.isfinite(xy).all():
            raise PromptError(f"points are a list of finite (x, y) pairs, shape (N, 2) with N >= 1, not {self.xy}")
        labels = np.ones(len(xy), np.int64) if self.labels is None else np.asarray(self.labels)
        if labels.shape != (len(xy),) or not np.isin(labels, (0, 1)).all():
            raise PromptError(f"labels must be {len(xy)} values of 1 (object) or 0 (not), not {self.labels}")
        object.__setattr__(self, "xy", xy)
        object.__setattr__(self, "labels", labels.astype(np.int64))


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
    """

    index: int
    seconds: float
    object_ids: tuple[int, ...]
    masks: BoolArray
    scores: FloatArray
    present: BoolArray
    logits: FloatArray | None = field(default=None, repr=False)

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
        )

    def __repr__(self) -> str:
        states = ", ".join(f"{i}: {'present' if p else 'lost'} {s:.2f}" for i, _, s, p in self.rows())
        return f"FrameResult(index={self.index}, seconds={self.seconds:.3f}, {{{states}}})"
