"""The segmenter without weights: GrabCut, see `samvideo.cues.grabcut`."""

from collections.abc import Mapping, Sequence

import numpy as np

from samvideo.cues.grabcut import box_to_mask, clicks_to_mask
from samvideo.object_prompts import ObjectPrompt
from samvideo.segmenters.base import EmbeddedImage, Previous, Segmentation, mask_of
from samvideo.types import UInt8Array, image_wh


class GrabCutSegmenter:
    """Segments by colours and edges; implements `samvideo.segmenters.base.Segmenter`. Masks are not rated."""

    lookahead = 0

    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> EmbeddedImage:
        """See `Segmenter.embed`."""
        return _Image(rgb)


class _Image(EmbeddedImage):
    def __init__(self, rgb: UInt8Array) -> None:
        super().__init__(image_wh(rgb))
        self._rgb = rgb

    def _candidates(
        self, prompts: Sequence[ObjectPrompt], previous: Mapping[int, Previous], multimask: bool | None
    ) -> list[Segmentation]:
        return [self._segment(prompt, previous.get(prompt.object_id)) for prompt in prompts]

    def _segment(self, prompt: ObjectPrompt, previous: Previous | None) -> Segmentation:
        if prompt.box is not None:
            mask = box_to_mask(self._rgb, prompt.box, prompt.xy, prompt.labels)
        else:
            before = mask_of(previous)
            if before is None:
                before = np.zeros(self._rgb.shape[:2], bool)
            mask = clicks_to_mask(self._rgb, prompt.xy, prompt.labels, before)
        return Segmentation(prompt.object_id, mask[None], np.ones(1, np.float32))
