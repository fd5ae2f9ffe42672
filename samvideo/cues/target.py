"""One tracked object: its appearance models, and the cues for it in a new frame."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from samvideo.cues.beside import beside
from samvideo.cues.classifier import Perceptron, Samples
from samvideo.cues.colour import GlobalColour, local_colour_logits
from samvideo.cues.motion import motion_logits
from samvideo.cues.patch import Patch, Region
from samvideo.cues.redetection import Likeness, PresenceConfig, find_again
from samvideo.cues.smoothing import SmoothingConfig, neighbour_weights, smooth
from samvideo.cues.view import FEATURES, View
from samvideo.cues.warp import warp
from samvideo.types import BoolArray, FloatArray, UInt8Array

_INPUTS = FEATURES + 3


@dataclass(frozen=True)
class TargetConfig:
    """Weights of the cues and settings of the models; tuned on the training set of DAVIS 2016.

    Attributes:
        warp, global_colour, local_colour, classifier, motion: weights of the log-odds of each cue.
        bias: added to their sum.
        keep: share of the prompted frame in the colour histograms.
        hidden: units of the classifier's hidden layers.
        rate: its learning rate.
        start_steps, frame_steps: its steps on a prompted frame and on others; three objects or more share the
            latter of two.
        batch: samples per step, half of them from prompted frames.
        stored: samples kept from prompted frames, and as many from others.
        placeless: share of samples without position, so that appearance alone is learned too.
        smoothing: of the summed cues.
        presence: when the object is lost and found again.
    """

    warp: float = 0.25
    global_colour: float = 0.35
    local_colour: float = 0.3
    classifier: float = 0.5
    motion: float = 0.8
    bias: float = -0.9
    keep: float = 0.5
    hidden: int = 64
    rate: float = 3e-3
    start_steps: int = 150
    frame_steps: int = 8
    batch: int = 1536
    stored: int = 6000
    placeless: float = 0.25
    smoothing: SmoothingConfig = field(default_factory=SmoothingConfig)
    presence: PresenceConfig = field(default_factory=PresenceConfig)


@dataclass(frozen=True, eq=False)
class Passage:
    """Optical flow from the previous frame, with its reliability.

    Attributes:
        backward: float32 (h, w, 2) flow to the previous frame.
        places: `warp.sources` of it.
        trust: float32 (h, w) in [0, 1].
        words: uint8 (h, w), colour clusters of the previous frame, warped.
    """

    backward: FloatArray
    places: FloatArray
    trust: FloatArray
    words: UInt8Array


@dataclass(frozen=True, eq=False)
class Scene:
    """What all objects share of one frame: the view, its colour bins and colour clusters."""

    view: View
    bins: NDArray[np.int32]
    words: UInt8Array


@dataclass(frozen=True, eq=False)
class Evidence:
    """The cues of an object: log-odds, float32 (h, w) over one region.

    Attributes:
        history: the belief of the frame before, warped along the flow and weighted by its reliability.
        colour, local_colour: from the colours of the object in all the video, and nearby on the frame before.
        motion: from the motion of the pixels.
        learned: from the classifier that is trained during tracking.
    """

    history: FloatArray
    colour: FloatArray
    local_colour: FloatArray
    motion: FloatArray
    learned: FloatArray


class Target:
    """The models of one object and its belief on the last frame.

    Attributes:
        belief: float32 (h, w), probability of the object at working size.
        present: whether it is in view.
        score: confidence in the mask, 0 to 1.
        exact: whether its first mask was given, not estimated from a box or clicks.
    """

    def __init__(self, config: TargetConfig) -> None:
        self.config = config
        self._rng = np.random.default_rng(0)
        self._colour = GlobalColour(config.keep)
        self._network = Perceptron(_INPUTS, config.hidden, config.rate, self._rng)
        self._shown = Samples(_INPUTS, config.stored)
        self._seen = Samples(_INPUTS, config.stored)
        self.belief = np.zeros((0, 0), np.float32)
        self.present, self.score, self.exact = False, 0.0, True
        self._first_area = self._usual_area = 0.0
        self._due = 0
        self._practice: Future[None] | None = None
        self._place, self._reach = ((0.0, 0.0), 1.0), np.inf
        self._likeness = Likeness(config.presence.rate)

    def teach(self, scene: Scene, mask: FloatArray, exact: bool = True) -> None:
        """Initialise from a prompt.

        Args:
            scene: the prompted frame.
            mask: float32 (h, w) in [0, 1] at working size.
            exact: whether the mask was given, not estimated from a box or clicks.
        """
        self.belief, self.exact = mask, exact
        self._first_area = self._usual_area = float(mask.sum())
        self.present = bool((mask > 0.5).any())
        self._place, self._reach = _placement(mask), 0.0
        self.score = float(self.present)
        self._likeness.learn(scene.view.levels, mask > 0.5)
        region = around(mask, 40)
        self._colour.learn(scene.bins, mask, _outside(mask, region))
        self._settle()
        self._pause()
        columns, targets = self._sample(scene, mask, region, self.config.stored // 2)
        self._shown.add(columns, targets)
        self._due = self.config.start_steps

    def finish_training(self) -> None:
        """Wait until the helper thread has trained the classifier."""
        self._pause()

    def _pause(self) -> None:
        """Wait for the training of the classifier, which runs in the helper thread."""
        if self._practice is not None:
            self._practice.result()
        self._practice = None

    def _settle(self) -> None:
        """Start the initial training of the classifier; deferred to its first use, which previews never reach."""
        if self._due:
            self._practice = beside(partial(self._study, self._due))
        self._due = 0

    def _study(self, steps: int) -> None:
        for _ in range(steps):
            self._train(self._shown.draw(self.config.batch, self._rng))

    def expect(self, scene: Scene, passage: Passage) -> Patch:
        """Predict where the object may be in a new frame, with log-odds there."""
        if not self.present:
            return self._search(scene)
        carried = warp(self.belief, passage.places)
        region = around(carried, 24, 0.35)
        if self._cut(passage, region):
            return self._search(scene)
        logits = self.weigh(self.gather(scene, passage, region, carried), scene.view.lab[region])
        return Patch.of(region, logits, scene.view.shape)

    def _cut(self, passage: Passage, region: Region) -> bool:
        """Detect a scene cut, after which the object may be anywhere."""
        cut = bool(passage.trust[region].mean() < self.config.presence.cut)
        if cut:
            self._reach = np.inf
        return cut

    def _within(self, shape: tuple[int, int]) -> BoolArray:
        """Return where a lost object may be by now, bool (h, w)."""
        (x, y), size = self._place
        self._reach += self.config.presence.speed * shape[1]
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        near: BoolArray = np.hypot(columns - x, rows - y) <= size + self._reach
        return near

    def weigh(self, evidence: "Evidence", lab: FloatArray) -> FloatArray:
        """Sum the cues with fixed weights and align them with the edges of the image (h, w, 3) in Lab."""
        config = self.config
        unary = config.warp * evidence.history + config.motion * evidence.motion
        unary += config.global_colour * evidence.colour + config.local_colour * evidence.local_colour
        unary += config.classifier * evidence.learned + np.float32(config.bias)
        return smooth(unary, neighbour_weights(lab, config.smoothing), config.smoothing.steps)

    def gather(self, scene: Scene, passage: Passage, region: Region, carried: FloatArray) -> "Evidence":
        """Compute all cues in a region, given the belief warped to this frame."""
        self._settle()
        near, trust = carried[region], passage.trust[region]
        columns = _columns(scene.view.features[:, region[0], region[1]], region, *_placement(carried))
        learned = beside(lambda: np.clip(self._network.logits(columns), -4, 4).reshape(near.shape))
        return Evidence(
            history=np.clip(_logit(near), -4, 4) * (np.float32(0.3) + np.float32(0.7) * trust),
            colour=self._colour.logits(scene.bins[region]),
            local_colour=local_colour_logits(scene.words[region], passage.words[region], near),
            motion=motion_logits(passage.backward[region], near),
            learned=learned.result(),
        )

    def _search(self, scene: Scene) -> Patch:
        """Search a lost object in the whole frame."""
        whole = slice(0, scene.view.shape[0]), slice(0, scene.view.shape[1])
        colour, learned = self.looks_like(scene)
        odds = np.float32(0.5) * (colour + learned)
        found = self._find(scene, odds)
        if found is None:
            logits = np.full(odds.shape, np.float32(-8))
        else:
            logits = np.where(found, np.maximum(odds, 1), np.float32(-8))
        return Patch.of(whole, logits, scene.view.shape)

    def _find(self, scene: Scene, odds: FloatArray) -> BoolArray | None:
        within = self._within(scene.view.shape)
        return find_again(odds, scene.view.levels, self._likeness, self._usual_area, within, self.config.presence)

    def looks_like(self, scene: Scene) -> tuple[FloatArray, FloatArray]:
        """Compute log-odds float32 (h, w) of colour and classifier over the whole frame, without position."""
        self._settle()
        whole = slice(0, scene.view.shape[0]), slice(0, scene.view.shape[1])
        colour = self._colour.logits(scene.bins)
        columns = _columns(scene.view.features, whole, (0.0, 0.0), np.inf)
        columns[FEATURES:] = 0  # the position is unknown
        learned = beside(lambda: self._network.logits(columns)).result()
        return colour, np.clip(learned, -4, 4).reshape(colour.shape)

    def follow(self, scene: Scene, belief: FloatArray, objects: int = 1) -> None:
        """Adapt to a frame.

        Args:
            scene: the frame.
            belief: float32 (h, w), probability of the object after the competition of all objects.
            objects: number of tracked objects; more objects get less training time each.
        """
        self.belief = belief
        self._judge(scene)
        if not self.present:
            self.belief = np.zeros_like(belief)
            return
        self._place, self._reach = _placement(belief), 0.0
        area = float(belief.sum())
        if area < 0.1 * self._first_area:
            return
        self._usual_area += 0.1 * (area - self._usual_area)  # slowly, since an object that leaves shrinks first
        region = around(belief, 40)
        self._colour.follow(scene.bins, belief, _outside(belief, region))
        self._pause()
        self._seen.add(*self._sample(scene, belief, region, 250))
        steps = min(self.config.frame_steps, max(1, 2 * self.config.frame_steps // objects))
        self._practice = beside(partial(self._practise, steps))

    def _practise(self, steps: int) -> None:
        half = self.config.batch // 2
        for _ in range(steps):
            self._train(self._shown.draw(half, self._rng), self._seen.draw(half, self._rng))

    def _train(self, *batches: tuple[FloatArray, FloatArray]) -> None:
        """Take one step; a share of the samples has no position, so that appearance alone is learned too."""
        for columns, _ in batches:
            columns[FEATURES:, : round(self.config.placeless * columns.shape[1])] = 0
        self._network.train(np.concatenate([b[0] for b in batches], 1), np.concatenate([b[1] for b in batches]))

    def _judge(self, scene: Scene) -> None:
        """Set `present` and `score` from the size, sharpness and colours of the mask."""
        region = around(self.belief, 0)
        near = self.belief[region]
        inside = near > 0.5
        levels = scene.view.levels[region]
        alike = self._likeness.of(levels, inside)
        self.score = alike * float(near[inside].mean()) if inside.any() else 0.0
        large_enough = inside.sum() >= min(4.0, 0.1 * self._usual_area)  # more than stray pixels
        self.present = bool(large_enough and alike > self.config.presence.lose)
        if self.present:
            self._likeness.follow(levels, inside)

    def _sample(
        self, scene: Scene, belief: FloatArray, region: Region, count: int
    ) -> tuple[FloatArray, FloatArray]:
        """Sample up to `count` certain pixels each of object and surroundings, as classifier input."""
        near = belief[region]
        rows, columns = [], []
        for sure in (near > 0.8, near < 0.2):
            y, x = np.nonzero(sure)
            if len(y):
                chosen = self._rng.integers(0, len(y), min(count, len(y)))
                rows.append(y[chosen] + region[0].start)
                columns.append(x[chosen] + region[1].start)
        if not rows:
            return np.zeros((_INPUTS, 0), np.float32), np.zeros(0, np.float32)
        y, x = np.concatenate(rows), np.concatenate(columns)
        (cx, cy), size = _placement(belief)
        inputs = np.empty((_INPUTS, len(y)), np.float32)
        inputs[:FEATURES] = scene.view.features[:, y, x]
        inputs[FEATURES] = np.clip((x - cx) / size, -3, 3)
        inputs[FEATURES + 1] = np.clip((y - cy) / size, -3, 3)
        inputs[FEATURES + 2] = 1
        return inputs, np.where(belief[y, x] > 0.5, np.float32(0.98), np.float32(0.02))


def _logit(p: FloatArray) -> FloatArray:
    p = np.clip(p, np.float32(1e-4), np.float32(1 - 1e-4))
    out: FloatArray = np.log(p / (1 - p))
    return out


def around(belief: FloatArray, margin: int, share: float = 0.0) -> Region:
    """Return the box around a belief, grown by a margin and a share of its size; even start, never empty."""
    inside = (belief > 0.3).view(np.uint8)
    x, y, w, h = cv2.boundingRect(inside)
    grow = margin + round(share * max(w, h))
    rows = slice(max(0, y - grow) & ~1, min(belief.shape[0], y + h + grow))
    columns = slice(max(0, x - grow) & ~1, min(belief.shape[1], x + w + grow))
    return rows, columns


def _outside(belief: FloatArray, region: Region) -> FloatArray:
    """Return the weight of each pixel as background, highest around the object."""
    weight = (1 - belief) * np.float32(0.15)
    weight[region] = 1 - belief[region]
    return weight


def _placement(belief: FloatArray) -> tuple[tuple[float, float], float]:
    """Return the centre (x, y) and the square root of the area."""
    total = float(belief.sum())
    if total < 1:
        return (belief.shape[1] / 2, belief.shape[0] / 2), 1.0
    x = float(belief.sum(0) @ np.arange(belief.shape[1], dtype=np.float32)) / total
    y = float(belief.sum(1) @ np.arange(belief.shape[0], dtype=np.float32)) / total
    return (x, y), float(np.sqrt(total))


def _columns(planes: FloatArray, region: Region, centre: tuple[float, float], size: float) -> FloatArray:
    """Build classifier input (inputs, h * w) from the feature planes of a region."""
    count, height, width = planes.shape
    inputs = np.empty((_INPUTS, height, width), np.float32)
    inputs[:count] = planes
    x = np.arange(region[1].start, region[1].stop, dtype=np.float32)
    y = np.arange(region[0].start, region[0].stop, dtype=np.float32)
    inputs[count] = np.clip((x - centre[0]) / size, -3, 3)
    inputs[count + 1] = np.clip((y - centre[1]) / size, -3, 3)[:, None]
    inputs[count + 2] = 1
    return inputs.reshape(_INPUTS, -1)
