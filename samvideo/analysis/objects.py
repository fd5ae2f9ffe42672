"""What is gathered of one object, of a pair of objects, and of the whole video, block by block."""

from dataclasses import replace

import numpy as np

from samvideo.analysis.blocks import Block
from samvideo.analysis.intervals import Curve, Intervals
from samvideo.analysis.motion import Motion, Path, Samples, Smoother
from samvideo.analysis.settings import Settings
from samvideo.analysis.shapes import Floats, box_gaps, entries_of, gaps, tips
from samvideo.io.rle import IntArray

CELLS = 64  # of the heat map along the frame's longer side


class Mean:
    """Sum, number, least and greatest of values; NaN is passed over."""

    def __init__(self) -> None:
        self.total, self.count, self.least, self.greatest = 0.0, 0, np.inf, -np.inf

    def add(self, values: Floats) -> None:
        """Take values."""
        values = values[~np.isnan(values)]
        if len(values):
            self.total += float(values.sum())
            self.count += len(values)
            self.least = min(self.least, float(values.min()))
            self.greatest = max(self.greatest, float(values.max()))

    @property
    def mean(self) -> float | None:
        """None without any value."""
        return self.total / self.count if self.count else None

    @property
    def range(self) -> tuple[float | None, float | None]:
        """Least and greatest; None without any value."""
        return (self.least, self.greatest) if self.count else (None, None)


class ObjectTrack:
    """One object: presence, size, motion of its centroid and its tip, and where it worked."""

    def __init__(
        self, object_id: int, size_wh: tuple[int, int], settings: Settings, window: int, idle_speed: float
    ) -> None:
        self.object_id = object_id
        self._size, self._settings = size_wh, settings
        self._idle_speed = idle_speed
        self.visible, self.present = Intervals(), Intervals(settings.bridge)
        self.idle = Intervals(shortest=settings.idle_seconds)
        self.paths = {"centroid": Path(settings.bridge), "tip": Path(settings.bridge)}
        self.smooth_path = Path(settings.bridge)
        self._smoothers = {name: Smoother(window, settings.bridge) for name in self.paths}
        self.area, self.speed, self.acceleration, self.jerk = Mean(), Mean(), Mean(), Mean()
        self.measured_seconds = 0.0
        self.area_curve, self.speed_curve = Curve(), Curve()
        self._entry = np.full(2, np.nan)
        self._cell = max(size_wh) / CELLS
        self.heat = np.zeros([int(np.ceil(side / self._cell)) for side in size_wh[::-1]])

    def add(self, block: Block) -> tuple[Floats, list[tuple[str, Motion]]]:
        """Take a block; returns the tips (R', 2) of its masks in it, and the motion that is certain by now."""
        rows = np.flatnonzero(block.ids == self.object_id)
        shapes, place, seen = block.shapes.take(rows), block.place[rows], block.seen[rows]
        entry, self._entry = entries_of(shapes, self._size, self._entry)
        tip = (
            tips(block.runs.take(rows), shapes, entry)
            if block.runs is not None
            else np.full((len(rows), 2), np.nan)
        )
        tip[~seen] = np.nan
        holds = np.zeros(len(block.times.frames), bool)
        holds[place[seen]] = True
        frames, ordinals, seconds, durations = block.times
        for intervals in (self.visible, self.present):
            intervals.add(holds, frames, seconds, durations)
        scale = self._settings.scale
        self.area.add(shapes.area[seen] * scale**2)
        self.area_curve.add(ordinals[place[seen]], shapes.area[seen] * scale**2)
        good = seen & (block.flags[place] == "")
        motion = []
        for name, points in (("centroid", shapes.centroid), ("tip", tip)):
            kept = np.flatnonzero(good & ~np.isnan(points[:, 0]))
            at = place[kept]
            samples = Samples(frames[at], ordinals[at], seconds[at], durations[at], points[kept] * scale)
            self.paths[name].add(samples)
            motion += [(name, part) for part in self._smoothers[name].add(samples)]
        self._note(motion)
        at = np.where(np.isnan(tip[:, :1]), shapes.centroid, tip)[good]
        self._warm(at, durations[place[good]])
        return tip, motion

    def finish(self) -> list[tuple[str, Motion]]:
        """The motion that was still uncertain; no block follows."""
        motion = [(name, part) for name, smoother in self._smoothers.items() for part in smoother.finish()]
        self._note(motion)
        return motion

    def _note(self, motion: list[tuple[str, Motion]]) -> None:
        for name, part in motion:
            if name != "centroid":
                continue
            self.speed.add(part.speed[part.firm])
            self.acceleration.add(part.acceleration[part.firm])
            self.jerk.add(part.jerk[part.firm])
            samples = part.samples
            self.smooth_path.add(replace(samples, points=part.places))
            self.measured_seconds += float(samples.durations[~np.isnan(part.speed)].sum())
            self.idle.add(part.speed < self._idle_speed, samples.frames, samples.seconds, samples.durations)
            self.speed_curve.add(samples.ordinals, part.speed)

    def _warm(self, points: Floats, durations: Floats) -> None:
        rows, columns = self.heat.shape
        x, y = np.minimum(points / self._cell, (columns - 1, rows - 1)).astype(np.int64).T
        self.heat += np.bincount(y * columns + x, durations, rows * columns).reshape(rows, columns)

    def working_area(self) -> float | None:
        """The area of the fewest cells of the heat map that hold 95 % of its time."""
        total = self.heat.sum()
        if total == 0:
            return None
        shares = np.cumsum(np.sort(self.heat.reshape(-1))[::-1]) / total
        return float((np.searchsorted(shares, 0.95 - 1e-9) + 1) * (self._cell * self._settings.scale) ** 2)


class PairTrack:
    """Two objects: how far apart they are on the frames that show both, and when they touch."""

    def __init__(self, a: int, b: int, settings: Settings) -> None:
        self.a, self.b, self._settings = a, b, settings
        self.distance = Mean()
        self.contact = Intervals(settings.bridge)
        self.curve = Curve()

    def add(self, block: Block) -> tuple[IntArray, Floats]:
        """Take a block; returns the frames (F',) of it that show both, and the distances there."""
        rows = [np.flatnonzero((block.ids == number) & block.seen) for number in (self.a, self.b)]
        place, first, second = np.intersect1d(block.place[rows[0]], block.place[rows[1]], return_indices=True)
        one, other = rows[0][first], rows[1][second]
        if block.runs is None:
            pixels = box_gaps(block.shapes.box[one], block.shapes.box[other])
        else:
            pixels = gaps(block.runs.take(one), block.runs.take(other))
        frames, ordinals, seconds, durations = block.times
        holds = np.zeros(len(frames), bool)
        holds[place[pixels <= self._settings.contact_gap]] = True
        self.contact.add(holds, frames, seconds, durations)
        distance = pixels * self._settings.scale
        self.distance.add(distance)
        self.curve.add(ordinals[place], distance)
        return place, distance
