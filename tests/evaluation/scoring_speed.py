"""Compare the speed of scoring with the published algorithm: python tests/evaluation/scoring_speed.py ROOT.

ROOT holds `gt/<sequence>/*.png` and `pred/<sequence>/*.png`. Both use one thread and masks in memory, and
are timed alternately several times; the best time counts, since machines are shared. Results must agree exactly.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from samvideo.errors import DatasetError, SamVideoError
from samvideo.evaluation.files import read_index_png
from samvideo.evaluation.metrics import boundary_radius, score_indices
from samvideo.types import BoolArray, UInt8Array

Pair = tuple[UInt8Array, UInt8Array]
Score = tuple[float, float]


def plain_boundary(mask: BoolArray) -> BoolArray:
    """Mark pixels that differ from their right, lower or lower-right neighbour, in the whole frame (seg2bmap)."""
    right, below, diagonal = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    right[:, :-1], below[:-1], diagonal[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    edges = mask ^ right | mask ^ below | mask ^ diagonal
    edges[-1] = mask[-1] ^ right[-1]
    edges[:, -1] = mask[:, -1] ^ below[:, -1]
    edges[-1, -1] = False
    return edges


def plain_disk(radius: int) -> UInt8Array:
    """Return the structuring element, which the published code creates for each dilation."""
    x, y = np.meshgrid(np.arange(-radius, radius + 1), np.arange(-radius, radius + 1))
    return np.array(x**2 + y**2 <= radius**2, np.uint8)


def plain_score(truth: BoolArray, prediction: BoolArray) -> Score:
    """Return J and F of one object by the published algorithm: full-frame maps and dilations, void pixels."""
    void = np.zeros_like(truth)
    shared, union = np.sum(prediction & truth & ~void), np.sum((prediction | truth) & ~void)
    region = float(shared / union) if union else 1.0
    edges, truth_edges = plain_boundary(prediction * ~void), plain_boundary(truth * ~void)
    radius = boundary_radius(truth.shape)
    wide = cv2.dilate(edges.astype(np.uint8), plain_disk(radius))
    truth_wide = cv2.dilate(truth_edges.astype(np.uint8), plain_disk(radius))
    found, expected = np.sum(edges), np.sum(truth_edges)
    if not found or not expected:
        return region, float(found == expected)
    precision = np.sum(edges * truth_wide) / float(found)
    recall = np.sum(truth_edges * wide) / float(expected)
    return region, float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def score_frame_plainly(pair: Pair, objects: range) -> list[Score]:
    """Score all objects of one frame by the published algorithm."""
    truth, prediction = pair
    return [plain_score(truth == number, prediction == number) for number in objects]


def score_frame(pair: Pair, objects: range) -> list[Score]:
    """Score all objects of one frame by the algorithm of this package."""
    truth, prediction = pair
    return [(score.j, score.f) for score in score_indices(truth, prediction, objects)]


class Timing(NamedTuple):
    """Seconds for one sequence on one core by both algorithms, the minimum over the rounds."""

    sequence: str
    frames: int
    objects: int
    plain_seconds: float
    seconds: float


def compare(root: Path, rounds: int = 3) -> list[Timing]:
    """Time both algorithms on every sequence under `root`.

    Raises:
        DatasetError: there is nothing to score, or a prediction is missing.
        ArithmeticError: the scores disagree.
    """
    folders = sorted(path for path in (root / "gt").glob("*") if path.is_dir())
    if not folders:
        raise DatasetError(
            f"{root} has no gt/<sequence>/ folders; gt/<sequence>/*.png and pred/<sequence>/*.png expected"
        )
    return [_time_sequence(folder, root / "pred" / folder.name, rounds) for folder in folders]


def _time_sequence(truth: Path, predictions: Path, rounds: int) -> Timing:
    names = sorted(path.name for path in truth.glob("*.png"))
    pairs = [(read_index_png(truth / name), read_index_png(predictions / name)) for name in names]
    objects = range(1, max(int(pair[0].max()) for pair in pairs) + 1)
    best = [math.inf, math.inf]
    for _ in range(rounds):
        scores = []
        for place, method in enumerate((score_frame_plainly, score_frame)):
            begin = time.perf_counter()
            scores.append([method(pair, objects) for pair in pairs])
            best[place] = min(best[place], time.perf_counter() - begin)
        if scores[0] != scores[1]:
            raise ArithmeticError(f"the two scorings of {truth} differ")
    return Timing(truth.name, len(pairs), len(objects), *best)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return 0 if this package is at least ten times as fast, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    try:
        timings = compare(options.root, options.rounds)
    except SamVideoError as error:
        parser.exit(error.exit_code, f"{error}\n")
    lines = [
        "milliseconds per object and frame on one core",
        f"{'sequence':<16}{'frames':>8}{'objects':>9}{'published':>11}{'ours':>9}{'ratio':>8}",
    ]
    for name, frames, objects, plain, ours in timings:
        count = frames * objects / 1000
        lines.append(
            f"{name:<16}{frames:>8}{objects:>9}{plain / count:>11.3f}{ours / count:>9.3f}{plain / ours:>7.1f}x"
        )
    total = sum(timing.plain_seconds for timing in timings) / sum(timing.seconds for timing in timings)
    lines.append(f"all sequences: {total:.1f} times the speed of the published algorithm\n")
    sys.stdout.write("\n".join(lines))
    return 0 if total >= 10 else 1


if __name__ == "__main__":
    sys.exit(main())
