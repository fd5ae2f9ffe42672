"""Clips to fine-tune on, and what runs beside a test of several processes: these import this module."""

import os
import signal
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest
from miniature import miniature

from samvideo.errors import DatasetError
from samvideo.io.masks import write_index_png
from samvideo.training import finetune
from samvideo.training.clip_sampler import ClipSampler

NAMES = ("a", "b", "c")
KILLED_AFTER = 2
"""Steps."""


def write_shapes(root: Path) -> Path:
    """Three sequences of six frames: a disc and a square that move over grey."""
    for shift, name in enumerate(NAMES):
        for t in range(6):
            picture, ids = np.full((80, 96, 3), 60 + 20 * shift, np.uint8), np.zeros((80, 96), np.uint8)
            cv2.circle(ids, (24 + 3 * t, 30 + shift), 14, 1, -1)
            cv2.rectangle(ids, (60, 50 - 3 * t), (80, 70 - 3 * t), 2, -1)
            picture[ids == 1], picture[ids == 2] = (40, 200, 40), (220, 40, 40)
            for part in ("JPEGImages", "Annotations"):
                (root / part / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / "JPEGImages" / name / f"{t:05}.png"), picture)
            write_index_png(root / "Annotations" / name / f"{t:05}.png", ids)
    return root


def beside(*arguments: Any, rank: int, count: int) -> None:
    """What the second process does: the model is a miniature there, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "load", lambda name, weights: miniature("efficienttam"))
        finetune.help_learn(*arguments, rank=rank, count=count)


def killed(*arguments: Any, rank: int, count: int) -> None:
    """The same, but the process is killed in the step after `KILLED_AFTER`."""
    losses, left = finetune.clip_losses, iter(range(KILLED_AFTER))

    def counted(*given: Any, **options: Any) -> Any:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return losses(*given, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "clip_losses", counted)
        beside(*arguments, rank=rank, count=count)


def without_frames(*arguments: Any, rank: int, count: int) -> None:
    """The same, but the process cannot read a frame."""

    def draw(*_: Any) -> NoReturn:
        raise DatasetError("00003.png is damaged: restore it")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClipSampler, "draw", draw)
        beside(*arguments, rank=rank, count=count)
