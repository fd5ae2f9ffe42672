"""The interface of segmenters, which trackers use for first masks and corrections, and the page for previews."""

from dataclasses import dataclass
from typing import Any, Protocol

from samvideo.object_prompts import ObjectPrompt
from samvideo.types import BoolArray, FloatArray, UInt8Array


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Mask candidates of one object.

    Attributes:
        masks_nhw: bool (N, H, W) at the size of the image, N at least 1.
        quality_n: float32 (N,) predicted IoU in [0, 1].
    """

    masks_nhw: BoolArray
    quality_n: FloatArray

    @property
    def best(self) -> BoolArray:
        """The (H, W) mask with the highest predicted IoU."""
        mask: BoolArray = self.masks_nhw[int(self.quality_n.argmax())]
        return mask


class Segmenter(Protocol):
    """Segments objects of an image from prompts. The suite in `tests/contracts/test_segmenter.py` runs over all."""

    @property
    def lookahead(self) -> int:
        """How many upcoming frames improve the masks: 0 or 1."""
        ...

    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> Any:
        """What all prompts on an image share, computed once.

        Args:
            rgb: uint8 (H, W, 3).
            upcoming: the next frame of the same size, if known; ignored where `lookahead` is 0.
        """
        ...

    def segment(self, embedding: Any, prompt: ObjectPrompt, previous: BoolArray | None = None) -> Segmentation:
        """Segment one object.

        Args:
            embedding: what `embed` returned for the image.
            prompt: a box, clicks or both, in pixels of the image.
            previous: bool (H, W) mask of the object, which the prompt corrects; None for a new object.
        """
        ...
