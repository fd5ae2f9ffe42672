"""Intervals in which a condition holds, and curves over a video, collected while it is read."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from samvideo.analysis.mask_geometry import Floats
from samvideo.io.rle import IntArray

TOLERANCE = 1e-6  # seconds, for rounded times


class Times(NamedTuple):
    """Frames of a run: indices in the source, positions in the run from 0, start times and durations in seconds."""

    frames: IntArray
    ordinals: IntArray
    seconds: Floats
    durations: Floats


@dataclass(frozen=True)
class Interval:
    """From the start of its first frame to the end of its last; the condition holds on `frames` of them."""

    start_frame: int
    end_frame: int
    start_seconds: float
    end_seconds: float
    frames: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.end_seconds - self.start_seconds


class IntervalCollector:
    """Joins the frames on which a condition holds to intervals.

    Args:
        bridge: seconds; a gap that is at most this long does not end an interval.
        shortest: seconds; shorter intervals are dropped.

    Attributes:
        seconds: sum of the durations of the frames on which the condition holds, without bridged gaps.
        frames: their number.
    """

    def __init__(self, bridge: float = 0.0, shortest: float = 0.0) -> None:
        self._bridge, self._shortest = bridge, shortest
        self._open: Interval | None = None
        self._closed: list[Interval] = []
        self.seconds, self.frames = 0.0, 0

    def add(self, on: IntArray, times: Times) -> None:
        """Add the next frames, of which the condition holds on the rows `on`, in ascending order."""
        if not len(on):
            return
        frames, starts, ends = times.frames[on], times.seconds[on], times.seconds[on] + times.durations[on]
        self.seconds += float(times.durations[on].sum())
        self.frames += len(on)
        breaks = np.flatnonzero(starts[1:] - ends[:-1] > self._bridge + TOLERANCE) + 1
        for part in np.split(np.arange(len(on)), breaks):
            a, b = part[0], part[-1]
            self._append(Interval(int(frames[a]), int(frames[b]), float(starts[a]), float(ends[b]), len(part)))

    def _append(self, piece: Interval) -> None:
        last = self._open
        if last is not None and piece.start_seconds - last.end_seconds <= self._bridge + TOLERANCE:
            frames = last.frames + piece.frames
            piece = replace(last, end_frame=piece.end_frame, end_seconds=piece.end_seconds, frames=frames)
        else:
            self._close()
        self._open = piece

    def _close(self) -> None:
        if self._open is not None and self._open.seconds >= self._shortest - TOLERANCE:
            self._closed.append(self._open)
        self._open = None

    def all(self) -> tuple[Interval, ...]:
        """Return all intervals in order; no frame may be added after that."""
        self._close()
        return tuple(self._closed)


class DownsampledCurve:
    """A curve over the frames of a video of any length, as fewer than `2 * limit` means of equally many frames."""

    def __init__(self, limit: int = 600) -> None:
        self._limit, self._width = limit, 1
        self._sums, self._counts = np.zeros(2 * limit), np.zeros(2 * limit)
        self._last = -1

    def add(self, ordinals: IntArray, values: Floats) -> None:
        """Add values of frames, numbered from 0 in the order of tracking; NaN is ignored."""
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
        """Return the centres of the means, as frame ordinals, and the means; NaN where there is no value."""
        count = self._last // self._width + 1
        centres: Floats = (np.arange(count, dtype=float) + 0.5) * self._width - 0.5
        with np.errstate(invalid="ignore", divide="ignore"):
            return centres, self._sums[:count] / self._counts[:count]
