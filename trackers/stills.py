"""Prompts on single images: frames that have nothing to do with each other, so that nothing is propagated."""

from collections.abc import Sequence

import numpy as np

from samvideo.errors import ConfigError
from samvideo.object_prompts import ObjectPrompt, group_prompts
from samvideo.segmenters.base import EmbeddedImage, Segmentation, Segmenter
from samvideo.types import Frame, FrameResult, Prompt, UInt8Array


def segment_objects(
    image: EmbeddedImage, prompts: Sequence[ObjectPrompt], *, multimask: bool | None = None
) -> list[Segmentation]:
    """Segment the objects of an image, by ascending id; a mask is its own answer. See `EmbeddedImage.answer`."""
    found = image.answer([prompt for prompt in prompts if prompt.mask is None], multimask=multimask)
    for prompt in prompts:
        if prompt.mask is not None:
            found.append(Segmentation(prompt.object_id, prompt.mask[None], np.ones(1, np.float32)))
    return sorted(found, key=lambda segmentation: segmentation.object_id)


def frame_result(
    found: Sequence[Segmentation], index: int, seconds: float, size_wh: tuple[int, int]
) -> FrameResult:
    """The chosen masks of an image as the result of a frame; the score is the quality, within [0, 1]."""
    masks = np.array([one.best for one in found], bool).reshape(len(found), size_wh[1], size_wh[0])
    scores = np.array([np.clip(one.quality_n[one.chosen], 0, 1) for one in found], np.float32)
    present = np.array([one.best.any() for one in found], bool)
    return FrameResult(index, seconds, tuple(one.object_id for one in found), masks, scores, present)


class StillSegmenter:
    """A segmenter to which the image after an image says nothing; see `samvideo.segmenters.base.Segmenter`.

    Attributes:
        segmenter: as given.
    """

    lookahead = 0

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter

    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> EmbeddedImage:
        """See `Segmenter.embed`."""
        return self.segmenter.embed(rgb)


class StillsTracker:
    """Answers the prompts on each frame and forgets them with the next; has the calls of `Tracker`, for the page.

    Prompts for an object that was answered on the same frame replace those before.

    Args:
        segmenter: answers them.

    Attributes:
        segmenter: serves previews as well.
    """

    lookahead = 0

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = StillSegmenter(segmenter)
        self._index: int | None = None  # of the newest frame
        self._answers: dict[int, Segmentation] = {}  # on it, by object

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        """See `Tracker.step`."""
        answers = self._answers if frame.index == self._index else {}
        grouped = group_prompts(prompts, answers, frame.size_wh)
        if grouped:
            found = segment_objects(self.segmenter.embed(frame.rgb), grouped)
            answers = answers | {one.object_id: one for one in found}
        self._index, self._answers = frame.index, answers
        shown = [answers[object_id] for object_id in sorted(answers)]
        return frame_result(shown, frame.index, frame.seconds, frame.size_wh)

    def forget(self, object_id: int) -> None:
        """See `Tracker.forget`."""
        if object_id not in self._answers:
            raise KeyError(f"object {object_id} is not on this image; there are {sorted(self._answers)}")
        self._answers = {i: found for i, found in self._answers.items() if i != object_id}

    def reset(self) -> None:
        """See `Tracker.reset`."""
        self._index, self._answers = None, {}

    def state(self) -> bytes:
        """Raise ConfigError: there is no state to restore, since images do not depend on each other."""
        raise ConfigError("the answers on single images have no state to save")

    def restore(self, state: bytes) -> None:
        """Raise ConfigError: there is no state."""
        raise ConfigError("the answers on single images have no state to restore")
