"""The frame loop of trackers that gather cheap evidence: the objects compete for every pixel, and learn from it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import cv2
import numpy as np

from samvideo.errors import VideoError
from samvideo.trackers.guess import Guess, is_guess
from samvideo.trackers.objects import ObjectPrompt, group_prompts
from samvideo.trackers.parts.colour import Codebook, colour_bins
from samvideo.trackers.parts.motion import own_motion
from samvideo.trackers.parts.patch import Patch, Region
from samvideo.trackers.parts.target import Passage, Scene, Target
from samvideo.trackers.parts.view import View
from samvideo.trackers.parts.warp import DenseFlow, consistency, sources, warp
from samvideo.types import BoolArray, FloatArray, Frame, FrameResult, Prompt, UInt8Array

_SAME = 0.9  # overlap of a mask drawn again with the one that was drawn, above which nothing was gained


class Pursuit(ABC):
    """Follows any number of objects; implements all of `samvideo.trackers.base.Tracker` but two decisions.

    Each object gathers evidence in a region around where the flow carries it; the objects compete for every
    pixel. State: the previous working picture, and for each object its models and one probability map.

    Args:
        longest: longer side of the working picture in pixels.
        stride: pixels from patch to patch of the optical flow.
        words: colours of the codebook for local colour.
        by_motion: whether masks are drawn by how things move until the next frame. Where it was not foreseen, a
            mask guessed from a box or a click is drawn again when it comes.
    """

    def __init__(self, longest: int, stride: int, words: int, by_motion: bool = False) -> None:
        self._longest, self._words, self._by_motion = longest, words, by_motion
        self._flow, self._smooth_flow = DenseFlow(stride), DenseFlow(smooth=True)
        self.reset()

    @abstractmethod
    def new_target(self) -> Target:
        """The models of a new object."""

    @abstractmethod
    def first_mask(
        self, rgb: UInt8Array, prompt: ObjectPrompt, before: BoolArray, motion: FloatArray | None = None
    ) -> BoolArray:
        """bool (H, W): what a box or clicks mean.

        Args:
            rgb: the frame.
            prompt: with a box or clicks.
            before: the object's mask without them, empty if new.
            motion: `samvideo.trackers.parts.motion.own_motion` towards the next frame, if known.
        """

    def reset(self) -> None:
        """Forget everything, ready for another video."""
        self._targets: dict[int, Target] = {}
        self._guess: Guess | None = None
        self._next: Frame | None = None
        self._scene: Scene | None = None
        self._codebook: Codebook | None = None
        self._frame_wh: tuple[int, int] | None = None

    def forget(self, object_id: int) -> None:
        """Stop tracking one object; KeyError when it is not tracked. Its id may be used again."""
        if object_id not in self._targets:
            raise KeyError(f"object {object_id} is not tracked; tracked: {list(self._targets)}")
        del self._targets[object_id]
        self._doubt_no_more(object_id)

    def _doubt_no_more(self, object_id: int) -> None:
        if self._guess is not None:
            self._guess.prompts.pop(object_id, None)

    def foresee(self, frame: Frame) -> None:
        """Show the frame after the one that `step` takes next; see `samvideo.trackers.base.Foresight`."""
        self._next = frame

    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> FrameResult:
        """Take the next frame in time and return every live object's mask on it; see `Tracker.step`."""
        following, self._next = self._next, None
        if self._frame_wh is not None and self._frame_wh != frame.size_wh:
            raise VideoError(
                f"frame {frame.index} is {'{}x{}'.format(*frame.size_wh)}, those before it "
                f"{'{}x{}'.format(*self._frame_wh)}: one size expected; reset the tracker or resize the frames"
            )
        told = group_prompts(prompts, self._targets, frame.size_wh)
        self._frame_wh = frame.size_wh
        view = View(frame.rgb, self._longest)
        self._look_back(view)
        found = self._follow(view)
        masks = self._compete(found, frame)
        self._obey(view, told, masks, self._movement(view, told, following))
        self._learn(view, told, found, masks)
        return self._result(frame, masks)

    def _follow(self, view: View) -> dict[int, Patch]:
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

    def _look_back(self, view: View) -> None:
        """Draw the masks guessed a frame ago again, by how things moved since, and follow them from there."""
        guess, self._guess = self._guess, None
        if guess is None or not guess.prompts:
            return
        motion = own_motion(self._smooth_flow, guess.view, view)
        for object_id, prompt in guess.prompts.items():
            held = guess.masks[object_id]
            others = [mask for i, mask in guess.masks.items() if i != object_id]
            mask = self.first_mask(guess.view.full, prompt, np.zeros_like(held), motion)
            mask &= ~np.any([np.zeros_like(held), *others], 0)
            if mask.any() and (mask & held).sum() <= _SAME * (mask | held).sum():
                guess.masks[object_id] = mask
                self._relearn(guess, object_id)

    def _relearn(self, guess: Guess, object_id: int) -> None:
        """Put a target in place of another that learned from a poorer mask."""
        assert self._codebook is not None
        view = guess.view
        scene = Scene(view, colour_bins(view.levels), self._codebook.assign(view.levels))
        target = self._targets[object_id] = self.new_target()
        target.teach(scene, _shrink(guess.masks[object_id], view.shape), exact=False)

    def _movement(self, view: View, told: list[ObjectPrompt], following: Frame | None) -> FloatArray | None:
        """How things move towards the next frame, if it is known and there are masks to be drawn."""
        if not self._by_motion or following is None or following.size_wh != self._frame_wh:
            return None
        if all(prompt.mask is not None for prompt in told):
            return None
        return own_motion(self._smooth_flow, view, View(following.rgb, self._longest))

    def _obey(
        self, view: View, told: list[ObjectPrompt], masks: dict[int, BoolArray], motion: FloatArray | None
    ) -> None:
        """Replace the masks of prompted objects; what they hold is taken from all others."""
        empty = np.zeros(view.full.shape[:2], bool)
        given: dict[int, BoolArray] = {}
        guessed: dict[int, ObjectPrompt] = {}
        free = ~empty
        for prompt in told:
            self._doubt_no_more(prompt.object_id)
            mask, before = prompt.mask, masks.get(prompt.object_id, empty)
            if mask is None:
                mask = self.first_mask(view.full, prompt, before, motion)
                if is_guess(prompt, before) and motion is None:
                    guessed[prompt.object_id] = prompt
            given[prompt.object_id] = mask & free
            free &= ~mask
        for object_id in masks:
            masks[object_id] = masks[object_id] & free
        masks.update(given)
        if guessed and self._by_motion:
            self._guess = Guess(view, guessed, masks)

    def _learn(
        self,
        view: View,
        told: list[ObjectPrompt],
        found: dict[int, Patch],
        masks: dict[int, BoolArray],
    ) -> None:
        """Prompted objects learn their looks, the others adapt."""
        exact = {prompt.object_id: prompt.mask is not None for prompt in told}
        names = set(exact)
        small = {i: _shrink(masks[i], view.shape) for i in names}
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
