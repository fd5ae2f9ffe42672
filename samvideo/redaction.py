"""Makes tracked objects unrecognisable, such as faces, name plates and patient data on the screen."""

import logging
import os
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from samvideo.errors import ConfigError
from samvideo.io.paired import RunVideo, discarding, paired
from samvideo.io.tracks import TracksFile, open_masks
from samvideo.targets import check_target
from samvideo.types import BoolArray, Frame, UInt8Array

log = logging.getLogger(__name__)

MODES = ("blur", "pixelate", "fill")
BLOCKS = 6  # along the longer side of a redacted object: too few to recognise a face or read a name
GREY = 128
MAX_HOLD = 1000  # frames: so many are kept in memory


@dataclass(frozen=True)
class Redaction:
    """Settings of a redaction.

    `fill` paints grey; `pixelate` keeps BLOCKS mean colours along the object; `blur` smooths these. No mode keeps
    finer detail of the original. `hold` is the number of frames before and after a mask that are redacted at its
    position, so that an object is covered while the tracker loses it for a moment.
    """

    objects: frozenset[int] = frozenset()  # ids; empty for all
    mode: str = "blur"
    margin: int = 8  # pixels around the mask
    hold: int = 5
    keep_sound: bool = False  # voices identify people

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"mode must be {', '.join(MODES)}, not {self.mode!r}")
        if self.margin < 0 or not 0 <= self.hold <= MAX_HOLD:
            raise ConfigError(
                f"margin and hold must be at least 0, hold at most {MAX_HOLD}, not {self.margin} and {self.hold}"
            )


@dataclass(frozen=True)
class Redacted:
    """Number of frames written, of those among them without anything to redact, and of frames of the video."""

    frames: int
    unmasked: int
    video_frames: int | None  # None if the container does not state it


def redact_run(
    folder: str | os.PathLike[str],
    video: str,
    out: str | os.PathLike[str],
    redaction: Redaction,
    *,
    first: int | None = None,
    overwrite: bool = False,
) -> Redacted:
    """Write the tracked frames of a video, with objects redacted, to an .mp4; other frames are omitted.

    Args:
        folder: of the run.
        video: the one that was tracked.
        out: the file to write.
        redaction: settings.
        first: index in `video` of the first frame of the run, see `RunVideo`.
        overwrite: replace an existing `out`.

    Raises:
        ConfigError: `out` exists and `overwrite` is off, the run has no such object or frame to redact, or `first`
            is needed.
        VideoError: run or video cannot be read, or do not belong together; no file is left then.
        OutputError: `out` cannot be written.
    """
    tracks, out = open_masks(folder), Path(out)
    check_target(out, tracks.path, overwrite, video=video)
    known = tracks.object_ids()
    if unknown := sorted(redaction.objects.difference(known)):
        raise ConfigError(f"the run has no object {unknown[0]}, only {list(known)}")
    if not known:
        raise ConfigError(f"the run in {folder} has no object: there is nothing to redact")
    unmasked = 0
    sound = video if redaction.keep_sound else None
    with RunVideo(tracks, video, first) as source, discarding(source.writer(out, audio_from=sound)) as writer:
        for frame, mask in hold_masks(_masked(tracks, source, redaction.objects or known), redaction.hold):
            writer.write(redact(frame.rgb, mask, redaction), frame.seconds)
            unmasked += not mask.any()
    if unmasked:
        log.warning("%d of %d frames have no mask and are shown as they are: look at them", unmasked, writer.frames)
    return Redacted(writer.frames, unmasked, source.info.frame_count)


def _masked(tracks: TracksFile, video: RunVideo, object_ids: Collection[int]) -> Iterator[tuple[Frame, BoolArray]]:
    for frame, tracked in paired(tracks, video):
        # Masks of absent objects count too: their position is still the best estimate.
        yield frame, tracked.union(tracks.info.size_wh, object_ids)


def hold_masks(frames: Iterator[tuple[Frame, BoolArray]], hold: int) -> Iterator[tuple[Frame, BoolArray]]:
    """Yield each frame with the union of its mask and those of the `hold` frames before and after."""
    window: deque[BoolArray] = deque(maxlen=2 * hold + 1)
    due: deque[Frame] = deque()
    for frame, mask in frames:
        window.append(mask)
        due.append(frame)
        if len(due) > hold:
            yield due.popleft(), np.any(window, 0)
    while due:
        while len(window) > hold + len(due):
            window.popleft()
        yield due.popleft(), np.any(window, 0)


def redact(rgb: UInt8Array, mask: BoolArray, redaction: Redaction) -> UInt8Array:
    """Return a copy of an image in which each connected part of the mask is unrecognisable."""
    image = rgb.copy()
    if not mask.any():
        return image
    # Unlike dilation with a disc, this takes the same time for any margin.
    wide = (cv2.distanceTransform(1 - mask.astype(np.uint8), cv2.DIST_L2, 5) <= redaction.margin).astype(np.uint8)
    if redaction.mode == "fill":
        image[wide > 0] = GREY
        return image
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(wide)
    for part in range(1, count):
        x, y, width, height, _ = statistics[part].tolist()
        crop, inside = image[y : y + height, x : x + width], parts[y : y + height, x : x + width] == part
        scale = min(1.0, BLOCKS / max(height, width))
        few = max(1, round(width * scale)), max(1, round(height * scale))
        coarse = cv2.resize(crop, few, interpolation=cv2.INTER_AREA)
        method = cv2.INTER_NEAREST if redaction.mode == "pixelate" else cv2.INTER_CUBIC
        crop[inside] = cv2.resize(coarse, (width, height), interpolation=method)[inside]
    return image
