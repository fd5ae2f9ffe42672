"""How segmenters are prompted from the ground truth of an image, and how their masks are scored.

A box is the tightest one around the mask, as in the survey of efficient SAMs (Sun et al., arXiv 2410.04960). Clicks
are those of `samvideo.evaluation.protocols`: the first in the middle of the object, each further one in the largest
error, with the answer before as `previous`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samvideo.errors import ConfigError
from samvideo.evaluation.protocols import Click, next_click
from samvideo.geometry import mask_box
from samvideo.object_prompts import ObjectPrompt
from samvideo.segmenters.base import EmbeddedImage, Segmentation
from samvideo.types import BoolArray

BATCH = 32
"""Objects that are prompted at once; bounds memory, changes no result."""
MOST_CLICKS = 20


@dataclass(frozen=True)
class ImageProtocol:
    """Which prompts are given, each object on its own.

    Attributes:
        name: as on the command line.
        box: a box, without clicks.
        clicks: how many clicks, without a box; 0 for none.
    """

    name: str
    box: bool
    clicks: int

    @property
    def measures(self) -> tuple[str, ...]:
        """What is scored: the answers to the box, and to each number of clicks."""
        return ("box",) * self.box + tuple(f"click{count}" for count in range(1, self.clicks + 1))

    def describe(self) -> str:
        """The protocol in a sentence, printed in every result."""
        parts = ["the box of each ground truth mask"] if self.box else []
        if self.clicks:
            parts.append("a click in the middle of each object")
        if self.clicks > 1:
            parts[-1] += f", then up to {self.clicks - 1} more, each in the middle of the largest error"
        return (
            "; ".join(parts) + "; the candidate that the segmenter chooses answers (by predicted IoU as published)"
        )


def find_image_protocol(text: str) -> ImageProtocol:
    """The protocol of a text: `box`, `click1` to `click20`, or `box,clickN`.

    Raises:
        ConfigError: it is none of these.
    """
    parts = [part.strip() for part in text.split(",")]
    counts = [int(part[5:]) for part in parts if re.fullmatch("click[1-9][0-9]?", part)]
    box = "box" in parts
    if len(parts) != box + len(counts) or len(counts) > 1 or max(counts, default=1) > MOST_CLICKS:
        raise ConfigError(
            f"there is no protocol {text!r} for images: box, click1 to click{MOST_CLICKS}, or both as box,click5 "
            "expected"
        )
    return ImageProtocol(text, box, max(counts, default=0))


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer to one prompt of one object: IoU of the mask, predicted and reached, and of the best candidate."""

    mask: BoolArray
    iou: float
    oracle: float
    predicted: float


def iou(truth: BoolArray, mask: BoolArray) -> float:
    """Intersection over union of two masks, at least one of which is not empty."""
    shared, either = int(np.count_nonzero(truth & mask)), int(np.count_nonzero(truth | mask))
    return shared / either


def prompt_all(
    image: EmbeddedImage, masks: Mapping[str, BoolArray], protocol: ImageProtocol
) -> dict[str, dict[str, Answer]]:
    """Prompt every object of an image; gives object -> measure -> answer.

    Args:
        image: of which the masks are.
        masks: object -> bool (H, W), not empty.
        protocol: which prompts.
    """
    answers: dict[str, dict[str, Answer]] = {key: {} for key in masks}
    keys = list(masks)
    for begin in range(0, len(keys), BATCH):
        part = {number: masks[key] for number, key in enumerate(keys[begin : begin + BATCH], begin + 1)}
        found = _boxes(image, part) if protocol.box else {}
        for number, answer in found.items():
            answers[keys[number - 1]]["box"] = answer
        for count, step in enumerate(_clicks(image, part, protocol.clicks), 1):
            for number, answer in step.items():
                answers[keys[number - 1]][f"click{count}"] = answer
    return answers


def _boxes(image: EmbeddedImage, masks: Mapping[int, BoolArray]) -> dict[int, Answer]:
    nothing = _clicked(0, ())
    prompts = [ObjectPrompt(k, nothing.xy, nothing.labels, box=mask_box(mask)) for k, mask in masks.items()]
    return {found.object_id: _score(masks[found.object_id], found) for found in image.answer(prompts)}


def _clicks(image: EmbeddedImage, masks: Mapping[int, BoolArray], count: int) -> list[dict[int, Answer]]:
    """The answers after each click. An object without error gets no more clicks, and keeps its answer."""
    clicks: dict[int, list[Click]] = {number: [] for number in masks}
    previous: dict[int, Segmentation] = {}
    steps: list[dict[int, Answer]] = []
    for _ in range(count):
        due = []
        for number, truth in masks.items():
            before = previous[number].best if previous else np.zeros_like(truth)
            if (click := next_click(truth, before)) is not None:
                clicks[number].append(click)
                due.append(_clicked(number, clicks[number]))
        wanted = {prompt.object_id: previous[prompt.object_id] for prompt in due if previous}
        found = {one.object_id: one for one in image.answer(due, previous=wanted)}
        previous.update(found)
        now = {number: _score(masks[number], one) for number, one in found.items()}
        steps.append((steps[-1] if steps else {}) | now)
    return steps


def _clicked(number: int, clicks: Sequence[Click]) -> ObjectPrompt:
    xy = np.array([click[:2] for click in clicks], np.float32).reshape(-1, 2)
    return ObjectPrompt(number, xy, np.array([click[2] for click in clicks], np.int64))


def _score(truth: BoolArray, found: Segmentation) -> Answer:
    scores = [iou(truth, mask) for mask in found.masks_nhw]
    predicted = float(np.clip(np.nan_to_num(found.quality_n[found.chosen]), 0, 1))  # not all models keep it there
    return Answer(found.best, scores[found.chosen], max(scores), predicted)
