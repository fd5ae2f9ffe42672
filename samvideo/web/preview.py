"""The masks that the annotations on one frame would give, before anything is tracked."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

import cv2
import numpy as np

from samvideo.errors import VideoError
from samvideo.geometry import fit_size, resize_rgb
from samvideo.object_prompts import group_prompts
from samvideo.segmenters.base import Segmenter
from samvideo.types import BoolArray, Frame, FrameResult
from samvideo.web.annotations import Annotation
from samvideo.web.frames import Media
from samvideo.web.outlines import overlays
from samvideo.web.results import Results
from samvideo.web.state import MaskOverlay
from samvideo.web.turns import Turns

LONGEST = 512  # pixels of the longer side; more would be sharper, but slower
KEPT = 256  # previews


class Preview:
    """Previews, made on threads of the pool, one at a time.

    Args:
        make_segmenter: called once, when it is needed first.
        media, results: where frames and tracked masks come from.
    """

    def __init__(self, make_segmenter: Callable[[], Segmenter], media: Media, results: Results) -> None:
        self._make, self._media, self._results = make_segmenter, media, results
        self._segmenter: Segmenter | None = None
        self._making = threading.Lock()
        self._turns = Turns()
        self._made: dict[tuple[int, int], tuple[Annotation, MaskOverlay]] = {}  # by (frame, object)

    def overlays(
        self, index: int, drawn: Mapping[int, Annotation], corrected: set[int]
    ) -> dict[int, MaskOverlay] | None:
        """Preview the annotations on frame `index`, by object; None when a newer request overtook this one.

        Args:
            index: the frame.
            drawn: what is drawn there, by object.
            corrected: objects whose clicks correct their tracked masks there.

        Raises:
            PromptError: the annotations contradict each other.
        """
        made = self._made
        missing = {i: new for i, new in drawn.items() if made.get((index, i), (None,))[0] is not new}
        if missing:
            with self._turns.turn() as mine:
                if not mine:
                    return None
                segmenter = self.segmenter()
                frame, upcoming = self._media.exact(index), None
                if segmenter.lookahead:
                    with suppress(VideoError):  # the last one
                        upcoming = self._media.exact(index + 1)
                known = self._results.look_up(index, corrected & missing.keys())
                result = preview_masks(segmenter, frame, missing, known, upcoming)
                for i, overlay in overlays(result, frame.size_wh, "preview").items():
                    made[index, i] = missing[i], overlay
                for key in list(made)[:-KEPT]:
                    del made[key]
        return {i: found[1] for i in drawn if (found := made.get((index, i)))}

    def segmenter(self) -> Segmenter:
        """The segmenter, which any thread may use."""
        with self._making:
            self._segmenter = self._segmenter or self._make()
            return self._segmenter

    def made(self, index: int, object_id: int, drawn: Annotation | None) -> MaskOverlay | None:
        """The preview of what is drawn for an object on frame `index`, if it is made already."""
        annotation, overlay = self._made.get((index, object_id), (None, None))
        return overlay if drawn is not None and annotation is drawn else None

    def forget(self) -> None:
        """Drop all previews, because tracked masks changed; a preview under way is not kept."""
        self._made = {}


def preview_masks(
    segmenter: Segmenter,
    frame: Frame,
    drawn: Mapping[int, Annotation],
    known: FrameResult,
    upcoming: Frame | None = None,
) -> FrameResult:
    """Segment what is annotated on one frame at a reduced size; masks are (K, h, w).

    Args:
        segmenter: infers masks from boxes and clicks.
        frame: at video size.
        drawn: the annotations on it, by object, in pixels of the video.
        known: tracked masks at video size that clicks correct.
        upcoming: the next frame at video size, if there is one.
    """
    size_wh = fit_size(frame.size_wh, LONGEST)
    rgb, following = (resize_rgb(f.rgb, size_wh) if f is not None else None for f in (frame, upcoming))
    assert rgb is not None
    embedding = segmenter.embed(rgb, following)
    free = np.ones(rgb.shape[:2], bool)
    masks: dict[int, BoolArray] = {}
    for object_id, annotation in sorted(drawn.items()):
        scaled = _scaled(annotation, frame.size_wh, size_wh)
        for prompt in group_prompts(scaled.prompts(object_id), (), size_wh):
            previous = known.mask(object_id) if object_id in known.object_ids else None
            mask = prompt.mask
            if mask is None:
                before = None if previous is None else _resized(previous, size_wh)
                earlier = {} if before is None else {object_id: before}
                mask = embedding.answer([prompt], previous=earlier)[0].best
            masks[object_id] = mask & free
            free &= ~mask
    stack = np.array(list(masks.values()), bool).reshape(len(masks), *rgb.shape[:2])
    present = np.array([mask.any() for mask in masks.values()], bool)
    return FrameResult(frame.index, frame.seconds, tuple(masks), stack, present.astype(np.float32), present)


def _scaled(annotation: Annotation, from_wh: tuple[int, int], to_wh: tuple[int, int]) -> Annotation:
    across, down = to_wh[0] / from_wh[0], to_wh[1] / from_wh[1]
    box = None
    if annotation.box is not None:
        x1, y1, x2, y2 = annotation.box
        box = x1 * across, y1 * down, x2 * across, y2 * down
    clicks = tuple((x * across, y * down, label) for x, y, label in annotation.clicks)
    return Annotation(box, clicks, None if annotation.mask is None else _resized(annotation.mask, to_wh))


def _resized(mask: BoolArray, size_wh: tuple[int, int]) -> BoolArray:
    return cv2.resize(mask.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST).astype(bool)
