"""Folders of pictures and clips to train on: a green disc and a red square on blue."""

from pathlib import Path

import cv2
import numpy as np

from samvideo.io.masks import write_index_png
from samvideo.training import splits

GREEN, RED = (0, 255, 0), (255, 0, 0)
SIZE = (96, 128)


def picture(shift: int = 0, second: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A green disc and a red square on blue: BGR and ids."""
    bgr, ids = np.full((*SIZE, 3), (200, 40, 40), np.uint8), np.zeros(SIZE, np.uint8)
    cv2.circle(ids, (40 + shift, 40), 18, 1, -1)
    if second:
        cv2.rectangle(ids, (80, 50), (110, 80), 2, -1)
    for number, (red, green, blue) in ((1, GREEN), (2, RED)):
        bgr[ids == number] = blue, green, red
    return bgr, ids


def save(folder: Path, images: str, masks: str, name: str, shift: int = 0, second: bool = True) -> None:
    bgr, ids = picture(shift, second)
    for part in (images, masks):
        (folder / part).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / images / f"{name}.png"), bgr)
    write_index_png(folder / masks / f"{name}.png", ids)


def save_all(root: Path) -> Path:
    """Stills under two terms and a clip of ten frames, on the training side, beside a clip that is never used."""
    names = [name for name in map(str, range(40)) if splits.side(name) == "train"][:8]
    for terms in ("open", "unstated"):
        for name in names:
            save(root / "objects" / terms / "shapes", "images", "masks", name)
    for clip in ("bear", "camel", "sbi-board"):
        for t in range(10):
            save(root / "davis", f"JPEGImages/480p/{clip}", f"Annotations/480p/{clip}", f"{t:05}", 4 * t, False)
    return root
