"""A runtime without networks, for scenes of a few things of known appearance: memory policies are all that decides.

Its "attention" is a weighted vote. A thing on the current frame resembles things that memory frames show; those
that the remembered mask covered vote for it, the others against it. Weights fall with the difference in appearance
and, except for frames with the code of prompted ones, with the distance in space. Memory of a frame without the
object says nothing, and pointers are not read. Nothing in here knows which thing is the object, or the policy.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samvideo.memory.base import CODE_ROWS
from samvideo.runtime import Output, Pick, SelectedMemory

SHARPNESS = 30.0  # of the vote: things whose cosine is 0.1 lower have a twentieth of the weight
FAR = 0.5  # weight of what memory shows elsewhere, against what it shows at the same place
REACH = 4.0  # pixels a frame, that things may have moved
DOUBT = 0.1  # weight of the vote against a thing that memory does not know
SEEN = 0.2  # share of a thing that must be visible for it to be remembered
NOISE = 0.03  # standard deviation of predicted IoUs


@dataclass(frozen=True, eq=False)
class Scene:
    """One frame: S things, the front ones first.

    Attributes:
        boxes: int (S, 4) x1, y1, x2, y2, exclusive; empty for things that are not there.
        looks: (S, D) appearance, unit vectors as observed.
        visible: bool (S, H, W), what is seen of each.
        noise: (4,) standard normal, for what the decoder predicts.
    """

    boxes: np.ndarray
    looks: np.ndarray
    visible: np.ndarray
    noise: np.ndarray

    @property
    def centres(self) -> np.ndarray:
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2


@dataclass(frozen=True, eq=False)
class Tokens:
    """What a frame leaves behind: for each thing its appearance, place, and label 1 (in the mask), -1 or 0."""

    looks: np.ndarray
    centres: np.ndarray
    labels: np.ndarray

    def similarity(self, other: "Tokens", *, rounded: bool = False) -> float:
        signed, theirs = (t.looks * t.labels[:, None] for t in (self, other))
        return float((signed * theirs).sum())

    def potentiate(self, frames: Sequence["Tokens"], sharpness: float) -> "Tokens":
        looks = np.stack([frame.looks for frame in frames])
        labels = np.stack([frame.labels for frame in frames])
        weights = np.exp(sharpness * (looks * self.looks).sum(-1)) * (labels != 0)
        weights /= np.maximum(weights.sum(0), 1e-9)
        mixed = (weights[..., None] * looks).sum(0)
        norm = np.maximum(np.linalg.norm(mixed, axis=-1, keepdims=True), 1e-9)
        return Tokens(mixed / norm, self.centres, (weights * labels).sum(0))


@dataclass(frozen=True, eq=False)
class Prediction:
    mask: np.ndarray
    quality: float
    presence: float
    pointer: Any = ()


class Candidates:
    """The best thing, the second best, both; or of a single one the whole, a part, and the whole with a margin."""

    ambiguous = True

    def __init__(self, scene: Scene, votes: np.ndarray) -> None:
        area = scene.visible.sum((1, 2))
        votes = np.where(area > 0, votes, -1.0)
        order = np.argsort(-votes, kind="stable")
        first, second = order[0], order[1]
        best, other = (votes[[first, second]] + 1) / 2
        whole = scene.visible[first]
        if area[second]:
            self.found = np.stack([whole, scene.visible[second], whole | scene.visible[second]])
            quality = [best, other, 0.6 * best]
        else:
            part, around = whole.copy(), np.zeros_like(whole)
            x1, y1, x2, y2 = scene.boxes[first]
            part[:, (x1 + x2) // 2 :] = False
            if area[first]:
                around[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = True
            self.found = np.stack([whole, part, around])
            quality = [best, 0.5 * best, 0.6 * best]
        self.quality_n = np.clip(quality + NOISE * scene.noise[:3], 0, 1).astype(np.float32)
        self.presence = float(8 * votes[first] + 0.2 * scene.noise[3])

    def areas(self) -> np.ndarray:
        return self.found.sum((1, 2))

    def masks(self, size_wh: tuple[int, int], rows: Sequence[int] | None = None) -> np.ndarray:
        return self.found if rows is None else self.found[list(rows)]

    def boxes(self) -> np.ndarray:
        places = [np.argwhere(mask)[:, ::-1] for mask in self.found]
        return np.array([[*p.min(0), *p.max(0)] if len(p) else [0] * 4 for p in places], np.float32)


class IdealRuntime:
    """Implements `samvideo.runtime.Runtime` for clips whose frames hold their own number.

    Args:
        policy: under test.
        scene: gives the scene of a number.
    """

    static_shapes = False

    def __init__(self, policy: Any, scene: Any) -> None:
        self.policy, self.scene = policy, scene

    def input_size(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        return size_wh

    def encode(self, rgb: np.ndarray) -> Scene:
        return self.scene(number_of(rgb))

    def track(self, features: Scene, memories: Sequence[SelectedMemory]) -> list[Candidates]:
        return [Candidates(features, votes(features, memory)) for memory in memories]

    def prompt(self, *args: Any) -> Candidates:
        raise NotImplementedError("objects of these scenes are prompted by masks")

    def choose(self, picks: Sequence[Pick], presence_threshold: float) -> list[Prediction]:
        chosen = []
        for found, mask in picks:
            index = int(found.quality_n.argmax()) if mask is None else mask
            shown = found.found[index] & (found.presence > presence_threshold)
            chosen.append(Prediction(shown, float(found.quality_n[index]), found.presence))
        return chosen

    def use_mask_as_output(self, features: Scene, mask: np.ndarray) -> Prediction:
        return Prediction(mask, 1.0, 10.0)

    def remember(
        self, features: Scene, predictions: Sequence[Prediction], binarise: Sequence[bool]
    ) -> list[Tokens]:
        return [remembered(features, prediction) for prediction in predictions]

    def output(
        self, predictions: Sequence[Prediction], size_wh: tuple[int, int], *, exclusive: bool, logits: bool
    ) -> Output:
        return Output(np.array([p.mask for p in predictions]).reshape(-1, *size_wh[::-1]), None)

    def scores(self, predictions: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
        quality = np.array([p.quality for p in predictions], np.float32)
        return quality, np.array([p.presence for p in predictions], np.float32)

    def pack(self, values: Sequence[Any]) -> bytes:
        return pickle.dumps(values)

    def unpack(self, data: bytes) -> list[Any]:
        return pickle.loads(data)


def votes(scene: Scene, memory: SelectedMemory) -> np.ndarray:
    """(S,) from -1, surely not the object, to 1, surely it."""
    tokens = [frame.tokens for frame in memory.frames]
    rows = np.array([frame.code_row for frame in memory.frames])
    scales = np.array([frame.key_scale for frame in memory.frames])
    labels = np.stack([t.labels for t in tokens])
    cosines = np.einsum("sd,rtd->rst", scene.looks, np.stack([t.looks for t in tokens]))
    distances = scene.centres[None, :, None] - np.stack([t.centres for t in tokens])[:, None]
    reach = np.where(rows == CODE_ROWS - 1, np.inf, REACH * (rows + 1))
    near = np.exp(-((distances**2).sum(-1)) / (2 * reach[:, None, None] ** 2))
    weights = np.exp(SHARPNESS * (scales[:, None, None] * cosines - 1)) * (FAR + (1 - FAR) * near)
    voted, mass = (np.einsum("rst,rt->s", weights, x) for x in (labels, abs(labels)))
    return (voted - DOUBT) / (mass + DOUBT)


def remembered(scene: Scene, prediction: Prediction) -> Tokens:
    """Memory of a frame; where the object is absent, it says nothing."""
    visible = scene.visible.sum((1, 2))
    sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
    seen = visible > SEEN * sides.prod(1)
    inside = (scene.visible & prediction.mask).sum((1, 2)) > 0.5 * visible
    labels = np.where(inside, 1.0, -1.0) * seen * (prediction.presence > 0)
    return Tokens(scene.looks, scene.centres, labels)


def numbered(index: int, size_wh: tuple[int, int]) -> np.ndarray:
    """A picture that holds a number."""
    rgb = np.zeros((*size_wh[::-1], 3), np.uint8)
    rgb[0, 0] = index >> 16, index >> 8 & 255, index & 255
    return rgb


def number_of(rgb: np.ndarray) -> int:
    """The number that `numbered` put there."""
    high, middle, low = (int(value) for value in rgb[0, 0])
    return high << 16 | middle << 8 | low
