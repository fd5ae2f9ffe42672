"""A baseline without weights: optical flow warps masks, which are then fitted to edges; it finds nothing again."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from samvideo.io.snapshot import dump_state, load_state
from samvideo.object_prompts import ObjectPrompt, group_tracked, size_changed
from samvideo.segmenters.base import Segmenter
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.types import BoolArray, FloatArray, Frame, FrameResult, Prompt, UInt8Array

STATE_KIND = "flow"


@dataclass(frozen=True)
class FlowConfig:
    """Settings of `FlowTracker`.

    Attributes:
        longest: longer side in pixels of the pictures that are matched.
        smallest: shorter side in pixels below which there is nothing to match, and objects stay where they are.
        radius: of the windows of the guided filter, in pixels.
        noise: variance of a colour in [0, 1] that the guided filter ignores.
        margin: beside 0.5, of the two thresholds whose areas the score compares.
    """

    longest: int = 428
    smallest: int = 16
    radius: int = 8
    noise: float = 1e-4
    margin: float = 0.25


class FlowTracker:
    """Tracks any number of objects without a network; implements `samvideo.trackers.base.Tracker`.

    Dense inverse search (Kroeger et al., ECCV 2016) matches consecutive frames. The guided filter (He et al., ECCV
    2010) draws the border of a warped mask to edges, so that errors do not add up. The score of an object is the
    stability of its mask, as SAM's: the IoU of the masks at a higher and at a lower threshold.

    Args:
        config: settings.
        segmenter: infers masks from boxes and clicks.
    """

    def __init__(self, config: FlowConfig | None = None, segmenter: Segmenter | None = None) -> None:
        self.config = config or FlowConfig()
        self.segmenter = segmenter or GrabCutSegmenter()
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self.reset()

    @property
    def lookahead(self) -> int:
        """See `Tracker.lookahead`."""
        return self.segmenter.lookahead

    def reset(self) -> None:
        """See `Tracker.reset`."""
        self._index: int | None = None  # of the newest frame
        self._size_wh = (0, 0)
        self._small = np.zeros((0, 0, 3), np.uint8)  # it at working size
        self._masks: dict[int, BoolArray] = {}  # on it at its own size
        self._scores: dict[int, float] = {}

    def forget(self, object_id: int) -> None:
        """See `Tracker.forget`."""
        if object_id not in self._masks:
            raise KeyError(f"object {object_id} is not tracked; tracked: {list(self._masks)}")
        del self._masks[object_id], self._scores[object_id]

    def state(self) -> bytes:
        """See `Tracker.state`."""
        return dump_state(STATE_KIND, (self._index, self._size_wh, self._small, self._masks, self._scores))

    def restore(self, state: bytes) -> None:
        """See `Tracker.restore`."""
        self._index, self._size_wh, self._small, self._masks, self._scores = load_state(STATE_KIND, state, ())

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        """See `Tracker.step`."""
        if self._index is not None and frame.size_wh != self._size_wh:
            raise size_changed(frame, self._size_wh)
        grouped = group_tracked(prompts, self._masks, frame.size_wh)
        if frame.index != self._index:
            factor = min(1.0, self.config.longest / max(frame.size_wh))
            small_wh = [max(1, round(factor * side)) for side in frame.size_wh]
            small = cv2.resize(frame.rgb, small_wh, interpolation=cv2.INTER_AREA)
            if self._masks:
                self._follow(small)
            self._index, self._size_wh, self._small = frame.index, frame.size_wh, small
        if grouped:
            self._apply(grouped, frame.rgb, None if upcoming is None else upcoming.rgb)
        masks = np.array([*self._masks.values()], bool).reshape(-1, *frame.rgb.shape[:2])
        present, scores = np.asarray(masks.any((1, 2))), np.array([*self._scores.values()], np.float32)
        return FrameResult(frame.index, frame.seconds, tuple(self._masks), masks, scores * present, present)

    def _follow(self, small: UInt8Array) -> None:
        """Carry all masks on to the next frame; each pixel goes to the object that most likely covers it."""
        places, size_wh = self._places(small), small.shape[1::-1]
        masks = (
            cv2.resize(m.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA) for m in self._masks.values()
        )
        warped = (cv2.remap(m, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) for m in masks)
        best, owner = np.full(self._size_wh[::-1], 0.5, np.float32), np.zeros(self._size_wh[::-1], np.int32)
        for object_id, cover in zip(self._masks, self._fit(warped, small), strict=True):
            whole = cv2.resize(cover, self._size_wh, interpolation=cv2.INTER_LINEAR)
            owner[whole > best] = object_id
            best = np.maximum(best, whole)
            inner, outer = ((cover > 0.5 + margin).sum() for margin in (self.config.margin, -self.config.margin))
            self._scores[object_id] = float(inner / max(outer, 1))
        self._masks = {object_id: owner == object_id for object_id in self._masks}

    def _places(self, small: UInt8Array) -> FloatArray:
        """Where each pixel was on the frame before: x and y, float32 (h, w, 2)."""
        before, after = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in (self._small, small))
        rows, columns = np.indices(after.shape, np.float32)
        places = np.dstack([columns, rows])
        return places if min(after.shape) < self.config.smallest else places + self._flow.calc(after, before, None)

    def _fit(self, masks: Iterable[FloatArray], small: UInt8Array) -> Iterator[FloatArray]:
        """The guided filter: each window explains masks, float32 (h, w), by a linear function of its colours."""
        mean = partial(cv2.blur, ksize=(2 * self.config.radius + 1,) * 2)
        rgb, noise = small.astype(np.float32) / 255, self.config.noise * np.eye(3, dtype=np.float32)
        colour = mean(rgb)
        a, b, c = (mean(rgb * rgb[..., k, None]) - colour * colour[..., k, None] + noise[k] for k in range(3))
        adjugate = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], 2)
        inverse = adjugate / np.einsum("hwi,hwi->hw", a, adjugate[..., 0, :])[..., None, None]
        for mask in masks:
            cover = mean(mask)
            covariance = mean(rgb * mask[..., None]) - colour * cover[..., None]
            slope = np.einsum("hwij,hwj->hwi", inverse, covariance)
            offset = cover - np.einsum("hwi,hwi->hw", slope, colour)
            yield np.einsum("hwi,hwi->hw", mean(slope), rgb) + mean(offset)

    def _apply(self, prompts: Sequence[ObjectPrompt], rgb: UInt8Array, upcoming: UInt8Array | None) -> None:
        """Give prompted objects their masks; the pixels are taken from all others, and from those after them."""
        given = {prompt.object_id: prompt.mask for prompt in prompts if prompt.mask is not None}
        if drawn := [prompt for prompt in prompts if prompt.mask is None]:
            found = self.segmenter.embed(rgb, upcoming).answer(drawn, previous=self._masks)
            given |= {each.object_id: each.best for each in found}
        free = np.ones(rgb.shape[:2], bool)
        for object_id in sorted(given):
            given[object_id], free = given[object_id] & free, free & ~given[object_id]
        kept = {object_id: mask & free for object_id, mask in self._masks.items()}
        self._masks = dict(sorted((kept | given).items()))
        self._scores = {i: 1.0 if i in given else self._scores[i] for i in self._masks}
