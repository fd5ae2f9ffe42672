"""The tracker that needs no weights: optical flow, colours, motion and a classifier learned while it watches."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from samvideo.errors import VideoError
from samvideo.trackers.objects import ObjectPrompt, group_prompts
from samvideo.trackers.parts.colour import Codebook, colour_bins
from samvideo.trackers.parts.prompting import box_to_mask, clicks_to_mask
from samvideo.trackers.parts.target import Passage, Region, Scene, Target, TargetConfig
from samvideo.trackers.parts.view import View
from samvideo.trackers.parts.warp import DenseFlow, consistency, sources, warp
from samvideo.types import BoolArray, FloatArray, Frame, FrameResult, Prompt


@dataclass(frozen=True)
class FlowConfig:
    """Settings of `FlowTracker`.

    Attributes:
        longest: longer side of the working picture in pixels.
        preset: OpenCV's preset of the optical flow, 0 ultra fast to 2 medium.
        words: colours of the codebook for local colour.
        target: settings of each object's models.
    """

    longest: int = 428
    preset: int = 2
    words: int = 64
    target: TargetConfig = field(default_factory=TargetConfig)


class FlowTracker:
    """Follows any number of objects without a network; implements `samvideo.trackers.base.Tracker`.

    Each object gathers evidence in a region around where the flow carries it; the objects compete for every
    pixel. State: the previous working picture, and for each object its models and one probability map.
    """

    def __init__(self, config: FlowConfig | None = None) -> None:
        self.config = config or FlowConfig()
        self._flow = DenseFlow(self.config.preset)
        self.reset()

    def reset(self) -> None:
        """Forget everything, ready for another video."""
        self._targets: dict[int, Target] = {}
        self._scene: Scene | None = None
        self._codebook: Codebook | None = None
        self._frame_wh: tuple[int, int] | None = None

    def forget(self, object_id: int) -> None:
        """Stop tracking one object; KeyError when it is not tracked. Its id may be used again."""
        if object_id not in self._targets:
            raise KeyError(f"object {object_id} is not tracked; tracked: {list(self._targets)}")
        del self._targets[object_id]

    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> FrameResult:
        """Take the next frame in time and return every live object's mask on it; see `Tracker.step`."""
        if self._frame_wh is not None and self._frame_wh != frame.size_wh:
            raise VideoError(
                f"frame {frame.index} is {'{}x{}'.format(*frame.size_wh)}, those before it "
                f"{'{}x{}'.format(*self._frame_wh)}: one size expected; reset the tracker or resize the frames"
            )
        told = group_prompts(prompts, self._targets, frame.size_wh)
        self._frame_wh = frame.size_wh
        view = View(frame.rgb, self.config.longest)
        found = self._follow(view)
        masks = self._compete(found, frame)
        self._obey(frame, told, masks)
        self._learn(view, told, found, masks)
        return self._result(frame, masks)

    def _follow(self, view: View) -> dict[int, tuple[Region, FloatArray]]:
        """Evidence for every object that was tracked on the frame before."""
        if not self._targets or self._scene is None or self._codebook is None:
            self._scene = None
            return {}
        before = self._scene
        flow = self._flow.between(before.view.gray, view.gray)
        places = sources(flow.backward)
        change = np.square(warp(before.view.lab, places) - view.lab).sum(2)
        words = warp(before.words, places, nearest=True).astype(np.uint8, copy=False)
        passage = Passage(flow.backward, places, consistency(flow, places, change), words)
        self._scene = Scene(view, colour_bins(view.levels), self._codebook.assign(view.levels))
        return {i: target.expect(self._scene, passage) for i, target in self._targets.items()}

    def _compete(self, found: dict[int, tuple[Region, FloatArray]], frame: Frame) -> dict[int, BoolArray]:
        """Masks at frame size: every pixel goes to the object with the strongest evidence, or to none."""
        width, height = frame.size_wh
        best, owner = np.zeros((height, width), np.float32), np.zeros((height, width), np.int32)
        for object_id, (region, logits) in found.items():
            area, large = _enlarge(region, logits, self._scene.view.shape, (height, width))
            wins = large > best[area]
            best[area][wins] = large[wins]
            owner[area][wins] = object_id
        return {i: owner == i for i in found}

    def _obey(self, frame: Frame, told: list[ObjectPrompt], masks: dict[int, BoolArray]) -> None:
        """Replace the masks of prompted objects; what they hold is taken from all others."""
        empty = np.zeros(frame.rgb.shape[:2], bool)
        given: dict[int, BoolArray] = {}
        free = ~empty
        for prompt in told:
            if prompt.mask is not None:
                mask = prompt.mask
            elif prompt.box is not None:
                mask = box_to_mask(frame.rgb, prompt.box, prompt.xy, prompt.labels)
            else:
                mask = clicks_to_mask(frame.rgb, prompt.xy, prompt.labels, masks.get(prompt.object_id, empty))
            given[prompt.object_id] = mask & free
            free &= ~mask
        for object_id in masks:
            masks[object_id] = masks[object_id] & free
        masks.update(given)

    def _learn(
        self,
        view: View,
        told: list[ObjectPrompt],
        found: dict[int, tuple[Region, FloatArray]],
        masks: dict[int, BoolArray],
    ) -> None:
        """Prompted objects learn their looks, the others adapt."""
        names = {prompt.object_id for prompt in told}
        small = {i: _shrink(masks[i], view.shape) for i in names}
        if names:
            self._codebook = Codebook(_palette(view, small), self.config.words)
        if self._codebook is None:
            return
        if self._scene is None or names:
            self._scene = Scene(view, colour_bins(view.levels), self._codebook.assign(view.levels))
        for object_id in sorted(names):
            self._targets.setdefault(object_id, Target(self.config.target)).teach(self._scene, small[object_id])
        self._targets = dict(sorted(self._targets.items()))
        odds = {i: pair for i, pair in found.items() if i not in names}
        for object_id, belief in _share(odds, small, view.shape).items():
            self._targets[object_id].follow(self._scene, belief, found[object_id][0])

    def _result(self, frame: Frame, masks: dict[int, BoolArray]) -> FrameResult:
        ids = tuple(self._targets)
        stack = np.zeros((len(ids), *frame.rgb.shape[:2]), bool)
        scores = np.zeros(len(ids), np.float32)
        for k, object_id in enumerate(ids):
            target = self._targets[object_id]
            scores[k] = target.score
            if target.present:
                stack[k] = masks[object_id]
        return FrameResult(frame.index, frame.seconds, ids, stack, scores, stack.any((1, 2)))


