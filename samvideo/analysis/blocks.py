"""Blocks of successive frames, whose masks are measured together; memory use is that of one block."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samvideo.analysis.intervals import Times
from samvideo.analysis.mask_geometry import Floats, MaskMeasurements
from samvideo.errors import ConfigError, VideoError
from samvideo.io.rle import IntArray, Runs, runs_of_rles
from samvideo.io.tracks import FrameRecord
from samvideo.types import FrameResult

FRAMES = 512


@dataclass(frozen=True, eq=False)
class Block:
    """F successive frames and the N masks on them.

    Attributes:
        times: of the frames.
        flags: (F,), the fault of each image, "" for none.
        mask_frames: (N,), the frame of each mask, 0 to F - 1.
        object_ids: (N,), the object of each mask.
        visible: (N,), whether the object is in view: the tracker reports it present, and its mask is not empty.
        scores: (N,), confidence.
        measurements: of the masks.
        runs: run-length encoded masks, None if only their measurements are known.
    """

    times: Times
    flags: NDArray[np.str_]
    mask_frames: IntArray
    object_ids: IntArray
    visible: NDArray[np.bool_]
    scores: Floats
    measurements: MaskMeasurements
    runs: Runs | None

    @classmethod
    def of(
        cls,
        times: Times,
        flags: Sequence[str],
        objects: Sequence[Sequence[tuple[int, bool, float]]],
        measurements: MaskMeasurements,
        runs: Runs | None,
    ) -> "Block":
        """Create from the (id, present, score) of the objects on each frame."""
        ids, present, scores = np.array([row for rows in objects for row in rows], float).reshape(-1, 3).T
        mask_frames = np.repeat(np.arange(len(objects)), [len(rows) for rows in objects])
        visible = (present > 0) & (measurements.area > 0)
        flags_f = np.array(flags, np.str_)
        return cls(times, flags_f, mask_frames, ids.astype(np.int64), visible, scores, measurements, runs)


class FrameClock:
    """Gives frames their times and durations; the duration of a frame needs the time of the next one.

    Args:
        rate: frames per second of the source. Times that equal `frame / rate` up to rounding are replaced by it.
        fps: if given, every frame is shown at `frame / fps`.
    """

    def __init__(self, rate: float, fps: float | None = None) -> None:
        self._rate, self._fixed = fps or rate, fps is not None
        self._ordinal = 0
        self._step = 1 / self._rate

    def _seconds(self, frame: FrameResult | FrameRecord) -> float:
        exact = frame.index / self._rate
        return exact if self._fixed or abs(frame.seconds - exact) < 2e-6 else frame.seconds

    def times(
        self, frames: Sequence[FrameResult | FrameRecord], following: FrameResult | FrameRecord | None
    ) -> Times:
        """Return the times of the next frames; `following` is the frame after them, None at the end.

        Raises VideoError if they are not in order of time.
        """
        exact = [self._seconds(frame) for frame in frames]
        if following is not None:
            steps = np.diff([*exact, self._seconds(following)])
        else:
            steps = np.diff(exact)
            steps = np.append(steps, steps[-1] if len(steps) else self._step)
        if (steps <= 0).any():
            worst = int(np.argmin(steps))
            raise VideoError(
                f"frame {frames[worst].index} at {exact[worst]:.6f} s is not before the one after it: the frames "
                "of a run must be in order of time"
            )
        self._step = float(steps[-1])
        ordinals = self._ordinal + np.arange(len(exact))
        self._ordinal += len(exact)
        indices = np.array([frame.index for frame in frames], np.int64)
        return Times(indices, ordinals, np.asarray(exact), steps)


def in_batches(
    frames: Iterable[FrameRecord], size: int = FRAMES
) -> Iterator[tuple[list[FrameRecord], FrameRecord | None]]:
    """Yield lists of `size` frames, each with the frame that follows it."""
    batch: list[FrameRecord] = []
    for frame in frames:
        if len(batch) == size:
            yield batch, frame
            batch = []
        batch.append(frame)
    if batch:
        yield batch, None


def runs_of_frames(frames: Sequence[FrameRecord], size_wh: tuple[int, int]) -> Runs:
    """Return all masks of some frames. Raises VideoError with frame and object of an invalid one."""
    objects = [(frame, entry) for frame in frames for entry in frame.objects]
    try:
        return runs_of_rles([entry.rle for _, entry in objects], size_wh)
    except ConfigError:
        for frame, entry in objects:
            try:
                runs_of_rles([entry.rle], size_wh)
            except ConfigError as error:
                raise VideoError(
                    f"frame {frame.index}, object {entry.object_id}: {error}; repeat the run"
                ) from error
        raise
