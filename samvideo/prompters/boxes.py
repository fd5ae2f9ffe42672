"""One mask for each box of a detector, in batches (Zhang et al. 2023, MobileSAMv2: object-aware prompts).

Counterpart: ChaoningZhang/MobileSAM: MobileSAMv2/Inference.py.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from samvideo.errors import ConfigError, PromptError
from samvideo.geometry import clip_box
from samvideo.prompters.base import Boxes, Embed, MaskFilter, MaskProposal
from samvideo.types import FloatArray, UInt8Array, image_wh

CORNERS = (2, 3)  # labels of the corners of a box
EVERY = MaskFilter(0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector found in an image.

    Attributes:
        boxes: float (N, 4) x1, y1, x2, y2 in pixels.
        scores: (N,) confidences, None where it gives none.
        labels: names of classes, None where it knows none.
    """

    boxes: Boxes
    scores: FloatArray | None = None
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if np.shape(self.boxes) != (count, 4):
            raise ConfigError(f"boxes of a detector have the shape {np.shape(self.boxes)}: (N, 4) expected")
        for name, values in (("scores", self.scores), ("labels", self.labels)):
            if values is not None and len(values) != count:
                raise ConfigError(f"a detector gave {count} boxes and {len(values)} {name}: as many expected")
        if not np.isfinite(self.boxes).all():
            raise ConfigError("a box of a detector is not finite")

    def select(self, rows: NDArray[np.int64]) -> "Detections":
        """Return those of these rows."""
        return Detections(
            self.boxes[rows],
            None if self.scores is None else self.scores[rows],
            None if self.labels is None else tuple(self.labels[row] for row in rows),
        )


Detector: TypeAlias = Callable[[UInt8Array], Detections]
"""Finds boxes in an image, uint8 (H, W, 3)."""


class BoxesPrompter:
    """See the module; implements `samvideo.prompters.base.AutoPrompter`.

    Args:
        embed: encodes images.
        detector: finds the boxes.
    """

    def __init__(self, embed: Embed, detector: Detector) -> None:
        self._embed, self._detector = embed, detector

    def propose(self, rgb: UInt8Array) -> list[MaskProposal]:
        """See `AutoPrompter.propose`: by area, the largest first; boxes beside the image are left out.

        Raises:
            ConfigError: the detector's answer has other shapes.
        """
        size_wh = image_wh(rgb)
        detections = self._detector(rgb)
        rows, boxes = [], []
        for row, box in enumerate(np.asarray(detections.boxes, np.float64).tolist()):
            with suppress(PromptError):  # a detector may see something beside the image
                boxes.append(clip_box((box[0], box[1], box[2], box[3]), size_wh))
                rows.append(row)
        if not boxes:
            return []
        image = self._embed(rgb, (0, 0, *size_wh))
        corners = np.array(boxes, np.float64).reshape(-1, 2, 2)
        found = image.masks(corners, np.tile(np.array(CORNERS, np.int64), (len(boxes), 1)), EVERY)
        proposals = [
            replace(
                one.proposal(size_wh),
                label=None if detections.labels is None else detections.labels[row],
                score=None if detections.scores is None else float(detections.scores[row]),
            )
            for row, one in zip(rows, found, strict=True)
        ]
        return sorted(proposals, key=lambda one: -one.area)
