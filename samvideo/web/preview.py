"""The masks that marks on one frame would give, at once: a throw-away look by a tracker of the chosen kind."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

import cv2
import numpy as np

from samvideo.geometry import fit_size, resize_rgb
from samvideo.trackers.base import Tracker
from samvideo.types import BoolArray, Frame, FrameResult
from samvideo.web.marks import Mark
from samvideo.web.passes import obey

LONGEST = 512  # pixels of the longer side; more would be sharper, but not at once


class Preview:
    """Previews one at a time, from any thread; only the newest of those that wait is made.

    Args:
        make_tracker: called once, at the first preview.
    """

    def __init__(self, make_tracker: Callable[[], Tracker]) -> None:
        self._make = make_tracker
        self._tracker: Tracker | None = None
        self._busy = threading.Lock()
        self._asked = 0

    def masks(
        self, frame: Frame, marks: Mapping[int, Mark], known: FrameResult, following: Frame | None = None
    ) -> FrameResult | None:
        """Masks (K, h, w) of the marked objects at a reduced size, or None when a newer request came meanwhile.

        Args:
            frame: the frame, at video size.
            marks: on it, by object, in pixels of the video.
            known: masks from tracking that clicks correct.
            following: the next frame, at video size, if there is one.

        Raises:
            PromptError: the marks contradict each other.
        """
        self._asked = ticket = self._asked + 1
        with self._busy:
            if ticket != self._asked:
                return None
            self._tracker = self._tracker or self._make()
            self._tracker.reset()
            size_wh = fit_size(frame.size_wh, LONGEST)
            small = _shrunk(frame, size_wh)
            later = _shrunk(following, size_wh) if following else None
            scaled = {i: _scaled(mark, frame.size_wh, size_wh) for i, mark in marks.items()}
            masks = [_resized(mask, size_wh) for mask in known.masks]
            before = replace(known, masks=np.array(masks, bool).reshape(len(masks), *size_wh[::-1]))
            return obey(self._tracker, small, scaled, before, later)


def _shrunk(frame: Frame, size_wh: tuple[int, int]) -> Frame:
    return replace(frame, rgb=resize_rgb(frame.rgb, size_wh))


def _scaled(mark: Mark, from_wh: tuple[int, int], to_wh: tuple[int, int]) -> Mark:
    across, down = to_wh[0] / from_wh[0], to_wh[1] / from_wh[1]
    box = None
    if mark.box is not None:
        x1, y1, x2, y2 = mark.box
        box = x1 * across, y1 * down, x2 * across, y2 * down
    clicks = tuple((x * across, y * down, label) for x, y, label in mark.clicks)
    return Mark(box, clicks, None if mark.mask is None else _resized(mark.mask, to_wh))


def _resized(mask: BoolArray, size_wh: tuple[int, int]) -> BoolArray:
    return cv2.resize(mask.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST).astype(bool)
