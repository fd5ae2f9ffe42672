"""Path, speed, acceleration and jerk of a point whose positions arrive in pieces."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from samvideo.analysis.intervals import TOLERANCE, Times
from samvideo.analysis.mask_geometry import Floats
from samvideo.io.rle import IntArray

DEGREE = 3  # of the fitted polynomials: the lowest that has a jerk
BLOCK = 4096  # frames that are smoothed together


@dataclass(frozen=True, eq=False)
class Samples:
    """Positions of a point on successive frames, which may have gaps.

    Attributes:
        frames: (N,), indices of the frames in the source.
        ordinals: (N,), positions of the frames in the order of tracking, from 0.
        seconds, durations: (N,), when each frame is shown and for how long.
        points: (N, 2), x and y.
    """

    frames: IntArray
    ordinals: IntArray
    seconds: Floats
    durations: Floats
    points: Floats

    def __len__(self) -> int:
        return len(self.ordinals)

    @property
    def times(self) -> Times:
        """The frames without positions."""
        return Times(self.frames, self.ordinals, self.seconds, self.durations)

    def select(self, rows: slice) -> "Samples":
        """Return some of the samples."""
        return Samples(*(getattr(self, field.name)[rows] for field in fields(self)))


def concatenated(a: Samples, b: Samples) -> Samples:
    """Return the samples of `a`, then those of `b`."""
    return Samples(*(np.concatenate([getattr(a, field.name), getattr(b, field.name)]) for field in fields(a)))


_NONE = np.zeros(0, np.int64)
NO_SAMPLES = Samples(_NONE, _NONE, np.zeros(0), np.zeros(0), np.zeros((0, 2)))


@dataclass(frozen=True, eq=False)
class Motion:
    """Smoothed motion of N samples; NaN where the path is too short.

    Attributes:
        samples: the input.
        smoothed: (N, 2), the smoothed positions.
        speed, acceleration, jerk: (N,), lengths of the first three derivatives of the position, per second.
        interior: (N,), whether there is half a window on both sides; towards the ends of a path a fitted cubic
            follows the noise. All samples of a path that is no longer than a window count as interior.
    """

    samples: Samples
    smoothed: Floats
    speed: Floats
    acceleration: Floats
    jerk: Floats
    interior: NDArray[np.bool_]


class PathLength:
    """Length of a path from sample to sample, straight over gaps of at most `bridge` seconds, without longer ones.

    Attributes:
        length: in the unit of the points.
        seconds: the time that the path takes.
    """

    def __init__(self, bridge: float) -> None:
        self._bridge, self._last = bridge, NO_SAMPLES
        self.length, self.seconds = 0.0, 0.0

    def add(self, samples: Samples) -> None:
        """Add the next samples."""
        if not len(samples):
            return
        chain = concatenated(self._last, samples)
        steps = np.diff(chain.seconds)
        counts = steps - chain.durations[:-1] <= self._bridge + TOLERANCE
        self.length += float(np.linalg.norm(np.diff(chain.points, axis=0), axis=1)[counts].sum())
        self.seconds += float(steps[counts].sum())
        self._last = samples.select(slice(-1, None))


class Smoother:
    """Savitzky-Golay derivatives of a path: cubic polynomials over a moving window of `window` frames.

    Gaps of at most `bridge` seconds are filled by straight lines, for which nothing is returned; longer ones divide
    the path, and no window extends over them. The result is that of `scipy.signal.savgol_filter` over each whole
    part of the path, however the samples are divided into pieces. Time is smoothed like the position, and
    derivatives are taken with respect to it, so that uneven frame times give correct speeds.
    """

    def __init__(self, window: int, bridge: float) -> None:
        self._window = max(window | 1, DEGREE + 2)
        self._bridge = bridge
        self._held = NO_SAMPLES  # samples without result, after the first `_before`, which have theirs
        self._before = 0

    def add(self, samples: Samples) -> list[Motion]:
        """Add the next samples; return the motion that later samples cannot change."""
        chain = concatenated(self._held, samples)
        gaps = np.diff(chain.seconds) - chain.durations[:-1] > self._bridge + TOLERANCE
        done = []
        start = 0
        for end in [*(np.flatnonzero(gaps) + 1).tolist(), None]:
            self._held = chain.select(slice(start, end))
            if end is not None:
                done += self.finish()
                start = end
        if len(self._held) - self._before >= BLOCK:
            done += self._derive_certain()
        return done

    def finish(self) -> list[Motion]:
        """Return the rest of the motion; no sample follows."""
        held, before = self._held, self._before
        self._held, self._before = NO_SAMPLES, 0
        return [_derive(held, self._window, slice(before, None))] if len(held) > before else []

    def _derive_certain(self) -> list[Motion]:
        """Motion of all but the last half window, which the next samples may still change."""
        held, half = self._held, self._window // 2
        end = max(0, int(np.searchsorted(held.ordinals, held.ordinals[-1] - half)))
        motion = _derive(held, self._window, slice(self._before, end))
        keep = int(np.searchsorted(held.ordinals, held.ordinals[end] - self._window))
        self._held, self._before = held.select(slice(keep, None)), end - keep
        return [motion]


def _derive(samples: Samples, window: int, wanted: slice) -> Motion:
    """Motion of the `wanted` samples of an undivided path."""
    ordinals = np.arange(samples.ordinals[0], samples.ordinals[-1] + 1)
    given = samples.ordinals - ordinals[0]
    columns = [samples.points[:, 0], samples.points[:, 1], samples.seconds]
    filled = np.stack([np.interp(ordinals, samples.ordinals, column) for column in columns])
    count = len(ordinals)
    half = window // 2
    interior = ((given >= half) & (count - 1 - given >= half) | (count <= window))[wanted]
    window = min(window, count - 1 + count % 2)
    part = samples.select(wanted)
    if window < DEGREE + 2:
        nothing = np.full(len(part), np.nan)
        speed = nothing
        if count > 1:
            change = np.gradient(filled, axis=1)
            speed = (np.hypot(change[0], change[1]) / change[2])[given][wanted]
        return Motion(part, part.points, speed, nothing, nothing, interior)
    position, first, second, third = (
        savgol_filter(filled, window, DEGREE, deriv=k)[:, given][:, wanted] for k in (0, 1, 2, 3)
    )
    rate = first[2]
    speed, acceleration, jerk = (
        np.hypot(d[0], d[1]) / rate**k for k, d in enumerate((first, second, third), start=1)
    )
    return Motion(part, position[:2].T, speed, acceleration, jerk, interior)
