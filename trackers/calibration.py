"""What is tracked to calibrate a quantisation."""

from collections.abc import Sequence

from samvideo.runtime import Runtime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame


def track_middle(runtime: Runtime, frames: Sequence[Frame]) -> None:
    """Track what is in the middle of the first frame, half as wide and high, through some frames."""
    tracker = SamTracker(runtime)
    for count, frame in enumerate(frames):
        height, width = frame.rgb.shape[:2]
        box = Box((width / 4, height / 4, width * 3 / 4, height * 3 / 4), object_id=1)
        tracker.step(frame, [] if count else [box])
