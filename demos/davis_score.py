"""Score a bundled tracker on a DAVIS folder: `python demos/davis_score.py ROOT [--model nano] [--prompt box]`.

Prints for each sequence J (mean intersection over union) and F (contours) without the first and last frame, the IoU
of the first mask, the share of frames on which a visible object is reported absent, and frames per second.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from samvideo.evaluation.datasets.davis2016 import all_sequences
from samvideo.evaluation.metrics import score_masks
from samvideo.evaluation.protocols import next_click
from samvideo.evaluation.video import frames_of
from samvideo.geometry import mask_box
from samvideo.trackers.factory import create_tracker
from samvideo.types import Box, Mask, Points, Prompt


def first_prompt(truth: np.ndarray, kind: str) -> Prompt:
    """Return the prompt for the first frame: the mask, the box around it, or its innermost pixel."""
    if kind == "click":
        x, y, label = next_click(truth, np.zeros_like(truth))
        return Points([(x, y)], [label])
    return Mask(truth) if kind == "mask" else Box(mask_box(truth))


def score(
    name: str, root: Path, prompt: str, model: str, weights: Path | None, live: bool
) -> dict[str, float | str]:
    """Track one sequence from one prompt on its first frame."""
    dataset = all_sequences(root)
    sequence = dataset.sequence(name)
    tracker, wall, lost, scores = create_tracker(model, weights=weights), 0.0, 0, []
    frames = frames_of(sequence)
    upcoming = next(frames)
    for index in range(len(sequence.frames)):
        frame, upcoming = upcoming, next(frames, None)
        truth = dataset.truth(sequence, index).mask(1)
        prompts = [] if index else [first_prompt(truth, prompt)]
        start = time.perf_counter()
        result = tracker.step(frame, prompts, upcoming=None if live else upcoming)
        wall += time.perf_counter() - start
        scores.append(score_masks(truth, result.masks[0])[:2])
        lost += bool(truth.any() and not result.present[0])
    j, f = np.mean(scores[1:-1], 0)
    row = {"name": name, "J": j, "F": f, "first": scores[0][0]}
    return row | {"lost": lost / len(scores), "fps": len(scores) / wall}


def main() -> None:
    """Read the arguments, score, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--model", choices=("nano", "flow"), default="nano")
    parser.add_argument("--weights", type=Path, help="of nano, made by `samvideo train nano`")
    parser.add_argument("--prompt", choices=("mask", "box", "click"), default="mask")
    parser.add_argument("--live", action="store_true", help="show no frame before the next is tracked, as a camera")
    parser.add_argument("--sequences", nargs="*")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    names = options.sequences or all_sequences(options.root).sequences()
    settings = {key: getattr(options, key) for key in ("root", "prompt", "model", "weights", "live")}
    with ProcessPoolExecutor(options.workers) as pool:
        rows = list(pool.map(partial(score, **settings), names))
    line = "{name:20} J {J:.3f}  F {F:.3f}  first {first:.3f}  lost {lost:.3f}  {fps:5.1f} fps"
    for row in rows:
        print(line.format(**row))
    keys = ("J", "F", "first", "lost", "fps")
    print(f"mean of {len(rows)}:", "  ".join(f"{key} {np.mean([row[key] for row in rows]):.3f}" for key in keys))


if __name__ == "__main__":
    main()
