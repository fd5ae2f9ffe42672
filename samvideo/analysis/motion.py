"""How a point moves: path, speed, acceleration and jerk, from positions that come in pieces."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from samvideo.analysis.intervals import EXACT
from samvideo.analysis.shapes import Floats
from samvideo.io.rle import IntArray

DEGREE = 3  # of the fitted polynomials: the least that has a jerk
BLOCK = 4096  # frames smoothed in one go


@dataclass(frozen=True, eq=False)
class Samples:
    """Where a point was, on successive frames that may have gaps.

    Attributes:
        frames: (N,), numbers of the frames in the source.
        ordinals: (N,), the same in the order they were tracked, from 0.
        seconds, durations: (N,), when each was shown and for how long.
        points: (N, 2).
    """

    frames: IntArray
    ordinals: IntArray
    seconds: Floats
    durations: Floats
    points: Floats

    def __len__(self) -> int:
        return len(self.ordinals)

    def part(self, rows: slice) -> "Samples":
        """Some of them."""
        return Samples(*(getattr(self, field.name)[rows] for field in fields(self)))


def joined(a: Samples, b: Samples) -> Samples:
    """One after the other."""
    return Samples(*(np.concatenate([getattr(a, field.name), getattr(b, field.name)]) for field in fields(a)))


_NONE = np.zeros(0, np.int64)
NO_SAMPLES = Samples(_NONE, _NONE, np.zeros(0), np.zeros(0), np.zeros((0, 2)))


@dataclass(frozen=True, eq=False)
class Motion:
    """Smoothed figures of N samples; NaN where the stretch is too short to tell.

    Attributes:
        samples: what they belong to.
        places: (N, 2), the smoothed positions.
        speed, acceleration, jerk: (N,), lengths of the first three derivatives of the position, per second.
        firm: (N,), whether half a window lies on both sides: towards the ends of a stretch a fitted cubic swings
            with the noise. All of a stretch no longer than a window counts as firm.
    """

    samples: Samples
    places: Floats
    speed: Floats
    acceleration: Floats
    jerk: Floats
    firm: NDArray[np.bool_]


class Path:
    """The way from sample to sample, straight over gaps of at most `bridge` seconds; longer ones do not count.

    Attributes:
        length: in the unit of the points.
        seconds: the time it took.
    """

    def __init__(self, bridge: float) -> None:
        self._bridge, self._last = bridge, NO_SAMPLES
        self.length, self.seconds = 0.0, 0.0

    def add(self, samples: Samples) -> None:
        """Take the next samples."""
        if not len(samples):
            return
        chain = joined(self._last, samples)
        steps = np.diff(chain.seconds)
        counts = steps - chain.durations[:-1] <= self._bridge + EXACT
        self.length += float(np.linalg.norm(np.diff(chain.points, axis=0), axis=1)[counts].sum())
        self.seconds += float(steps[counts].sum())
        self._last = samples.part(slice(-1, None))


class Smoother:
    """Savitzky-Golay derivatives of a path: cubic polynomials over a moving window of `window` frames.

    Gaps of at most `bridge` seconds are filled by straight lines, which give no figures of their own; longer ones
    part the path, and no window reaches over them. The result is that of `scipy.signal.savgol_filter` over each
    whole part, whatever the pieces in which samples come. Time is smoothed like the place and the derivatives taken
    with respect to it, so uneven times give true speeds.
    """

    def __init__(self, window: int, bridge: float) -> None:
        self._window = max(window | 1, DEGREE + 2)
        self._bridge = bridge
        self._held = NO_SAMPLES  # those without figures yet, after `_before` that have theirs
        self._before = 0

    def add(self, samples: Samples) -> list[Motion]:
        """Take the next samples and return what is certain by now."""
        chain = joined(self._held, samples)
        gaps = np.diff(chain.seconds) - chain.durations[:-1] > self._bridge + EXACT
        done = []
        start = 0
        for end in [*(np.flatnonzero(gaps) + 1).tolist(), None]:
            self._held = chain.part(slice(start, end))
            if end is not None:
                done += self.finish()
                start = end
        if len(self._held) - self._before >= BLOCK:
            done += self._settle()
        return done

    def finish(self) -> list[Motion]:
        """What is left, when no sample follows."""
        held, before = self._held, self._before
        self._held, self._before = NO_SAMPLES, 0
        return [_derive(held, self._window, slice(before, None))] if len(held) > before else []

    def _settle(self) -> list[Motion]:
        """Figures for all but the last half window, which the next samples may still change."""
        held, half = self._held, self._window // 2
        upto = max(0, int(np.searchsorted(held.ordinals, held.ordinals[-1] - half)))
        motion = _derive(held, self._window, slice(self._before, upto))
        keep = int(np.searchsorted(held.ordinals, held.ordinals[upto] - self._window))
        self._held, self._before = held.part(slice(keep, None)), upto - keep
        return [motion]


def _derive(samples: Samples, window: int, wanted: slice) -> Motion:
    """The figures of some samples of an unbroken path."""
    ordinals = np.arange(samples.ordinals[0], samples.ordinals[-1] + 1)
    given = samples.ordinals - ordinals[0]
    columns = [samples.points[:, 0], samples.points[:, 1], samples.seconds]
    filled = np.stack([np.interp(ordinals, samples.ordinals, column) for column in columns])
    count = len(ordinals)
    half = window // 2
    firm = ((given >= half) & (count - 1 - given >= half) | (count <= window))[wanted]
    window = min(window, count - 1 + count % 2)
    part = samples.part(wanted)
    if window < DEGREE + 2:
        nothing = np.full(len(part), np.nan)
        speed = nothing
        if count > 1:
            change = np.gradient(filled, axis=1)
            speed = (np.hypot(change[0], change[1]) / change[2])[given][wanted]
        return Motion(part, part.points, speed, nothing, nothing, firm)
    place, first, second, third = (
        savgol_filter(filled, window, DEGREE, deriv=k)[:, given][:, wanted] for k in (0, 1, 2, 3)
    )
    rate = first[2]
    speed, acceleration, jerk = (
        np.hypot(d[0], d[1]) / rate**k for k, d in enumerate((first, second, third), start=1)
    )
    return Motion(part, place[:2].T, speed, acceleration, jerk, firm)
