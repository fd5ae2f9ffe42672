"""Score a bundled tracker on a DAVIS folder: `python demos/davis_score.py ROOT [--model nano] [--prompt box]`.

Prints for each sequence J (mean intersection over union) and F (contours) without the first and last frame, the IoU
of the first mask, the share of frames on which a visible object is reported absent, and frames per second.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from samvideo.evaluation.metrics import score_masks
from samvideo.evaluation.protocols import next_click
from samvideo.geometry import mask_box
from samvideo.trackers.base import foresee, with_next
from samvideo.trackers.factory import create_tracker
from samvideo.types import Box, Frame, Mask, Points, Prompt


def first_prompt(truth: np.ndarray, kind: str) -> Prompt:
    """Return the prompt for the first frame: the mask, the box around it, or its innermost pixel."""
    if kind == "click":
        x, y, label = next_click(truth, np.zeros_like(truth))
        return Points([(x, y)], [label])
    return Mask(truth) if kind == "mask" else Box(mask_box(truth))


def score(
    images: Path, annotations: Path, prompt: str, model: str, weights: Path | None, live: bool
) -> dict[str, float | str]:
    """Track one sequence from one prompt on its first frame."""
    files = sorted(images.glob("*.jpg"))
    truths = [cv2.imread(str(annotations / f"{f.stem}.png"), cv2.IMREAD_GRAYSCALE) > 0 for f in files]
    tracker, wall, lost, scores = create_tracker(model, weights=weights), 0.0, 0, []
    frames = (Frame(i, i / 24, cv2.imread(str(file))[..., ::-1].copy()) for i, file in enumerate(files))
    for index, (frame, following) in enumerate(with_next(frames)):
        start = time.perf_counter()
        if not index and not live:
            foresee(tracker, following)
        result = tracker.step(frame, [] if index else [first_prompt(truths[0], prompt)])
        wall += time.perf_counter() - start
        scores.append(score_masks(truths[index], result.masks[0])[:2])
        lost += bool(truths[index].any() and not result.present[0])
    j, f = np.mean(scores[1:-1], 0)
    row = {"name": images.name, "J": j, "F": f, "first": scores[0][0]}
    return row | {"lost": lost / len(files), "fps": len(files) / wall}


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
    depth = "480p" if (options.root / "JPEGImages/480p").is_dir() else ""
    images, annotations = options.root / "JPEGImages" / depth, options.root / "Annotations" / depth
    names = options.sequences or sorted(p.name for p in images.iterdir())
    job = partial(score, prompt=options.prompt, model=options.model, weights=options.weights, live=options.live)
    with ProcessPoolExecutor(options.workers) as pool:
        rows = list(pool.map(job, [images / n for n in names], [annotations / n for n in names]))
    line = "{name:20} J {J:.3f}  F {F:.3f}  first {first:.3f}  lost {lost:.3f}  {fps:5.1f} fps"
    for row in rows:
        print(line.format(**row))
    keys = ("J", "F", "first", "lost", "fps")
    print(f"mean of {len(rows)}:", "  ".join(f"{key} {np.mean([row[key] for row in rows]):.3f}" for key in keys))


if __name__ == "__main__":
    main()
