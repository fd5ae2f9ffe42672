"""A run with two objects, its video, and exports of it."""

from pathlib import Path
from typing import Any

import numpy as np
from runs_made import box, disc, nothing

from samvideo.exports import FORMATS, export_run

COUNT = 12
LABELS = {1: "grasper & <co>", 2: "liver"}
RGB = (200, 60, 120)


def ring(k: int) -> np.ndarray:
    """Two parts, one with a hole; hidden on frames 4 and 5."""
    if k in (4, 5):
        return nothing()
    return (disc(50 + 3 * k, 50, 20) & ~disc(50 + 3 * k, 50, 6)) | box(10, 5, 20, 12)


def plate(k: int) -> np.ndarray:
    return box(150, 60 + k, 190, 95)


def written(run: Path, tmp_path: Path, name: str, **options: Any) -> Path:
    return export_run(run, name, tmp_path / f"out{FORMATS.find(name).suffix}", labels=LABELS, **options)