def _share(
    odds: dict[int, tuple[Region, FloatArray]], taken: dict[int, FloatArray], shape: tuple[int, int]
) -> dict[int, FloatArray]:
    """Probabilities of objects that exclude each other, float32 (h, w) each, at working size."""
    weights = {}
    total = np.ones(shape, np.float32)
    for object_id, (region, logits) in odds.items():
        weights[object_id] = np.exp(np.minimum(logits, 20))
        total[region] += weights[object_id]
    free = np.ones(shape, np.float32)
    for mask in taken.values():
        free = np.minimum(free, 1 - mask)
    beliefs = {}
    for object_id, (region, _) in odds.items():
        belief = np.zeros(shape, np.float32)
        belief[region] = weights[object_id] / total[region] * free[region]
        beliefs[object_id] = belief
    return beliefs


def _enlarge(
    region: Region, logits: FloatArray, from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> tuple[Region, FloatArray]:
    """A region's log-odds at frame size, and where they belong."""
    down, across = to_hw[0] / from_hw[0], to_hw[1] / from_hw[1]
    rows = slice(int(region[0].start * down), min(to_hw[0], int(np.ceil(region[0].stop * down))))
    columns = slice(int(region[1].start * across), min(to_hw[1], int(np.ceil(region[1].stop * across))))
    x = (columns.start + 0.5) / across - 0.5 - region[1].start
    y = (rows.start + 0.5) / down - 0.5 - region[0].start
    matrix = np.array([[1 / across, 0, x], [0, 1 / down, y]], np.float32)
    large = cv2.warpAffine(
        logits,
        matrix,
        (columns.stop - columns.start, rows.stop - rows.start),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return (rows, columns), large


def _shrink(mask: BoolArray, shape: tuple[int, int]) -> FloatArray:
    """A mask at working size, as the covered share of each pixel."""
    small: FloatArray = cv2.resize(mask.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    return small


def _palette(view: View, masks: dict[int, FloatArray]) -> FloatArray:
    """Colours (N, 3) to build a codebook from: half of them from the objects."""
    rng = np.random.default_rng(0)
    levels = view.levels.reshape(-1, 3)
    chosen = [rng.integers(0, len(levels), 3000)]
    for mask in masks.values():
        inside = np.flatnonzero(mask.ravel() > 0.5)
        if len(inside):
            chosen.append(rng.choice(inside, 3000 // len(masks) + 1))
    return levels[np.concatenate(chosen)].astype(np.float32)
