"""How a tracker is prompted from the ground truth; every choice is deterministic.

Clicks and the two interactive protocols follow Ravi et al., arXiv 2408.00714, appendix F, and facebookresearch/sam2
(sam2/modeling/sam2_utils.py, get_next_point): the next click lies in the middle of the largest error, where the
distance to pixels without error is greatest, on the object where it is missing and off it where it is too much.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.metrics import score_masks
from samvideo.geometry import mask_box
from samvideo.trackers.base import Tracker
from samvideo.trackers.schedule import Schedule, propagate
from samvideo.types import BoolArray, Box, Frame, FrameResult, Mask, Points, Prompt

Click = tuple[float, float, int]
"""x, y in pixels, and 1 on the object, 0 off it."""


@dataclass(frozen=True)
class Protocol:
    """One way of prompting.

    Attributes:
        name: as on the command line.
        kind: "mask", "box" or "clicks", given where an object first appears.
        clicks: how many, for "clicks": the first in the middle of the object, each other one in the largest error
            of what the tracker made of those before, shown the same frame again.
        correction: "" for none; "online": in one pass, an object whose J falls below `threshold` on an annotated
            frame gets clicks there; "offline": after each pass the worst annotated frame of each object gets
            clicks, and the video is tracked again.
        frames: on how many frames an object is clicked at most, the first included.
        threshold: see "online".
    """

    name: str
    kind: str
    clicks: int = 1
    correction: str = ""
    frames: int = 1
    threshold: float = 0.0

    def describe(self) -> str:
        """The protocol in a sentence, printed in every result."""
        given = {"mask": "ground truth mask", "box": "bounding box", "clicks": f"{self.clicks} click(s)"}[self.kind]
        text = f"{given} of each object where it first appears"
        if self.correction == "online":
            return (
                f"{text}; one pass, {self.clicks} corrective clicks where J < {self.threshold}, on at most "
                f"{self.frames} frames per object"
            )
        if self.correction == "offline":
            return (
                f"{text}; {self.frames} passes, {self.clicks} corrective clicks on the worst frame of each object "
                "after each but the last"
            )
        return f"{text}; no correction"


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("mask", "mask"),
        Protocol("box", "box"),
        Protocol("click1", "clicks", 1),
        Protocol("click3", "clicks", 3),
        Protocol("click5", "clicks", 5),
        Protocol("online", "clicks", 3, "online", frames=8, threshold=0.75),
        Protocol("offline", "clicks", 3, "offline", frames=8),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        ConfigError: no such protocol.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"there is no protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def next_click(truth: BoolArray, prediction: BoolArray) -> Click | None:
    """The click that a patient annotator would make next, None when nothing is wrong."""
    missing, excess = _depth(truth & ~prediction), _depth(prediction & ~truth)
    deepest = excess if excess.max() >= missing.max() else missing
    if deepest.max() == 0:
        return None
    y, x = np.unravel_index(int(deepest.argmax()), deepest.shape)
    return float(x) + 0.5, float(y) + 0.5, int(deepest is missing)


def _depth(mask: BoolArray) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Distance of each pixel of a mask to the nearest one that is not; outside the frame nothing is."""
    framed = np.pad(mask.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1], np.float32)


@dataclass
class ProtocolSchedule(Schedule):
    """Prompts from the ground truth of one video, as a protocol defines.

    Attributes:
        first_seen: object -> index of the frame where it first appears.
        truth: the masks of the objects on a frame, None where it is not annotated; called only where needed.
        clicks: (frame index, object) -> those made so far; the offline protocol keeps them from pass to pass.
        wanted: (frame index, object) -> how many clicks it will get there.
    """

    protocol: Protocol
    first_seen: Mapping[int, int]
    truth: Callable[[int], Mapping[int, BoolArray] | None]
    clicks: dict[tuple[int, int], list[Click]] = field(default_factory=dict)
    wanted: dict[tuple[int, int], int] = field(default_factory=dict)
    _judged: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.protocol.kind == "clicks":
            self.wanted = {(index, number): self.protocol.clicks for number, index in self.first_seen.items()}

    def run(self, tracker: Tracker, frames: Iterable[Frame]) -> Iterator[tuple[Frame, FrameResult]]:
        """One pass over the video; before any object appears, results have none."""
        tracker.reset()
        self._judged = None
        return propagate(frames, tracker, self)

    def due(self, frame: Frame, until: float) -> Sequence[Prompt]:
        """See `Schedule.due`."""
        return [*self._appearing(frame.index), *self._clicked(frame.index)]

    def corrections(self, frame: Frame, result: FrameResult) -> Sequence[Prompt]:
        """See `Schedule.corrections`: one more click for each object that needs one on this frame."""
        if self.protocol.correction == "online" and self._judged != frame.index:
            self._judged = frame.index  # whether an object fails is judged before its corrections
            for number in self._failing(frame.index, result):
                self.correct(number, frame.index)
        return self._more_clicks(frame.index, result)

    def correct(self, number: int, index: int) -> None:
        """Schedule clicks on an object for the next time that a frame is tracked."""
        self.wanted[index, number] = len(self.clicks.get((index, number), ())) + self.protocol.clicks

    def _appearing(self, index: int) -> list[Prompt]:
        """Masks, boxes or first clicks for the objects that first appear on a frame."""
        prompts: list[Prompt] = []
        for number in (number for number, first in self.first_seen.items() if first == index):
            mask = self._mask(index, number)
            box = mask_box(mask)
            if box is None:
                raise DatasetError(f"object {number} is to be prompted on frame {index} but has no pixel there")
            if self.protocol.kind == "mask":
                prompts.append(Mask(mask, object_id=number))
            elif self.protocol.kind == "box":
                prompts.append(Box(box, object_id=number))
            elif (index, number) not in self.clicks:
                click = next_click(mask, np.zeros_like(mask))
                assert click is not None
                self.clicks[index, number] = [click]
        return prompts

    def _clicked(self, index: int) -> list[Points]:
        """All clicks made on a frame so far."""
        return [
            Points([click[:2] for click in made], [click[2] for click in made], object_id=number)
            for (frame, number), made in sorted(self.clicks.items())
            if frame == index
        ]

    def _more_clicks(self, index: int, result: FrameResult) -> list[Points]:
        """The prompts of a frame after one more click for each object that is due one; empty when none is."""
        clicked = False
        for frame, number in sorted(self.wanted):
            made = self.clicks.setdefault((frame, number), []) if frame == index else []
            if frame != index or len(made) >= self.wanted[frame, number]:
                continue
            click = next_click(self._mask(index, number), result.mask(number))
            if click is None:
                self.wanted[frame, number] = len(made)
            else:
                made.append(click)
                clicked = True
        return self._clicked(index) if clicked else []

    def _failing(self, index: int, result: FrameResult) -> list[int]:
        """Objects to correct on this frame, in one pass."""
        masks = self.truth(index) or {}
        return [
            number
            for number in result.object_ids
            if number in masks
            and self.first_seen[number] < index
            and self.frames_clicked(number) < self.protocol.frames
            and score_masks(masks[number], result.mask(number)).j < self.protocol.threshold
        ]

    def frames_clicked(self, number: int) -> int:
        """On how many frames an object was clicked."""
        return sum(1 for (_, other), made in self.clicks.items() if other == number and made)

    def _mask(self, index: int, number: int) -> BoolArray:
        masks = self.truth(index)
        if masks is None or number not in masks:
            raise DatasetError(f"frame {index} has no ground truth for object {number}, which is prompted there")
        return masks[number]
