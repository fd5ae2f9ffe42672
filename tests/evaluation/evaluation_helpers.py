"""Miniature sequences, runs over them, and a tracker that needs no looking at."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from samvideo.evaluation.evaluate import Evaluation, choose_sequences
from samvideo.evaluation.video import Task
from samvideo.io.masks import write_index_png
from samvideo.object_prompts import group_prompts
from samvideo.types import BoolArray, Frame, FrameResult, Prompt

SIZE_WH = (48, 32)


class RepeatTracker:
    """Repeats each object's last mask; a box is filled, a click is a small square that grows with every click."""

    lookahead = 0

    def __init__(self, on_step: Callable[[Frame], None] = lambda frame: None) -> None:
        self.on_step = on_step
        self.reset()

    def reset(self) -> None:
        self.masks: dict[int, BoolArray] = {}

    def forget(self, object_id: int) -> None:
        del self.masks[object_id]

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        self.on_step(frame)
        height, width = frame.rgb.shape[:2]
        for prompt in group_prompts(prompts, self.masks, frame.size_wh):
            mask = np.zeros((height, width), bool) if prompt.mask is None else prompt.mask
            if prompt.box is not None:
                x1, y1, x2, y2 = (round(value) for value in prompt.box)
                mask[y1:y2, x1:x2] = True
            for (x, y), label in zip(prompt.xy.astype(int), prompt.labels, strict=True):
                mask[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = bool(label)
            self.masks[prompt.object_id] = mask
        ids = tuple(sorted(self.masks))
        stack = np.array([self.masks[k] for k in ids], bool).reshape(-1, height, width)
        return FrameResult(
            frame.index, frame.seconds, ids, stack, np.ones(len(ids), np.float32), np.ones(len(ids), bool)
        )


def index_map(objects: dict[int, tuple[int, int]], shift: int = 0) -> np.ndarray:
    """Squares of ten pixels at (x, y), moved to the right."""
    index = np.zeros(SIZE_WH[::-1], np.uint8)
    for number, (x, y) in objects.items():
        index[y : y + 10, x + shift : x + shift + 10] = number
    return index


def write_frames(folder: Path, names: Sequence[str], suffix: str = ".jpg") -> None:
    folder.mkdir(parents=True)
    texture = np.random.default_rng(len(names)).integers(0, 255, (SIZE_WH[1], SIZE_WH[0] + len(names), 3), np.uint8)
    for k, name in enumerate(names):
        Image.fromarray(texture[:, k : k + SIZE_WH[0]]).save(folder / f"{name}{suffix}")


def write_masks(folder: Path, names: Sequence[str], objects: dict[int, tuple[int, int]], late: int = 0) -> None:
    """Object 2 and above only from frame `late` on."""
    folder.mkdir(parents=True)
    for k, name in enumerate(names):
        there = {number: place for number, place in objects.items() if number == 1 or k >= late}
        write_index_png(folder / f"{name}.png", index_map(there, k))


def number(count: int, step: int = 1, width: int = 5) -> list[str]:
    return [f"{k:0{width}d}" for k in range(0, count * step, step)]


def make_run(
    name: str, root: Path, split: str, out: Path, make: Any = RepeatTracker, protocol: str = "mask", **options: Any
) -> Evaluation:
    task = Task(name, root, split, protocol, out, options.pop("objects", ()))
    return Evaluation(task, "repeat", make, choose_sequences(task.open(), **options))


def numbers(results: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on when, where and in how many pieces a run was made."""
    return {key: results[key] for key in ("dataset", "protocol", "model", "scores", "sequences", "failed")}


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted((out / "predictions").rglob("*.png"))}
