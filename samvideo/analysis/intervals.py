"""Stretches of time in which something holds, collected as the video goes by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samvideo.analysis.shapes import Floats
from samvideo.io.rle import IntArray

EXACT = 1e-6  # seconds; times are rounded


@dataclass(frozen=True)
class Interval:
    """From the start of its first frame to the end of its last; `frames` counts those in which it did hold."""

    start_frame: int
    end_frame: int
    start_seconds: float
    end_seconds: float
    frames: int

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.end_seconds - self.start_seconds


class Intervals:
    """Joins the frames in which something holds to intervals; a gap of at most `bridge` seconds does not part them.

    Attributes:
        closed: the intervals that are over.
        seconds: sum of the durations of the frames in which it did hold; bridged gaps do not count.
        frames: their number.
    """

    def __init__(self, bridge: float = 0.0, shortest: float = 0.0) -> None:
        self._bridge, self._shortest = bridge, shortest
        self._open: Interval | None = None
        self.closed: list[Interval] = []
        self.seconds, self.frames = 0.0, 0

    def add(self, holds: NDArray[np.bool_], frames: IntArray, seconds: Floats, durations: Floats) -> None:
        """Take the next frames: whether it holds, their numbers, times and durations, all (F,)."""
        on = np.flatnonzero(holds)
        if not len(on):
            return
        starts, ends = seconds[on], seconds[on] + durations[on]
        self.seconds += float(durations[on].sum())
        self.frames += len(on)
        breaks = np.flatnonzero(starts[1:] - ends[:-1] > self._bridge + EXACT) + 1
        for part in np.split(np.arange(len(on)), breaks):
            a, b = part[0], part[-1]
            piece = Interval(int(frames[on[a]]), int(frames[on[b]]), float(starts[a]), float(ends[b]), len(part))
            self._put(piece)

    def _put(self, piece: Interval) -> None:
        last = self._open
        if last is not None and piece.start_seconds - last.end_seconds <= self._bridge + EXACT:
            piece = Interval(
                last.start_frame,
                piece.end_frame,
                last.start_seconds,
                piece.end_seconds,
                last.frames + piece.frames,
            )
        else:
            self._close()
        self._open = piece

    def _close(self) -> None:
        if self._open is not None and self._open.seconds >= self._shortest - EXACT:
            self.closed.append(self._open)
        self._open = None

    def all(self) -> list[Interval]:
        """All of them, in order; call it when the last frame is in."""
        self._close()
        return self.closed


class Curve:
    """A series over the frames of a video of any length, as at most `limit` means over equal stretches."""

    def __init__(self, limit: int = 600) -> None:
        self._limit, self._width = limit, 1
        self._sums, self._counts = np.zeros(2 * limit), np.zeros(2 * limit)
        self._last = -1

    def add(self, ordinals: IntArray, values: Floats) -> None:
        """Take values of frames, numbered from 0 in the order they were tracked; NaN is passed over."""
        keep = ~np.isnan(values)
        if not keep.any():
            return
        ordinals, values = ordinals[keep], values[keep]
        self._last = max(self._last, int(ordinals.max()))
        while self._last // self._width >= 2 * self._limit:
            for array in (self._sums, self._counts):
                array[: self._limit] = array.reshape(-1, 2).sum(1)
                array[self._limit :] = 0
            self._width *= 2
        places = ordinals // self._width
        self._sums += np.bincount(places, values, 2 * self._limit)
        self._counts += np.bincount(places, minlength=2 * self._limit)

    def points(self) -> tuple[Floats, Floats]:
        """The middles of the stretches, as ordinals of frames, and the means; NaN where there is no value."""
        count = self._last // self._width + 1
        middles: Floats = (np.arange(count, dtype=float) + 0.5) * self._width - 0.5
        with np.errstate(invalid="ignore", divide="ignore"):
            return middles, self._sums[:count] / self._counts[:count]
