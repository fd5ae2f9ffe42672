"""Score the weight-free tracker on a DAVIS folder: `python demos/davis_score.py ROOT [--prompt box] [--workers 2]`.

Prints J (mean intersection over union, first and last frame left out) of each sequence, and frames per second.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from samvideo.geometry import mask_box
from samvideo.trackers.flow import FlowConfig, FlowTracker
from samvideo.types import Box, Frame, Mask


def score(images: Path, annotations: Path, prompt: str, config: FlowConfig) -> dict[str, float | str]:
    """Track one sequence from its first mask or the box around it."""
    files = sorted(images.glob("*.jpg"))
    truths = [cv2.imread(str(annotations / f"{f.stem}.png"), cv2.IMREAD_GRAYSCALE) > 0 for f in files]
    first = Mask(truths[0]) if prompt == "mask" else Box(mask_box(truths[0]))
    tracker, overlaps, spent, wall, lost = FlowTracker(config), [], 0.0, 0.0, 0
    for index, file in enumerate(files):
        frame = Frame(index, index / 24, cv2.imread(str(file))[..., ::-1].copy())
        cpu, start = time.process_time(), time.perf_counter()
        result = tracker.step(frame, [] if index else [first])
        spent, wall = spent + time.process_time() - cpu, wall + time.perf_counter() - start
        both, either = result.masks[0] & truths[index], result.masks[0] | truths[index]
        overlaps.append(both.sum() / either.sum() if either.any() else 1.0)
        lost += bool(truths[index].any() and not result.present[0])
    middle = {"name": images.name, "J": float(np.mean(overlaps[1:-1])), "first": float(overlaps[0])}
    return middle | {"lost": lost / len(files), "cpu_ms": 1e3 * spent / len(files), "fps": len(files) / wall}


def main() -> None:
    """Read the arguments, score, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--prompt", choices=("mask", "box"), default="mask")
    parser.add_argument("--sequences", nargs="*")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--longest", type=int, default=FlowConfig().longest)
    options = parser.parse_args()
    depth = "480p" if (options.root / "JPEGImages/480p").is_dir() else ""
    images, annotations = options.root / "JPEGImages" / depth, options.root / "Annotations" / depth
    names = options.sequences or sorted(p.name for p in images.iterdir())
    job = partial(score, prompt=options.prompt, config=FlowConfig(longest=options.longest))
    with ProcessPoolExecutor(options.workers) as pool:
        rows = list(pool.map(job, [images / n for n in names], [annotations / n for n in names]))
    for row in rows:
        print(
            "{name:20} J {J:.3f}  first {first:.3f}  lost {lost:.3f}  {cpu_ms:5.0f} ms  {fps:5.1f} fps".format(
                **row
            )
        )
    keys = ("J", "first", "lost", "cpu_ms", "fps")
    print(f"mean of {len(rows)}:", "  ".join(f"{key} {np.mean([row[key] for row in rows]):.3f}" for key in keys))


if __name__ == "__main__":
    main()
