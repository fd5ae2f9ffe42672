"""A run cut into blocks of frames, each measured in one go; the memory of a run is that of a block."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from samvideo.analysis.shapes import Floats, Shapes
from samvideo.errors import ConfigError, VideoError
from samvideo.io.rle import IntArray, Runs, runs_of_rles
from samvideo.io.tracks import TrackedFrame

FRAMES = 512


class Times(NamedTuple):
    """Frames of a run: their numbers in the source, their order in the run from 0, when and how long each shows."""

    frames: IntArray
    ordinals: IntArray
    seconds: Floats
    durations: Floats


@dataclass(frozen=True, eq=False)
class Block:
    """Successive frames and the R masks on them.

    Attributes:
        times: of the F frames.
        flags: (F,), what is wrong with the picture, "" for nothing.
        place: (R,), the frame of a mask, 0 to F - 1.
        ids: (R,), its object.
        seen: (R,), whether the object was there: the tracker says so, and the mask has a pixel.
        scores: (R,).
        shapes: the masks measured.
        runs: the masks, or None where only `shapes` is known.
    """

    times: Times
    flags: NDArray[np.str_]
    place: IntArray
    ids: IntArray
    seen: NDArray[np.bool_]
    scores: Floats
    shapes: Shapes
    runs: Runs | None


class Clock:
    """Gives every frame its time and duration; a frame's duration is known when the next has come.

    Args:
        rate: frames per second of the source. Times within rounding of `frame / rate` are taken to be just that.
        fps: take these instead: every frame then shows at `frame / fps`.
    """

    def __init__(self, rate: float, fps: float | None = None) -> None:
        self._rate, self._fixed = fps or rate, fps is not None
        self._ordinal = 0
        self._step = 1 / self._rate
        self._last: tuple[int, float] | None = None

    def seconds(self, index: int, seconds: float) -> float:
        """When a frame shows."""
        exact = index / self._rate
        return exact if self._fixed or abs(seconds - exact) < 2e-6 else seconds

    def times(self, indices: Sequence[int], seconds: Sequence[float], following: tuple[int, float] | None) -> Times:
        """Those of the next frames; `following` is the one after them, None at the end.

        Raises:
            VideoError: they do not follow each other in time.
        """
        exact = [self.seconds(index, second) for index, second in zip(indices, seconds, strict=True)]
        after = self.seconds(*following) if following is not None else None
        steps = np.diff([*exact, after]) if after is not None else np.diff(exact)
        if after is None:
            steps = np.append(steps, steps[-1] if len(steps) else self._step)
        if (steps <= 0).any():
            worst = int(np.argmin(steps))
            raise VideoError(
                f"frame {indices[worst]} at {exact[worst]:.6f} s is not before the one after it: a run's frames "
                "expected in order of time"
            )
        self._step = float(steps[-1])
        ordinals = self._ordinal + np.arange(len(exact))
        self._ordinal += len(exact)
        return Times(np.asarray(indices, np.int64), ordinals, np.asarray(exact), steps)


def in_blocks(
    frames: Iterable[TrackedFrame], size: int = FRAMES
) -> Iterator[tuple[list[TrackedFrame], TrackedFrame | None]]:
    """Lists of `size` frames, each with the frame that follows it."""
    held: list[TrackedFrame] = []
    for frame in frames:
        if len(held) == size:
            yield held, frame
            held = []
        held.append(frame)
    if held:
        yield held, None


def runs_of_frames(frames: Sequence[TrackedFrame], size_wh: tuple[int, int]) -> Runs:
    """All masks of some frames.

    Raises:
        VideoError: one is broken, with its frame and object.
    """
    objects = [(frame, thing) for frame in frames for thing in frame.objects]
    try:
        return runs_of_rles([thing.rle for _, thing in objects], size_wh)
    except ConfigError:
        for frame, thing in objects:
            try:
                runs_of_rles([thing.rle], size_wh)
            except ConfigError as error:
                raise VideoError(
                    f"frame {frame.index}, object {thing.object_id}: {error}; make the run anew"
                ) from error
        raise
