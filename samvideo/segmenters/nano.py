"""The segmenter of the bundled tracker: its prompted network, see `samvideo.nano.prompted`. Needs torch."""

from collections.abc import Mapping, Sequence

import numpy as np

from samvideo.cues.motion import own_motion
from samvideo.cues.view import View
from samvideo.cues.warp import DenseFlow
from samvideo.nano import prompted
from samvideo.nano.runtime import Networks
from samvideo.object_prompts import ObjectPrompt
from samvideo.segmenters.base import EmbeddedImage, Previous, Segmentation, mask_of
from samvideo.types import FloatArray, UInt8Array, image_wh


class NanoSegmenter:
    """Segments by appearance and motion; implements `samvideo.segmenters.base.Segmenter`. Masks are not rated.

    Args:
        networks: of the tracker.
        longest: longer side in pixels of the images between which motion is estimated.
        by_motion: whether motion until the upcoming frame is used.
    """

    def __init__(self, networks: Networks, longest: int = 428, by_motion: bool = True) -> None:
        self._networks, self._longest, self._by_motion = networks, longest, by_motion

    @property
    def lookahead(self) -> int:
        """See `Segmenter.lookahead`."""
        return int(self._by_motion)

    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> EmbeddedImage:
        """See `Segmenter.embed`."""
        if upcoming is None or not self._by_motion or upcoming.shape != rgb.shape:
            return _Image(self._networks, rgb, None)
        here, there = View(rgb, self._longest), View(upcoming, self._longest)
        flow = DenseFlow(smooth=True)  # not shared: OpenCV's keeps buffers that serve one thread
        return _Image(self._networks, rgb, own_motion(flow, here, there))


class _Image(EmbeddedImage):
    """An image and, where the upcoming frame is known, its motion: (h, w, 3) of `own_motion`."""

    def __init__(self, networks: Networks, rgb: UInt8Array, motion: FloatArray | None) -> None:
        super().__init__(image_wh(rgb))
        self._networks, self._rgb, self._motion = networks, rgb, motion

    def _candidates(
        self, prompts: Sequence[ObjectPrompt], previous: Mapping[int, Previous], multimask: bool | None
    ) -> list[Segmentation]:
        return [self._segment(prompt, previous.get(prompt.object_id)) for prompt in prompts]

    def _segment(self, prompt: ObjectPrompt, previous: Previous | None) -> Segmentation:
        before = mask_of(previous)
        if before is None:
            before = np.zeros(self._rgb.shape[:2], bool)
        mask = prompted.mask_of(
            self._networks, self._rgb, prompt.box, prompt.xy, prompt.labels, before, self._motion
        )
        return Segmentation(prompt.object_id, mask[None], np.ones(1, np.float32))
