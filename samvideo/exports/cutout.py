"""Video of the objects only: transparent WebM or ProRes 4444, or on green. Other pixels are not in the file.

The transparent formats keep a few pixels around the masks, fully transparent: colours are stored for two pixels
at once, and an edge would mix with the colour beyond it.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from samvideo.exports.base import Format, Job
from samvideo.io.alpha import AlphaWriter
from samvideo.io.paired import discarding
from samvideo.types import BoolArray, Frame

GREEN = (0, 177, 64)  # chroma key green
FRINGE = np.ones((5, 5), np.uint8)


def _frames(job: Job) -> Iterator[tuple[Frame, BoolArray]]:
    """Yield every frame with the union of the visible masks."""
    for frame, tracked in job.frames():
        yield frame, tracked.union(job.tracks.info.size_wh, tracked.visible())


def _write_alpha(job: Job) -> None:
    assert job.video is not None
    info = job.video.info
    with AlphaWriter(job.out, info.size_wh, job.tracks.info.rate, info.pixel_aspect) as writer:
        for frame, mask in _frames(job):
            near = cv2.dilate(mask.astype(np.uint8), FRINGE)
            alpha = mask[..., None].astype(np.uint8) * 255
            writer.write(np.concatenate([frame.rgb * near[..., None], alpha], 2), frame.seconds)


def _write_green(job: Job) -> None:
    assert job.video is not None
    with discarding(job.video.writer(job.out)) as writer:
        for frame, mask in _frames(job):
            writer.write(np.where(mask[..., None], frame.rgb, np.array(GREEN, np.uint8)), frame.seconds)


VARIANTS = {
    "cutout-webm": Format(_write_alpha, ".webm", "the objects on transparent background: VP9 for browsers", True),
    "prores": Format(_write_alpha, ".mov", "the objects on transparent background: ProRes 4444 for editors", True),
    "green": Format(_write_green, ".mp4", "the objects on green: H.264", True),
}
