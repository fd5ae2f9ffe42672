"""Any tracker, with prompted frames segmented by any segmenter: boxes and clicks reach the tracker as masks."""

from collections.abc import Sequence
from dataclasses import replace

from samvideo.io.snapshot import dump_state, load_state
from samvideo.object_prompts import ObjectPrompt, group_tracked
from samvideo.segmenters.base import EmbeddedImage, Previous, Segmentation, Segmenter
from samvideo.trackers.base import Tracker
from samvideo.types import Frame, FrameResult, Mask, Prompt

STATE_KIND = "first-mask"


class FirstMaskTracker:
    """Tracks the masks that a segmenter makes of boxes and clicks; see `samvideo.trackers.base.Tracker`.

    Clicks on an object that is tracked already correct its mask on this frame: what the segmenter answered before
    on the same frame, with its logits, or else what the tracker finds there. A box starts afresh. Masks are passed
    on.

    Args:
        tracker: is given masks only; this object owns it.
        segmenter: infers them.

    Attributes:
        segmenter: as given; serves previews as well.
    """

    def __init__(self, tracker: Tracker, segmenter: Segmenter) -> None:
        self._tracker, self.segmenter = tracker, segmenter
        self._clear()

    def _clear(self) -> None:
        self._index: int | None = None  # of the newest frame
        self._ids: tuple[int, ...] = ()  # of the tracked objects
        self._answers: dict[int, Segmentation] = {}  # on the newest frame, by object
        self._image: EmbeddedImage | None = None  # the newest frame, if it was segmented

    @property
    def lookahead(self) -> int:
        """See `Tracker.lookahead`."""
        return max(self._tracker.lookahead, self.segmenter.lookahead)

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        """See `Tracker.step`."""
        grouped = group_tracked(prompts, self._ids, frame.size_wh)
        same = frame.index == self._index
        answers, image = (dict(self._answers), self._image) if same else ({}, None)
        drawn = [prompt for prompt in grouped if prompt.mask is None]
        if drawn:
            previous = self._previous(frame, drawn, answers, upcoming)
            image = image or self.segmenter.embed(frame.rgb, None if upcoming is None else upcoming.rgb)
            for found in image.answer(drawn, previous=previous):
                answers[found.object_id] = _chosen_only(found)
        masks = []
        for prompt in grouped:
            if prompt.mask is not None:
                answers.pop(prompt.object_id, None)
            mask = answers[prompt.object_id].best if prompt.mask is None else prompt.mask
            masks.append(Mask(mask, object_id=prompt.object_id))
        result = self._tracker.step(frame, masks, upcoming=upcoming)
        self._index, self._ids, self._answers, self._image = frame.index, result.object_ids, answers, image
        return result

    def _previous(
        self, frame: Frame, drawn: Sequence[ObjectPrompt], answers: dict[int, Segmentation], upcoming: Frame | None
    ) -> dict[int, Previous]:
        """What clicks correct, by object.

        The tracker is shown the frame for that. If the prompts are refused afterwards, the caller gives the same
        frame again, so that no time passes.
        """
        corrected = {prompt.object_id for prompt in drawn if prompt.box is None}.intersection(self._ids)
        previous: dict[int, Previous] = {i: answers[i] for i in corrected if i in answers}
        if missing := corrected - previous.keys():
            tracked = self._tracker.step(frame, upcoming=upcoming)
            previous |= {i: tracked.mask(i) for i in missing}
        return previous

    def forget(self, object_id: int) -> None:
        """See `Tracker.forget`."""
        self._tracker.forget(object_id)
        self._ids = tuple(i for i in self._ids if i != object_id)
        self._answers.pop(object_id, None)

    def reset(self) -> None:
        """See `Tracker.reset`."""
        self._tracker.reset()
        self._clear()

    def state(self) -> bytes:
        """See `Tracker.state`."""
        return dump_state(STATE_KIND, (self._index, self._ids, self._answers, self._tracker.state()))

    def restore(self, state: bytes) -> None:
        """See `Tracker.restore`."""
        index, ids, answers, inner = load_state(STATE_KIND, state, ("samvideo.segmenters.base",))
        self._tracker.restore(inner)
        self._index, self._ids, self._answers, self._image = index, ids, answers, None


def _chosen_only(found: Segmentation) -> Segmentation:
    """The answer without its alternatives, which nothing needs again."""
    row = slice(found.chosen, found.chosen + 1)
    logits = None if found.logits_nhw is None else found.logits_nhw[row]
    return replace(
        found, masks_nhw=found.masks_nhw[row], quality_n=found.quality_n[row], logits_nhw=logits, chosen=0
    )
