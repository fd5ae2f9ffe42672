"""SAMURAI: a Kalman filter weighs the candidate masks, and only good frames are recalled (Yang et al. 2024).

Counterpart: yangchris11/samurai: sam2/sam2/modeling/sam2_base.py and sam2/sam2/utils/kalman_filter.py. There the
filter's state is in the model and leaks from object to object; here every object has its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from samvideo.memory.base import Choice, History, MemoryEntry, PolicyFacts
from samvideo.memory.fifo import FifoPolicy
from samvideo.runtime import Candidates, MemoryFrame
from samvideo.types import FloatArray

KIND = "memory policy"
FACTS = PolicyFacts(
    "a Kalman filter on the box weighs the masks; only good frames are recalled",
    "SAMURAI, Yang et al. 2024",
    "as fifo",
)
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class BoxFilter:
    """Constant-velocity Kalman filter on a box (x, y of the centre, aspect, height), as in DeepSORT.

    Attributes:
        position: standard deviation of position and height, in heights of the box.
        velocity: of their change a frame, in heights of the box.
        aspect, aspect_velocity, aspect_measured: of the aspect ratio, of its change, and of measuring it.
    """

    position: float = 1 / 20
    velocity: float = 1 / 160
    aspect: float = 1e-2
    aspect_velocity: float = 1e-5
    aspect_measured: float = 1e-1

    def start(self, box: FloatArray) -> tuple[Vector, Vector]:
        """Mean (8,) and covariance (8, 8) from a first box x1, y1, x2, y2."""
        z = _measurement(box)
        spread, drift = 2 * self.position * z[3], 10 * self.velocity * z[3]
        deviations = [spread, spread, self.aspect, spread, drift, drift, self.aspect_velocity, drift]
        return np.concatenate([z, np.zeros(4)]), np.diag(np.square(deviations))

    def predict(self, mean: Vector, covariance: Vector) -> tuple[Vector, Vector]:
        """Mean and covariance one frame later."""
        spread, drift = self.position * mean[3], self.velocity * mean[3]
        noise = [spread, spread, self.aspect, spread, drift, drift, self.aspect_velocity, drift]
        step = np.eye(8) + np.eye(8, k=4)
        return step @ mean, step @ covariance @ step.T + np.diag(np.square(noise))

    def update(self, mean: Vector, covariance: Vector, box: FloatArray) -> tuple[Vector, Vector]:
        """Mean and covariance after measuring a box."""
        spread = self.position * mean[3]
        noise = np.diag(np.square([spread, spread, self.aspect_measured, spread]))
        innovation = covariance[:4, :4] + noise
        gain = np.linalg.solve(innovation, covariance[:4]).T
        corrected = mean + gain @ (_measurement(box) - mean[:4])
        return corrected, covariance - gain @ innovation @ gain.T


def _measurement(box: FloatArray) -> Vector:
    x1, y1, x2, y2 = (float(v) for v in box)
    height = (y2 - y1) or 1.0
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / height, height])


def _box(mean: Vector) -> Vector:
    x, y, aspect, height = mean[:4]
    return np.array([x - aspect * height / 2, y - height / 2, x + aspect * height / 2, y + height / 2])


def box_ious(boxes_n4: FloatArray, box: Vector) -> Vector:
    """(N,) IoU of rectangles with a rectangle; 0 for the empty box (0, 0, 0, 0) and where the union is 0."""
    boxes = boxes_n4.astype(np.float64)
    overlap = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    intersection = np.clip(overlap, 0, None).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - intersection
    valid = boxes.any(1) & (union != 0)
    return np.where(valid, intersection / np.where(valid, union, 1), 0.0)


@dataclass(frozen=True, eq=False)
class SamuraiState:
    """What SAMURAI knows of one object.

    Attributes:
        mean, covariance: of the filter, (8,) and (8, 8); None before it starts.
        stable: how many frames in a row the filter was confirmed, at most `SamuraiPolicy.stable_frames`.
        admitted: the newest frames that may be recalled, in ascending order.
    """

    mean: Vector | None = None
    covariance: Vector | None = None
    stable: int = 0
    admitted: tuple[int, ...] = ()


@dataclass(frozen=True)
class SamuraiPolicy(FifoPolicy):
    """FIFO with motion-aware choice of the mask and gated recall; options have their published values.

    Attributes:
        motion_weight: weight of the motion score against the predicted IoU, once the filter is stable.
        stable_frames: confirmations after which motion counts.
        stable_quality: predicted IoU above which a mask confirms the filter; below, the filter starts again.
        admit_quality: predicted IoU above which a frame may be recalled.
        admit_presence: object score logit above which a frame may be recalled.
        admit_motion: motion score above which a frame may be recalled, where there is one.
        absent_below: object score logit at and below which the object counts as absent.
    """

    motion_weight: float = 0.25
    stable_frames: int = 15
    stable_quality: float = 0.3
    admit_quality: float = 0.5
    admit_presence: float = 0.0
    admit_motion: float = 0.0
    absent_below: float = -1.0
    filter: BoxFilter = BoxFilter()

    @property
    def presence_threshold(self) -> float:
        """See `MemoryPolicy`."""
        return self.absent_below

    def initial_state(self) -> SamuraiState:
        """See `MemoryPolicy`."""
        return SamuraiState()

    def select(self, candidates: Sequence[Candidates], histories: Sequence[History]) -> Sequence[Choice]:
        """See `MemoryPolicy.select`."""
        (proposed,), (history,) = candidates, histories
        state: SamuraiState = history.state
        quality, boxes = proposed.quality_n, proposed.boxes()
        best = int(quality.argmax())
        motion: float | None = None
        if state.stable == 0 or state.mean is None or state.covariance is None:
            mean, covariance = self.filter.start(boxes[best])
            stable = 1
        else:
            mean, covariance = self.filter.predict(state.mean, state.covariance)
            stable = state.stable
            if stable < self.stable_frames:
                confirmed = quality[best] > self.stable_quality
                stable = stable + 1 if confirmed else 0
            else:
                scores = box_ious(boxes, _box(mean))
                weighted = self.motion_weight * scores + (1 - self.motion_weight) * quality
                best = int(weighted.argmax())
                motion = float(scores[best])
                confirmed = quality[best] >= self.stable_quality
                stable = stable if confirmed else 0
            if confirmed:
                mean, covariance = self.filter.update(mean, covariance, boxes[best])
        admitted = state.admitted
        if self._admits(history, float(quality[best]), proposed.presence, motion):
            admitted = (*admitted, history.now)[-self.frames :]
        return (Choice(best, replace(state, mean=mean, covariance=covariance, stable=stable, admitted=admitted)),)

    def _admits(self, history: History, quality: float, presence: float, motion: float | None) -> bool:
        """Whether the current frame may be recalled later on; the first tracked one never may, as published."""
        return (
            any(not entry.prompted and entry.index < history.now for entry in history.entries)
            and quality > self.admit_quality
            and presence > self.admit_presence
            and (motion is None or motion > self.admit_motion)
        )

    def keep(self, history: History) -> list[MemoryEntry]:
        """See `MemoryPolicy.keep`: tokens of the admitted frames and of the newest one are kept."""
        kept = {entry.index: entry for entry in super().keep(history)}
        needed = {*history.state.admitted, history.now}
        entries = []
        for entry in history.entries:
            if entry.index in needed or (entry.prompted and entry.index in kept):
                entries.append(entry)
            elif history.now - entry.index < self.pointers:
                entries.append(entry if entry.tokens is None else replace(entry, tokens=None))
        return entries

    def recall_frames(self, ordinary: Mapping[int, MemoryEntry], history: History) -> list[MemoryFrame]:
        """The newest admitted frames and the last frame, with the row of the time code by rank; see the base."""
        indices = sorted({*history.state.admitted, history.now - 1})[-self.frames :]
        entries = [ordinary[i] for i in indices if i in ordinary and ordinary[i].tokens is not None]
        return [MemoryFrame(len(entries) - 1 - rank, entry.tokens) for rank, entry in enumerate(entries)]


VARIANTS = {"samurai": SamuraiPolicy(), "samurai-large": SamuraiPolicy(motion_weight=0.15)}


def build(config: SamuraiPolicy) -> SamuraiPolicy:
    """The policy is its own config."""
    return config
