"""The loop in demos/onnx_track.py, which needs nothing of this package, tracks as the package does."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_sam import clip

from samvideo.trackers.factory import create_tracker
from samvideo.types import Box, Frame

DEMO = Path(__file__).parents[2] / "demos" / "onnx_track.py"
BOX = 10.0, 10.0, 40.0, 40.0


def tracked(folder: Path, frames: list[Frame]) -> list[np.ndarray]:
    tracker = create_tracker("auto", weights=folder, runtime="onnx")
    results = [tracker.step(frame, [Box(BOX)] if frame.index == 0 else []) for frame in frames]
    return [result.masks[0] for result in results]


@pytest.mark.parametrize(("size", "differing"), [((64, 64), 0.0), ((96, 80), 0.01)])
def test_masks(size: tuple[int, int], differing: float, exported: Path, tmp_path: Path) -> None:
    """Equal masks; where pictures are resized, Pillow's rounding between its two passes makes a difference."""
    frames = clip(20, size)  # more than the memory holds
    for frame in frames:
        cv2.imwrite(str(tmp_path / f"{frame.index:05d}.png"), frame.rgb[..., ::-1])
    arguments = [exported, "%05d.png", ",".join(map(str, BOX)), "masks"]
    subprocess.run([sys.executable, DEMO, *map(str, arguments)], cwd=tmp_path, check=True)
    paths = sorted((tmp_path / "masks").iterdir())
    theirs = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) == 255 for path in paths]
    assert np.mean(np.stack(theirs) != np.stack(tracked(exported, frames))) <= differing
