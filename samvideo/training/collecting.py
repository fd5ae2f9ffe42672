"""Record on-policy training data: run the tracker on generated clips, keep its network's input and the truth."""

from dataclasses import dataclass

import numpy as np
import torch

from samvideo.cues.crop import Window
from samvideo.cues.target import Scene, Target
from samvideo.nano.network import LOGITS, VALID
from samvideo.nano.runtime import SIDE, Networks
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.trackers.nano import NanoConfig, NanoTarget, NanoTracker
from samvideo.training.clips import SMALLEST, TrainingClip, jitter_box, perturb_mask
from samvideo.types import BoolArray, Box, FloatArray, Frame, Mask, Prompt

STEP = 32.0  # planes are stored as bytes in steps of 1/32
LOOKS = [0, 1, 2, VALID]  # planes that memories consist of
_POOR, _GUESSED = 0.1, 0.3  # shares of clips that start from a perturbed mask, and from the GrabCut mask of a box


@dataclass(frozen=True, eq=False)
class RecordedClip:
    """The input of the network on one clip, with the ground truth.

    Attributes:
        planes: int8 (T, EVIDENCE, S, S) in steps of 1/32.
        truth: uint8 (T, S, S), 255 on the object.
        looks: int8 (M, 4, S, S) crops in memory.
        beliefs: uint8 (M, S, S) probabilities of the object on them.
        memory: int (T, 2) indices of the two memories that were used.
        made_of: str (N,) names of the sequences that the clip is taken from.
    """

    planes: np.ndarray
    truth: np.ndarray
    looks: np.ndarray
    beliefs: np.ndarray
    memory: np.ndarray
    made_of: np.ndarray


class RecordingTarget(NanoTarget):
    """Records the input of the network; if that is untrained, the hand-weighted cues decide."""

    def __init__(self, config: NanoConfig, networks: Networks, trained: bool) -> None:
        super().__init__(config, networks)
        self._trained = trained
        self.seen: list[tuple[Window, FloatArray]] = []
        self.looks: list[tuple[FloatArray, FloatArray]] = []
        self.compared = (0, 0)

    def teach(self, scene: Scene, mask: FloatArray, exact: bool = True) -> None:
        """See `NanoTarget.teach`."""
        super().teach(scene, mask, exact)
        self.looks = [(self.planes[LOOKS], self.belief_crop())]
        self.compared = (0, 0)

    def ask(self, window: Window, planes: FloatArray) -> FloatArray:
        """See `NanoTarget.ask`."""
        self.seen.append((window, planes))
        if self._trained:
            return super().ask(window, planes)
        self.window, self.planes, self.quality = window, planes, 1.0
        with torch.inference_mode():
            odds: FloatArray = self._networks.fusion.linear(torch.from_numpy(planes[LOGITS]))[0].numpy()
        return odds

    def _trust(self, asked: FloatArray, carried: FloatArray) -> np.float32:
        return super()._trust(asked, carried) if self._trained else np.float32(0)

    def _judge(self, scene: Scene) -> None:
        if self._trained:
            super()._judge(scene)
        else:
            Target._judge(self, scene)
            self.presence = 2.0 if self.present else -2.0

    def follow(self, scene: Scene, belief: FloatArray, objects: int = 1) -> None:
        """See `NanoTarget.follow`."""
        super().follow(scene, belief, objects)
        if self.seen and self._age == 0:  # the memory was renewed
            self.looks.append((self.planes[LOOKS], self.belief_crop()))
            self.compared = (0, len(self.looks) - 1)


class RecordingTracker(NanoTracker):
    """A `NanoTracker` for training; `target` is its only object."""

    def __init__(self, networks: Networks, trained: bool) -> None:
        self.trained = trained
        super().__init__(networks, NanoConfig(sides=(SIDE,)), GrabCutSegmenter())

    def new_target(self) -> Target:
        """See `RecordingTarget`."""
        self.target = RecordingTarget(self.config, self._networks, self.trained)
        return self.target


def record(tracker: RecordingTracker, clip: TrainingClip, rng: np.random.Generator) -> RecordedClip | None:
    """Track one clip from its first mask, a perturbed one or a box; None if the network was never used."""
    tracker.reset()
    tracker.step(Frame(0, 0.0, np.ascontiguousarray(clip.rgb[0])), [_first(clip.masks[0], rng)])
    target, failing = tracker.target, 0
    rows: list[tuple[FloatArray, FloatArray, tuple[int, int]]] = []
    for t in range(1, len(clip.rgb)):
        target.seen.clear()
        compared = target.compared
        result = tracker.step(Frame(t, t / 24, np.ascontiguousarray(clip.rgb[t])))
        truth = clip.masks[t]
        for window, planes in target.seen:
            rows.append((planes, window.cut(truth.view(np.uint8) * 255, SIDE), compared))
        failing = failing + 1 if _failed(result.masks[0], truth) else 0
        if failing > 3:
            if rng.random() < 0.5:
                break
            failing = 0
            target.belief, target.present = truth.astype(np.float32), bool(truth.sum() > SMALLEST)
    if not rows:
        return None
    inputs, truths, memory = zip(*rows, strict=True)
    looks, beliefs = zip(*target.looks, strict=True)
    held, names = (np.stack(beliefs) * 255).astype(np.uint8), np.array(sorted(clip.made_of))
    return RecordedClip(_bytes(inputs), np.stack(truths), _bytes(looks), held, np.array(memory), names)


def _first(mask: BoolArray, rng: np.random.Generator) -> Prompt:
    kind = rng.random()
    if kind < _GUESSED:
        return Box(jitter_box(mask, rng))
    return Mask(perturb_mask(mask, rng) if kind < _GUESSED + _POOR else mask)


def _failed(mask: BoolArray, truth: BoolArray) -> bool:
    if truth.sum() <= SMALLEST:
        return bool(mask.sum() > SMALLEST)
    return bool((mask & truth).sum() < 0.35 * (mask | truth).sum())


def _bytes(planes: tuple[FloatArray, ...]) -> np.ndarray:
    return np.clip(np.rint(np.stack(planes) * STEP), -127, 127).astype(np.int8)
