"""The interface of segmenters: masks of objects on one image, from prompts.

Trackers use them for first masks and corrections, the page for previews, `samvideo segment` for images.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from samvideo.errors import ConfigError, PromptError, shown
from samvideo.geometry import check_mask_size
from samvideo.object_prompts import ObjectPrompt, group_prompts
from samvideo.types import BoolArray, FloatArray, Prompt, UInt8Array


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Mask candidates of one object.

    Attributes:
        object_id: the object.
        masks_nhw: bool (N, H, W) at the size of the image, N at least 1.
        quality_n: float32 (N,) predicted IoU; not all models keep it in [0, 1].
        logits_nhw: float32 (N, h, w) low-resolution logits, with which a later prompt on the object continues; None
            where there are none.
        chosen: index of the candidate that answers the prompt.
    """

    object_id: int
    masks_nhw: BoolArray
    quality_n: FloatArray
    logits_nhw: FloatArray | None = None
    chosen: int = 0

    @property
    def best(self) -> BoolArray:
        """The (H, W) mask of the candidate that answers the prompt."""
        mask: BoolArray = self.masks_nhw[self.chosen]
        return mask


Previous = BoolArray | Segmentation
"""What a prompt corrects: a bool (H, W) mask of the object, or an earlier answer, whose logits are used."""
Chooser = Callable[[ObjectPrompt, Segmentation], int]
"""Chooses the candidate that answers a prompt: its index."""


def by_quality(prompt: ObjectPrompt, found: Segmentation) -> int:
    """The candidate with the highest predicted IoU, as published."""
    return int(found.quality_n.argmax())


class EmbeddedImage(ABC):
    """An image and what all prompts on it share, computed once; serves any number of prompts, from any thread.

    Args:
        size_wh: of the image, in pixels.
        choose: chooses among the candidates of an object.
    """

    def __init__(self, size_wh: tuple[int, int], choose: Chooser = by_quality) -> None:
        self.size_wh, self._choose = size_wh, choose

    def segment(
        self,
        prompts: Sequence[Prompt],
        *,
        previous: Mapping[int, Previous] | None = None,
        multimask: bool | None = None,
    ) -> list[Segmentation]:
        """Segment objects, in batches.

        Args:
            prompts: boxes and clicks in pixels of the image; those without `object_id` are an object each.
            previous: by `object_id`, what the prompts correct; answers of another model count by their mask.
            multimask: whether to return the model's alternatives; None: where a prompt is ambiguous, as published.

        Returns:
            One segmentation per object, by ascending id.

        Raises:
            PromptError: a prompt is outside the image, contradicts another, or is of a kind that the model does not
                take; or something previous is of another size, or of an object without prompt.
            ConfigError: `choose` returned no index of a candidate.
        """
        grouped = group_prompts(prompts, (), self.size_wh)
        if unprompted := (previous or {}).keys() - {prompt.object_id for prompt in grouped}:
            raise PromptError(
                f"there is something previous of object {min(unprompted)}, but no prompt that corrects it"
            )
        return self.answer(grouped, previous=previous, multimask=multimask)

    def answer(
        self,
        prompts: Sequence[ObjectPrompt],
        *,
        previous: Mapping[int, Previous] | None = None,
        multimask: bool | None = None,
    ) -> list[Segmentation]:
        """As `segment`, for prompts that are checked and joined per object; `previous` may be of others too."""
        if not prompts:
            return []
        for prompt in prompts:
            if prompt.mask is not None:
                raise PromptError(
                    f"object {prompt.object_id} has a mask, which needs no segmenter: box or points expected"
                )
        earlier = {i: self._checked(before) for i, before in (previous or {}).items()}
        found = self._candidates(prompts, earlier, multimask)
        pairs = zip(prompts, found, strict=True)
        return [replace(one, chosen=_index(self._choose(prompt, one), one)) for prompt, one in pairs]

    def _checked(self, previous: Previous) -> Previous:
        """What a prompt corrects, as a mask of the size of the image, non-zero inside, or an answer with such."""
        if isinstance(previous, Segmentation):
            check_mask_size(previous.best, self.size_wh)
            return previous
        mask = np.asarray(previous)
        if mask.ndim != 2:
            raise PromptError(
                f"what a prompt corrects is one (H, W) mask or a Segmentation, not shape {mask.shape}"
            )
        check_mask_size(mask, self.size_wh)
        return mask.astype(bool)

    @abstractmethod
    def _candidates(
        self, prompts: Sequence[ObjectPrompt], previous: Mapping[int, Previous], multimask: bool | None
    ) -> list[Segmentation]:
        """The candidates of each object."""


class Segmenter(Protocol):
    """Segments objects of an image from prompts. The suite in `tests/contracts/test_segmenter.py` runs over all."""

    @property
    def lookahead(self) -> int:
        """How many upcoming frames improve the masks: 0 or 1."""
        ...

    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> EmbeddedImage:
        """Compute what all prompts on an image share.

        Args:
            rgb: uint8 (H, W, 3).
            upcoming: the next frame of the same size, if known; ignored where `lookahead` is 0.
        """
        ...


def _index(chosen: int, found: Segmentation) -> int:
    count = len(found.masks_nhw)
    if not isinstance(chosen, (int, np.integer)) or not 0 <= chosen < count:
        raise ConfigError(f"choose returned {shown(chosen)}: the index of a candidate, 0 to {count - 1}, expected")
    return int(chosen)


def mask_of(previous: Previous | None) -> BoolArray | None:
    """The mask of what a prompt corrects."""
    return previous.best if isinstance(previous, Segmentation) else previous
