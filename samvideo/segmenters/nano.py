"""The segmenter of the bundled tracker: its prompted network, see `samvideo.nano.prompted`. Needs torch."""

from typing import NamedTuple

import numpy as np

from samvideo.cues.motion import own_motion
from samvideo.cues.view import View
from samvideo.cues.warp import DenseFlow
from samvideo.nano.prompted import mask_of
from samvideo.nano.runtime import Networks
from samvideo.object_prompts import ObjectPrompt
from samvideo.segmenters.base import Segmentation
from samvideo.types import BoolArray, FloatArray, UInt8Array


class NanoEmbedding(NamedTuple):
    """An image and, where the upcoming frame is known, its motion: (h, w, 3) of `own_motion`."""

    rgb: UInt8Array
    motion: FloatArray | None


class NanoSegmenter:
    """Segments by appearance and motion; implements `samvideo.segmenters.base.Segmenter`. Masks are not rated.

    Args:
        networks: of the tracker.
        longest: longer side in pixels of the images between which motion is estimated.
        by_motion: whether motion until the upcoming frame is used.
    """

    def __init__(self, networks: Networks, longest: int = 428, by_motion: bool = True) -> None:
        self._networks, self._longest, self._by_motion = networks, longest, by_motion
        self._flow = DenseFlow(smooth=True)

    @property
    def lookahead(self) -> int:
        """See `Segmenter.lookahead`."""
        return int(self._by_motion)

    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> NanoEmbedding:
        """See `Segmenter.embed`."""
        if upcoming is None or not self._by_motion or upcoming.shape != rgb.shape:
            return NanoEmbedding(rgb, None)
        here, there = View(rgb, self._longest), View(upcoming, self._longest)
        return NanoEmbedding(rgb, own_motion(self._flow, here, there))

    def segment(
        self, embedding: NanoEmbedding, prompt: ObjectPrompt, previous: BoolArray | None = None
    ) -> Segmentation:
        """See `Segmenter.segment`."""
        rgb, motion = embedding
        before = np.zeros(rgb.shape[:2], bool) if previous is None else previous
        mask = mask_of(self._networks, rgb, prompt.box, prompt.xy, prompt.labels, before, motion)
        return Segmentation(mask[None], np.ones(1, np.float32))
