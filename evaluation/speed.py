"""How fast scoring is, beside the published algorithm done straightforwardly: `python -m samvideo.evaluation.speed ROOT`.

ROOT holds `gt/<sequence>/*.png` and `pred/<sequence>/*.png`. One thread on both sides, masks in memory, both timed
several times in turn and the best taken, since machines are shared; results must agree to the last bit.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from samvideo.errors import DatasetError, SamVideoError
from samvideo.evaluation.files import read_index_png
from samvideo.evaluation.metrics import boundary_radius, score_masks
from samvideo.types import BoolArray, UInt8Array

logger = logging.getLogger(__name__)

Pair = tuple[UInt8Array, UInt8Array]
Score = tuple[float, float]


def plain_boundary(mask: BoolArray) -> BoolArray:
    """Pixels that differ from their right, lower or lower-right neighbour, over the whole frame (seg2bmap)."""
    right, below, diagonal = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    right[:, :-1], below[:-1], diagonal[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    edges = mask ^ right | mask ^ below | mask ^ diagonal
    edges[-1] = mask[-1] ^ right[-1]
    edges[:, -1] = mask[:, -1] ^ below[:, -1]
    edges[-1, -1] = False
    return edges


def plain_score(truth: BoolArray, prediction: BoolArray) -> Score:
    """J and F of one object by the published definition: full-frame maps and dilations, nothing saved."""
    union = int((truth | prediction).sum())
    region = int((truth & prediction).sum()) / union if union else 1.0
    steps = np.arange(-boundary_radius(truth.shape), boundary_radius(truth.shape) + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= steps[0] ** 2).astype(np.uint8)
    edges, truth_edges = plain_boundary(prediction), plain_boundary(truth)
    wide, truth_wide = cv2.dilate(edges.astype(np.uint8), disk), cv2.dilate(truth_edges.astype(np.uint8), disk)
    found, expected = int(edges.sum()), int(truth_edges.sum())
    if not found or not expected:
        return region, float(found == expected)
    precision, recall = int((edges * truth_wide).sum()) / found, int((truth_edges * wide).sum()) / expected
    return region, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def score_frame_plainly(pair: Pair, objects: range) -> list[Score]:
    """All objects of one frame, the published way."""
    truth, prediction = pair
    return [plain_score(truth == number, prediction == number) for number in objects]


def score_frame(pair: Pair, objects: range) -> list[Score]:
    """All objects of one frame, this package's way."""
    truth, prediction = pair
    scores = (score_masks(cv2.compare(truth, number, 0), cv2.compare(prediction, number, 0)) for number in objects)
    return [(score.j, score.f) for score in scores]


@dataclass(frozen=True)
class Timing:
    """Seconds for one sequence on one core, the best of the rounds."""

    sequence: str
    frames: int
    objects: int
    plain_seconds: float
    seconds: float

    @property
    def ratio(self) -> float:
        """How many times faster."""
        return self.plain_seconds / self.seconds


def compare(root: Path, rounds: int = 3) -> list[Timing]:
    """Time both on every sequence under `root`.

    Raises:
        DatasetError: nothing to score, or a frame without its prediction.
        ArithmeticError: the two disagree.
    """
    folders = sorted(path for path in (root / "gt").glob("*") if path.is_dir())
    if not folders:
        raise DatasetError(f"{root} has no gt/<sequence>/ folders; gt/<sequence>/*.png and pred/<sequence>/*.png expected")
    return [_time_sequence(folder, root / "pred" / folder.name, rounds) for folder in folders]


def _time_sequence(truth: Path, predictions: Path, rounds: int) -> Timing:
    pairs = [(read_index_png(path), read_index_png(predictions / path.name)) for path in sorted(truth.glob("*.png"))]
    objects = range(1, max(int(pair[0].max()) for pair in pairs) + 1)

    def run(method: Callable[[Pair, range], list[Score]]) -> tuple[float, list[list[Score]]]:
        begin = time.perf_counter()
        scores = [method(pair, objects) for pair in pairs]
        return time.perf_counter() - begin, scores

    taken = [(run(score_frame_plainly), run(score_frame)) for _ in range(rounds)]
    if taken[0][0][1] != taken[0][1][1]:
        raise ArithmeticError(f"the two scorings of {truth} differ")
    plain, fast = min(pair[0][0] for pair in taken), min(pair[1][0] for pair in taken)
    return Timing(truth.name, len(pairs), len(objects), plain, fast)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; the exit code is 1 below ten times the published algorithm's speed."""
    parser = argparse.ArgumentParser(prog="python -m samvideo.evaluation.speed", description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    try:
        timings = compare(options.root, options.rounds)
    except SamVideoError as error:
        parser.exit(error.exit_code, f"{error}\n")
    lines = [f"{'sequence':<16}{'frames':>8}{'objects':>9}{'plain ms':>10}{'ours ms':>9}{'ratio':>8}   (one core, per object and frame)"]
    for timing in timings:
        count = timing.frames * timing.objects / 1000
        lines.append(
            f"{timing.sequence:<16}{timing.frames:>8}{timing.objects:>9}{timing.plain_seconds / count:>10.3f}"
            f"{timing.seconds / count:>9.3f}{timing.ratio:>7.1f}x"
        )
    total = sum(timing.plain_seconds for timing in timings) / sum(timing.seconds for timing in timings)
    sys.stdout.write("\n".join([*lines, f"all sequences: {total:.1f} times the speed of the published algorithm"]) + "\n")
    return 0 if total >= 10 else 1


if __name__ == "__main__":
    sys.exit(main())
