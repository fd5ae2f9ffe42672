"""Cases that show what each memory policy is for, on scenes with an ideal decoder; prints a table of all.

The score is DAVIS's region similarity: the IoU of the mask with what is visible of the object; 1 if both are empty.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from ideal_decoder import IdealRuntime, Scene, numbered

from samvideo.registry import MEMORY_POLICIES
from samvideo.trackers.sam import SamTracker
from samvideo.types import Frame, Mask

SIZE = 72, 36  # width, height
SIDE = 10  # of things
WIDTH = 32  # of appearance vectors
OBSERVED = 0.006  # standard deviation of the noise on each of their values


@dataclass(frozen=True, eq=False)
class Clip:
    """The true course of S things over T frames. Thing 0 is the object.

    Attributes:
        xy: (T, S, 2) top left corner; NaN where a thing is not there.
        looks: (T, S, D) unit vectors.
        front: things in the order of depth, the front one first.
    """

    xy: np.ndarray
    looks: np.ndarray
    front: tuple[int, ...]
    seed: int

    def __len__(self) -> int:
        return len(self.xy)

    def scene(self, index: int) -> Scene:
        """What is seen on a frame."""
        generator = np.random.default_rng((self.seed, index))
        count = self.xy.shape[1]
        boxes = np.zeros((count, 4), int)
        visible, covered = np.zeros((count, *SIZE[::-1]), bool), np.zeros(SIZE[::-1], bool)
        for thing in self.front:
            if np.isfinite(self.xy[index, thing]).all():
                x, y = self.xy[index, thing].round().astype(int)
                boxes[thing] = x, y, x + SIDE, y + SIDE
                visible[thing, max(y, 0) : y + SIDE, max(x, 0) : x + SIDE] = True
                visible[thing] &= ~covered
                covered |= visible[thing]
        looks = unit(self.looks[index] + OBSERVED * generator.standard_normal((count, WIDTH)))
        return Scene(boxes, looks, visible, generator.standard_normal(4))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def directions(seed: int, count: int) -> np.ndarray:
    """Orthogonal unit vectors."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((WIDTH, count)))[0].T


def like(look: np.ndarray, cosine: float, away: np.ndarray) -> np.ndarray:
    """A unit vector at a cosine to another; `away` is orthogonal to it."""
    return cosine * look + np.sqrt(1 - cosine**2) * away


def course(frames: int, *stops: tuple[float, float, float]) -> np.ndarray:
    """(T, 2) straight ways between places (frame, x, y); NaN before the first and after the last."""
    when, *places = np.array(stops, float).T
    return np.stack([np.interp(np.arange(frames), when, p, np.nan, np.nan) for p in places], 1)


def alone(seed: int) -> Clip:
    """One thing crosses the picture past an unlike one; nothing to choose."""
    first, second = directions(seed, 2)
    xy = np.stack([course(60, (0, 5, 5), (59, 60, 5)), course(60, (0, 40, 22), (59, 20, 22))], 1)
    return Clip(xy, np.tile([first, second], (60, 1, 1)), (0, 1), seed)


def twins(seed: int) -> Clip:
    """A twin comes, stands in front of the object for eight frames, and both walk on."""
    own, away = directions(seed, 2)
    frames = 90
    object_xy = course(frames, (0, 4, 13), (40, 30, 13), (48, 31, 13), (89, 58, 13))
    twin_xy = course(frames, (8, 62, 13), (40, 30, 13), (48, 31, 13), (89, 4, 13))
    looks = np.tile([own, like(own, 0.95, away)], (frames, 1, 1))
    return Clip(np.stack([object_xy, twin_xy], 1), looks, (1, 0), seed)


def occlusion(seed: int) -> Clip:
    """The object's looks change, then it is hidden for 30 frames, while a thing that looks as it did stands by."""
    old, away, other = directions(seed, 3)
    frames, hidden = 150, slice(80, 110)
    object_xy = course(frames, (0, 4, 4), (80, 30, 4), (110, 40, 4), (149, 60, 4))
    object_xy[hidden] = np.nan
    other_xy = course(frames, (50, 58, 24), (149, 20, 24))
    change = np.clip(np.arange(frames) / 60, 0, 1)[:, None]
    own = unit((1 - change) * old + change * like(old, 0.7, away))
    looks = np.stack([own, np.tile(like(old, 0.97, other), (frames, 1))], 1)
    return Clip(np.stack([object_xy, other_xy], 1), looks, (1, 0), seed)


def drift(seed: int, frames: int = 5000) -> Clip:
    """The object's looks keep changing. It is away for 15 frames in 400; a thing like it was at first is not."""
    first, other, *later = directions(seed, 10)
    time = np.arange(frames)
    x = 30 + 25 * np.sin(time / 40)
    object_xy = np.stack([x, np.full(frames, 4.0)], 1)
    object_xy[(time % 400 >= 385)] = np.nan
    other_xy = np.stack([60 - x, np.full(frames, 24.0)], 1)
    place = time / frames * len(later)
    stops = np.stack([first, *later])
    share = (place % 1)[:, None]
    own = unit((1 - share) * stops[place.astype(int)] + share * stops[place.astype(int) + 1])
    looks = np.stack([own, np.tile(like(first, 0.97, other), (frames, 1))], 1)
    return Clip(np.stack([object_xy, other_xy], 1), looks, (0, 1), seed)


def jump(seed: int) -> Clip:
    """The camera jerks: the object is suddenly elsewhere, and a thing that is a little like it where it was."""
    own, away = directions(seed, 2)
    frames = 80
    object_xy = course(frames, (0, 4, 4), (39, 24, 4), (40, 50, 22), (79, 30, 22))
    other_xy = course(frames, (40, 24, 4), (79, 44, 4))
    looks = np.tile([own, like(own, 0.9, away)], (frames, 1, 1))
    return Clip(np.stack([object_xy, other_xy], 1), looks, (1, 0), seed)


CASES: dict[str, Callable[[int], Clip]] = {
    "no distractor": alone,
    "twins that cross": twins,
    "long occlusion, look-alike": occlusion,
    "slow change, 5,000 frames": drift,
    "sudden jump": jump,
}


def overlaps(policy: str, clip: Clip) -> Iterator[float]:
    """IoU of the mask on every frame after the first, whose mask is given."""
    tracker = SamTracker(IdealRuntime(MEMORY_POLICIES.build(policy), clip.scene))
    for index in range(len(clip)):
        truth = clip.scene(index).visible[0]
        frame = Frame(index, index / 25, numbered(index, SIZE))
        found = tracker.step(frame, [Mask(truth, object_id=1)] if index == 0 else []).masks[0]
        if index:
            union = (found | truth).sum()
            yield float((found & truth).sum() / union) if union else 1.0


def score(policy: str, case: str, seeds: range) -> np.ndarray:
    """Mean IoU for every seed."""
    return np.array([np.mean(list(overlaps(policy, CASES[case](seed)))) for seed in seeds])


def main() -> None:
    """Print a table of all policies and cases."""
    print("|", " | ".join(["policy", *CASES]), "|")
    print("|---" * (1 + len(CASES)) + "|")
    for policy in MEMORY_POLICIES.all():
        scores = [score(policy, case, range(2 if case.startswith("slow") else 10)).mean() for case in CASES]
        print("|", " | ".join([f"`{policy}`", *(f"{100 * value:.0f}" for value in scores)]), "|")


if __name__ == "__main__":
    main()
