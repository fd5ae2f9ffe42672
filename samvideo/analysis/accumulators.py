"""Accumulate the measurements of one object and of a pair of objects, block by block."""

from dataclasses import replace

import numpy as np

from samvideo.analysis.blocks import Block
from samvideo.analysis.intervals import DownsampledCurve, IntervalCollector
from samvideo.analysis.mask_geometry import Floats, box_distances, mask_distances, mask_tips, track_entries
from samvideo.analysis.motion import Motion, PathLength, Samples, Smoother
from samvideo.analysis.settings import AnalysisSettings
from samvideo.io.rle import IntArray

CELLS = 64  # of the heat map, along the longer side of the frame


class RunningStatistics:
    """Sum, number and range of values; NaN is ignored."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0
        self.minimum, self.maximum = np.inf, -np.inf

    def add(self, values: Floats) -> None:
        """Add values."""
        values = values[~np.isnan(values)]
        if len(values):
            self.total += float(values.sum())
            self.count += len(values)
            self.minimum = min(self.minimum, float(values.min()))
            self.maximum = max(self.maximum, float(values.max()))

    @property
    def mean(self) -> float | None:
        """Mean, None without any value."""
        return self.total / self.count if self.count else None

    @property
    def range(self) -> tuple[float | None, float | None]:
        """Minimum and maximum, None without any value."""
        return (self.minimum, self.maximum) if self.count else (None, None)


class ObjectAccumulator:
    """Presence, size, motion of centroid and tip, and heat map of one object."""

    def __init__(
        self, object_id: int, size_wh: tuple[int, int], settings: AnalysisSettings, window: int, idle_speed: float
    ) -> None:
        self.object_id = object_id
        self._size, self._settings = size_wh, settings
        self._idle_speed = idle_speed
        self.visible, self.present = IntervalCollector(), IntervalCollector(settings.bridge)
        self.idle = IntervalCollector(shortest=settings.idle_seconds)
        self.paths = {"centroid": PathLength(settings.bridge), "tip": PathLength(settings.bridge)}
        self.smooth_path = PathLength(settings.bridge)
        self._smoothers = {name: Smoother(window, settings.bridge) for name in self.paths}
        self.area, self.speed = RunningStatistics(), RunningStatistics()
        self.acceleration, self.jerk = RunningStatistics(), RunningStatistics()
        self.measured_seconds, self.frames_left_out = 0.0, 0
        self.area_curve, self.speed_curve = DownsampledCurve(), DownsampledCurve()
        self._entry = np.full(2, np.nan)
        self._cell = max(size_wh) / CELLS
        self.heat = np.zeros([int(np.ceil(side / self._cell)) for side in size_wh[::-1]])

    def add(self, block: Block) -> tuple[Floats, list[tuple[str, Motion]]]:
        """Add a block.

        Returns:
            The tips (N', 2) of the masks of this object in the block; names of the points, and their motion that
            later blocks cannot change.
        """
        rows = np.flatnonzero(block.object_ids == self.object_id)
        masks, frame_rows, visible = block.measurements.take(rows), block.mask_frames[rows], block.visible[rows]
        entry, self._entry = track_entries(masks, self._size, self._entry)
        tip = np.full((len(rows), 2), np.nan)
        if block.runs is not None:
            tip[visible] = mask_tips(block.runs.take(rows), masks, entry)[visible]
        shown, times = frame_rows[visible], block.times
        for intervals in (self.visible, self.present):
            intervals.add(shown, times)
        scale = self._settings.scale
        area = masks.area[visible] * scale**2
        self.area.add(area)
        self.area_curve.add(times.ordinals[shown], area)
        good = visible & (block.flags[frame_rows] == "")
        self.frames_left_out += int((visible & ~good).sum())
        motion = []
        for name, points in (("centroid", masks.centroid), ("tip", tip)):
            kept = good & ~np.isnan(points[:, 0])
            at = frame_rows[kept]
            frames, ordinals, seconds, durations = times
            samples = Samples(frames[at], ordinals[at], seconds[at], durations[at], points[kept] * scale)
            self.paths[name].add(samples)
            motion += [(name, part) for part in self._smoothers[name].add(samples)]
        self._add_motion(motion)
        positions = np.where(np.isnan(tip[:, :1]), masks.centroid, tip)[good]
        self._accumulate_heatmap(positions, times.durations[frame_rows[good]])
        return tip, motion

    def finish(self) -> list[tuple[str, Motion]]:
        """Return the rest of the motion; no block follows."""
        motion = [(name, part) for name, smoother in self._smoothers.items() for part in smoother.finish()]
        self._add_motion(motion)
        return motion

    def _add_motion(self, motion: list[tuple[str, Motion]]) -> None:
        for name, part in motion:
            if name != "centroid":
                continue
            self.speed.add(part.speed[part.interior])
            self.acceleration.add(part.acceleration[part.interior])
            self.jerk.add(part.jerk[part.interior])
            samples = part.samples
            self.smooth_path.add(replace(samples, points=part.smoothed))
            self.measured_seconds += float(samples.durations[~np.isnan(part.speed)].sum())
            self.idle.add(np.flatnonzero(part.speed < self._idle_speed), samples.times)
            self.speed_curve.add(samples.ordinals, part.speed)

    def _accumulate_heatmap(self, points: Floats, durations: Floats) -> None:
        rows, columns = self.heat.shape
        x, y = np.minimum(points / self._cell, (columns - 1, rows - 1)).astype(np.int64).T
        self.heat += np.bincount(y * columns + x, durations, rows * columns).reshape(rows, columns)

    def working_area(self) -> float | None:
        """Area of the fewest cells of the heat map that contain 95 % of its time; None if it is empty."""
        total = self.heat.sum()
        if total == 0:
            return None
        shares = np.cumsum(np.sort(self.heat.reshape(-1))[::-1]) / total
        return float((np.searchsorted(shares, 0.95 - 1e-9) + 1) * (self._cell * self._settings.scale) ** 2)


class PairAccumulator:
    """Distance and contact of two objects on the frames that show both."""

    def __init__(self, a: int, b: int, settings: AnalysisSettings) -> None:
        self.a, self.b, self._settings = a, b, settings
        self.distance = RunningStatistics()
        self.contact = IntervalCollector(settings.bridge)
        self.curve = DownsampledCurve()

    def add(self, block: Block) -> tuple[IntArray, Floats]:
        """Add a block; return the frames (F',) of it that show both, and the distances there."""
        rows = [np.flatnonzero((block.object_ids == number) & block.visible) for number in (self.a, self.b)]
        a_frames, b_frames = (block.mask_frames[of_object] for of_object in rows)
        common, a_index, b_index = np.intersect1d(a_frames, b_frames, return_indices=True)
        one, other = rows[0][a_index], rows[1][b_index]
        if block.runs is None:
            pixels = box_distances(block.measurements.box[one], block.measurements.box[other])
        else:
            pixels = mask_distances(block.runs.take(one), block.runs.take(other))
        self.contact.add(common[pixels <= self._settings.contact_gap], block.times)
        distance = pixels * self._settings.scale
        self.distance.add(distance)
        self.curve.add(block.times.ordinals[common], distance)
        return common, distance
