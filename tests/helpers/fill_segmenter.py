"""A segmenter whose masks are known; in a module of its own, because worker processes import it."""

from collections.abc import Mapping, Sequence

import numpy as np

from samvideo.object_prompts import ObjectPrompt
from samvideo.segmenters.base import EmbeddedImage, Previous, Segmentation
from samvideo.types import UInt8Array


class Filler(EmbeddedImage):
    """A box is filled; a click changes the five columns around it. The second candidate, rated lower, is larger."""

    def __init__(self, rgb: UInt8Array) -> None:
        super().__init__((rgb.shape[1], rgb.shape[0]))
        self.calls: list[tuple[list[int], list[int]]] = []

    def _candidates(
        self, prompts: Sequence[ObjectPrompt], previous: Mapping[int, Previous], multimask: bool | None
    ) -> list[Segmentation]:
        self.calls.append(([len(prompt.labels) for prompt in prompts], sorted(previous)))
        return [self._answer(prompt, previous.get(prompt.object_id)) for prompt in prompts]

    def _answer(self, prompt: ObjectPrompt, before: Previous | None) -> Segmentation:
        mask = np.zeros(self.size_wh[::-1], bool)
        if isinstance(before, Segmentation):
            mask = before.best.copy()
        if prompt.box is not None:
            x1, y1, x2, y2 = (int(side) for side in prompt.box)
            mask[y1:y2, x1:x2] = True
        for (x, _), label in list(zip(prompt.xy, prompt.labels, strict=True))[-1:]:
            mask[5:15, max(0, int(x) - 2) : int(x) + 3] = bool(label)
        larger = mask.copy()
        larger[5:15, 4:16] = True
        rating = np.array([0.9, 0.8], np.float32)
        return Segmentation(prompt.object_id, np.stack([mask, larger]), rating, chosen=0)


class FillSegmenter:
    lookahead = 0

    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> EmbeddedImage:
        return Filler(rgb)
