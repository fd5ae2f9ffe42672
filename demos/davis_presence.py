"""Measure presence and confidence of a bundled tracker: `python demos/davis_presence.py ROOT [--model nano]`.

Inserts twelve frames of another sequence into each one. Prints the share of them, from the fourth on, on which the
object is reported absent, the frames until it is found again, false absences, and the mean IoU by confidence.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from samvideo.evaluation.metrics import score_masks
from samvideo.reporting.charts import COLOURS, Series, curves_from_zero
from samvideo.trackers.factory import create_tracker
from samvideo.training.folds import fold
from samvideo.types import Frame, Mask

BEFORE, AWAY, AFTER = 12, 12, 16


def track_with_gap(
    root: Path, name: str, other: str, model: str, weights: Path | None
) -> list[tuple[bool, float, float]]:
    """Presence, confidence and IoU with the ground truth on each frame."""
    files = sorted((root / "JPEGImages" / name).glob("*.jpg"))[: BEFORE + AFTER]
    away = sorted((root / "JPEGImages" / other).glob("*.jpg"))[:AWAY]
    size, tracker, rows = cv2.imread(str(files[0])).shape[1::-1], create_tracker(model, weights=weights), []
    for index, file in enumerate(files[:BEFORE] + away + files[BEFORE:]):
        truth = np.zeros(size[::-1], bool)
        if file not in away:
            mask = root / "Annotations" / name / f"{file.stem}.png"
            truth = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) > 0
        frame = Frame(index, index / 24, cv2.resize(cv2.imread(str(file)), size)[..., ::-1].copy())
        result = tracker.step(frame, [] if index else [Mask(truth)])
        overlap = score_masks(truth, result.masks[0])[0] if truth.any() else 0.0
        rows.append((bool(result.present[0]), float(result.scores[0]), overlap))
    return rows


def main() -> None:
    """Track every sequence and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--model", choices=("nano", "flow"), default="nano")
    parser.add_argument("--weights", type=Path, nargs="*", help="of nano; several: one per fold, in order")
    parser.add_argument("--sequences", nargs="*")
    parser.add_argument("--plot", type=Path, help="plot mean IoU against confidence to this SVG")
    options = parser.parse_args()
    every = sorted(p.name for p in (options.root / "JPEGImages").iterdir())
    files = options.weights or [None]
    weights_of = {name: file for k, file in enumerate(files) for name in fold(every, k + 1, len(files))}
    in_view, reported_absent, falsely_absent = [], [], []
    for name in options.sequences or every:
        other = every[(every.index(name) + len(every) // 2) % len(every)]
        rows = track_with_gap(options.root, name, other, options.model, weights_of[name])
        away, back = rows[BEFORE + 3 : BEFORE + AWAY], rows[BEFORE + AWAY :]
        first = next((k for k, row in enumerate(back) if row[2] > 0.3), -1)
        reported_absent += [not row[0] for row in away]
        falsely_absent += [not row[0] for row in rows[1:BEFORE]]
        in_view += rows[1:BEFORE] + back
        print(f"{name:20} reported {np.mean([not r[0] for r in away]):.2f}  found after {first} frames (-1: never)")
    print(f"absent frames reported {np.mean(reported_absent):.3f}, false absences {np.mean(falsely_absent):.3f}")
    points = []
    for low in np.arange(0, 1, 0.1):
        bins = [row[2] for row in in_view if low <= row[1] < low + 0.1 + 1e-6 * (low > 0.8)]
        if bins:
            points.append((round(low + 0.05, 2), float(np.mean(bins))))
            print(f"confidence {low:.1f} to {low + 0.1:.1f}: {len(bins):4} frames, mean IoU {points[-1][1]:.2f}")
    if options.plot:
        measured = Series("measured", COLOURS[0], *zip(*points, strict=True))
        ideal = Series("ideal", COLOURS[1], (0, 1), (0, 1))
        options.plot.write_text(curves_from_zero([measured, ideal], "confidence", "mean IoU"), encoding="utf-8")


if __name__ == "__main__":
    main()
