"""The segmenter without weights: GrabCut, see `samvideo.cues.grabcut`."""

import numpy as np

from samvideo.cues.grabcut import box_to_mask, clicks_to_mask
from samvideo.object_prompts import ObjectPrompt
from samvideo.segmenters.base import Segmentation
from samvideo.types import BoolArray, UInt8Array


class GrabCutSegmenter:
    """Segments by colours and edges; implements `samvideo.segmenters.base.Segmenter`. Masks are not rated."""

    lookahead = 0

    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> UInt8Array:
        """See `Segmenter.embed`: the image itself."""
        return rgb

    def segment(
        self, embedding: UInt8Array, prompt: ObjectPrompt, previous: BoolArray | None = None
    ) -> Segmentation:
        """See `Segmenter.segment`."""
        if prompt.box is not None:
            mask = box_to_mask(embedding, prompt.box, prompt.xy, prompt.labels)
        else:
            before = np.zeros(embedding.shape[:2], bool) if previous is None else previous
            mask = clicks_to_mask(embedding, prompt.xy, prompt.labels, before)
        return Segmentation(mask[None], np.ones(1, np.float32))
