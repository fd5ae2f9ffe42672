"""Blocks of successive frames, whose masks are measured together; memory use is that of one block."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from samvideo.analysis.mask_geometry import Floats, MaskMeasurements
from samvideo.errors import ConfigError, VideoError
from samvideo.io.rle import IntArray, Runs, runs_of_rles
from samvideo.io.tracks import TrackedFrame

FRAMES = 512


class Times(NamedTuple):
    """Frames of a run: indices in the source, positions in the run from 0, start times and durations in seconds."""

    frames: IntArray
    ordinals: IntArray
    seconds: Floats
    durations: Floats


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

    def seconds(self, index: int, seconds: float) -> float:
        """Return when a frame is shown."""
        exact = index / self._rate
        return exact if self._fixed or abs(seconds - exact) < 2e-6 else seconds

    def times(self, indices: Sequence[int], seconds: Sequence[float], following: tuple[int, float] | None) -> Times:
        """Return the times of the next frames; `following` is the frame after them, None at the end.

        Raises:
            VideoError: they are not in order of time.
        """
        exact = [self.seconds(index, second) for index, second in zip(indices, seconds, strict=True)]
        after = self.seconds(*following) if following is not None else None
        steps = np.diff([*exact, after]) if after is not None else np.diff(exact)
        if after is None:
            steps = np.append(steps, steps[-1] if len(steps) else self._step)
        if (steps <= 0).any():
            worst = int(np.argmin(steps))
            raise VideoError(
                f"frame {indices[worst]} at {exact[worst]:.6f} s is not before the one after it: the frames of a "
                "run must be in order of time"
            )
        self._step = float(steps[-1])
        ordinals = self._ordinal + np.arange(len(exact))
        self._ordinal += len(exact)
        return Times(np.asarray(indices, np.int64), ordinals, np.asarray(exact), steps)


def in_batches(
    frames: Iterable[TrackedFrame], size: int = FRAMES
) -> Iterator[tuple[list[TrackedFrame], TrackedFrame | None]]:
    """Yield lists of `size` frames, each with the frame that follows it."""
    batch: list[TrackedFrame] = []
    for frame in frames:
        if len(batch) == size:
            yield batch, frame
            batch = []
        batch.append(frame)
    if batch:
        yield batch, None


def runs_of_frames(frames: Sequence[TrackedFrame], size_wh: tuple[int, int]) -> Runs:
    """Return all masks of some frames.

    Raises:
        VideoError: a mask is invalid; names its frame and object.
    """
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
