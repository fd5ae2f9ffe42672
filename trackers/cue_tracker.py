"""Frame loop of the cue-based trackers: objects gather evidence and compete for every pixel."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from samvideo.cues.colour import Codebook, colour_bins
from samvideo.cues.patch import Patch, Region
from samvideo.cues.target import Passage, Scene, Target
from samvideo.cues.view import View
from samvideo.cues.warp import DenseFlow, consistency, sources, warp
from samvideo.io.snapshot import dump_state, load_state
from samvideo.object_prompts import ObjectPrompt, group_prompts, size_changed
from samvideo.segmenters.base import Segmenter
from samvideo.types import BoolArray, FloatArray, Frame, FrameResult, Prompt

_STATE_MODULES = ("samvideo.cues.", "samvideo.trackers.cue_tracker", "samvideo.trackers.nano")


@dataclass(eq=False)
class _CurrentFrame:
    """The newest frame and the masks found on it, by object id."""

    index: int
    view: View
    masks: dict[int, BoolArray]


class CueTracker(ABC):
    """Tracks any number of objects by cues; implements `samvideo.trackers.base.Tracker`.

    Each object gathers evidence in a region around where the flow carries it; the objects compete for every
    pixel. State: the newest frame at working size, and for each object its models and one probability map.

    Args:
        longest: longer side of the working image in pixels.
        stride: pixels from patch to patch of the optical flow.
        words: colours of the codebook for local colour.
        segmenter: infers masks from boxes and clicks.
    """

    def __init__(self, longest: int, stride: int, words: int, segmenter: Segmenter) -> None:
        self._longest, self._words, self.segmenter = longest, words, segmenter
        self._flow = DenseFlow(stride)
        self.reset()

    @property
    def lookahead(self) -> int:
        """See `Tracker.lookahead`."""
        return self.segmenter.lookahead

    @abstractmethod
    def new_target(self) -> Target:
        """The models of a new object."""

    def reset(self) -> None:
        """Drop all objects and frames, ready for another video."""
        self._targets: dict[int, Target] = {}
        self._current: _CurrentFrame | None = None
        self._scene: Scene | None = None
        self._codebook: Codebook | None = None

    def forget(self, object_id: int) -> None:
        """Stop tracking one object; KeyError if it is not tracked. Its id may be used again."""
        if object_id not in self._targets:
            raise KeyError(f"object {object_id} is not tracked; tracked: {list(self._targets)}")
        del self._targets[object_id]
        if self._current is not None:
            self._current.masks.pop(object_id, None)

    def shared(self) -> Mapping[str, Any]:
        """Objects that every target refers to, by name; they are not part of the state."""
        return {}

    def state(self) -> bytes:
        """See `Tracker.state`."""
        for target in self._targets.values():
            target.finish_training()
        return dump_state(
            type(self).__name__, (self._targets, self._current, self._scene, self._codebook), self.shared()
        )

    def restore(self, state: bytes) -> None:
        """See `Tracker.restore`."""
        loaded = load_state(type(self).__name__, state, _STATE_MODULES, self.shared())
        self._targets, self._current, self._scene, self._codebook = loaded

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        """Process the next frame and return the mask of every tracked object on it; see `Tracker.step`."""
        current = self._current
        if current is not None and current.view.frame_wh != frame.size_wh:
            raise size_changed(frame, current.view.frame_wh)
        grouped = group_prompts(prompts, self._targets, frame.size_wh)
        found: dict[int, Patch] = {}
        if current is None or current.index != frame.index:
            view = View(frame.rgb, self._longest)
            found = self._predict(view)
            current = self._current = _CurrentFrame(frame.index, view, self._compete(found, frame))
        if grouped:
            self._apply_prompts(current, grouped, upcoming)
        self._learn(current, grouped, found)
        return self._result(frame, current.masks)

    def _predict(self, view: View) -> dict[int, Patch]:
        """Evidence for every object that was tracked on the frame before."""
        if not self._targets or self._scene is None or self._codebook is None:
            self._scene = None
            return {}
        before = self._scene
        flow = self._flow.between(before.view.gray, view.gray)
        places = sources(flow.backward)
        words = warp(before.words, places, nearest=True).astype(np.uint8, copy=False)
        trust = consistency(flow, places, before.view.lab, view.lab)
        passage = Passage(flow.backward, places, trust, words)
        self._scene = Scene(view, colour_bins(view.levels), self._codebook.assign(view.levels))
        return {i: target.expect(self._scene, passage) for i, target in self._targets.items()}

    def _compete(self, found: dict[int, Patch], frame: Frame) -> dict[int, BoolArray]:
        """Masks at frame size: every pixel goes to the object with the strongest evidence, or to none."""
        shape = frame.rgb.shape[:2]
        best, owner = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
        for object_id, patch in found.items():
            area, logits = patch.onto(shape)
            wins = logits > best[area]
            best[area][wins] = logits[wins]
            owner[area][wins] = object_id
        return {i: owner == i for i in found}

    def _apply_prompts(self, current: _CurrentFrame, prompts: list[ObjectPrompt], upcoming: Frame | None) -> None:
        """Replace the masks of prompted objects; their pixels are taken from all others."""
        rgb, masks = current.view.full, current.masks
        inferred: dict[int, BoolArray] = {}
        if drawn := [prompt for prompt in prompts if prompt.mask is None]:
            image = self.segmenter.embed(rgb, None if upcoming is None else upcoming.rgb)
            inferred = {found.object_id: found.best for found in image.answer(drawn, previous=masks)}
        given: dict[int, BoolArray] = {}
        free = np.ones(rgb.shape[:2], bool)
        for prompt in prompts:
            mask = inferred[prompt.object_id] if prompt.mask is None else prompt.mask
            given[prompt.object_id] = mask & free
            free &= ~mask
        for object_id in masks:
            masks[object_id] = masks[object_id] & free
        masks.update(given)

    def _learn(self, current: _CurrentFrame, prompts: list[ObjectPrompt], found: dict[int, Patch]) -> None:
        """Initialise the models of prompted objects and adapt those of the others."""
        view = current.view
        exact = {prompt.object_id: prompt.mask is not None for prompt in prompts}
        names = set(exact)
        small = {i: _shrink(current.masks[i], view.shape) for i in names}
        if names:
            self._codebook = Codebook(_palette(view, small), self._words)
        if self._codebook is None:
            return
        if self._scene is None or names:
            self._scene = Scene(view, colour_bins(view.levels), self._codebook.assign(view.levels))
        for object_id in sorted(names):
            if object_id not in self._targets:
                self._targets[object_id] = self.new_target()
            self._targets[object_id].teach(self._scene, small[object_id], exact[object_id])
        self._targets = dict(sorted(self._targets.items()))
        odds = {i: patch.onto(view.shape) for i, patch in found.items() if i not in names}
        for object_id, belief in _share(odds, small, view.shape).items():
            self._targets[object_id].follow(self._scene, belief, len(odds))
        for object_id in self._targets.keys() - names - odds.keys():  # this frame was processed before
            for mask in small.values():
                self._targets[object_id].belief = self._targets[object_id].belief * (1 - mask)

    def _result(self, frame: Frame, masks: dict[int, BoolArray]) -> FrameResult:
        ids = tuple(self._targets)
        stack = np.zeros((len(ids), *frame.rgb.shape[:2]), bool)
        scores = np.zeros(len(ids), np.float32)
        for k, object_id in enumerate(ids):
            target = self._targets[object_id]
            scores[k] = target.score
            if target.present:
                stack[k] = masks[object_id]
        return FrameResult(frame.index, frame.seconds, ids, stack, scores, np.asarray(stack.any((1, 2))))


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
