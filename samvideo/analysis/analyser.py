"""Analyse a run block by block, in memory that does not grow with the number of frames."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from samvideo.analysis.accumulators import ObjectAccumulator, PairAccumulator
from samvideo.analysis.blocks import Block, FrameClock
from samvideo.analysis.findings import ChartData, Findings, Flagged, ObjectSummary, PairSummary, Usage, list_events
from samvideo.analysis.intervals import DownsampledCurve, IntervalCollector
from samvideo.analysis.mask_geometry import Floats, measure
from samvideo.analysis.motion import Motion
from samvideo.analysis.settings import AnalysisSettings
from samvideo.analysis.tables import TableWriter
from samvideo.io.rle import Runs, joined_runs, runs_of_masks
from samvideo.types import FrameResult, UInt8Array, VideoInfo

FRAMES = 256  # results that are buffered and measured together


class Analyser:
    """Analyses a run block by block, or the results of a tracker one by one.

        analyser = Analyser(video.info)
        for result in track(path, prompts):
            analyser.add(result)
        findings = analyser.finish()

    Args:
        info: name, size and rate of the video.
        settings: defaults if None.
        tables: receives the rows of the long tables.
    """

    def __init__(
        self, info: VideoInfo, settings: AnalysisSettings | None = None, tables: TableWriter | None = None
    ) -> None:
        self.info, self.settings = info, settings or AnalysisSettings()
        self._tables = tables
        self._rate = self.settings.fps or float(info.rate)
        self._idle_speed = self.settings.idle_speed_at(info.size_wh)
        self.clock = FrameClock(float(info.rate), self.settings.fps)
        self._objects: dict[int, ObjectAccumulator] = {}
        self._pairs: dict[tuple[int, int], PairAccumulator] = {}
        self._usage: dict[str, IntervalCollector] = {}
        self._flags: dict[str, IntervalCollector] = defaultdict(IntervalCollector)
        self._times, self._frames, self._last_frame = DownsampledCurve(), 0, -1
        self._start = self._end = 0.0
        self._buffer: list[tuple[FrameResult, str, Runs]] = []
        self._background: UInt8Array | None = None
        self._images_checked = 0

    def keep_background(self, rgb: UInt8Array) -> None:
        """Offer an image without faults as background of the heat maps; the 1st, 2nd, 4th, 8th ... are used."""
        self._images_checked += 1
        if self._images_checked.bit_count() == 1:
            self._background = rgb

    def add(self, result: FrameResult, flag: str = "") -> None:
        """Add the result of a tracker for the next frame; `flag` names the fault of the image, if any.

        Raises VideoError if it is not later than the previous frame.
        """
        if len(self._buffer) == FRAMES:
            self._flush(result)
        # The masks are dropped: run lengths are a hundred times smaller.
        self._buffer.append((replace(result, masks=result.masks[:, :0, :0]), flag, runs_of_masks(result.masks)))

    def _flush(self, following: FrameResult | None) -> None:
        results = [result for result, _, _ in self._buffer]
        runs = joined_runs([part for _, _, part in self._buffer], self.info.size_wh)
        flags = [flag for _, flag, _ in self._buffer]
        rows = [list(zip(r.object_ids, r.present, r.scores, strict=True)) for r in results]
        self._buffer = []
        self.add_block(Block.of(self.clock.times(results, following), flags, rows, measure(runs), runs))

    def add_block(self, block: Block) -> None:
        """Add the next frames of a run."""
        times = block.times
        if self._frames == 0:
            self._start = float(times.seconds[0])
        self._frames += len(times.frames)
        self._last_frame = int(times.frames[-1])
        self._end = float(times.seconds[-1] + times.durations[-1])
        self._times.add(times.ordinals, times.seconds)
        for flag in sorted(set(block.flags.tolist()) - {""}):
            self._flags[flag].add(np.flatnonzero(block.flags == flag), times)
        self._register_objects(sorted(set(block.object_ids.tolist())))
        for number in sorted(self._objects):
            tip, motion = self._objects[number].add(block)
            if self._tables:
                self._tables.frames(block, number, tip)
            self._emit_motion(number, motion)
        for pair, track in self._pairs.items():
            frames, distance = track.add(block)
            if self._tables:
                touch = self.settings.contact_gap * self.settings.scale
                self._tables.distances(block, pair, frames, distance, touch)
        for label, intervals in self._usage.items():
            members = [number for number in self._objects if self._counts_as(number, label)]
            shown = block.mask_frames[block.visible & np.isin(block.object_ids, members)]
            intervals.add(np.unique(shown), times)

    def _counts_as(self, number: int, label: str) -> bool:
        return self.settings.kind(number) == "instrument" and self.settings.label(number) == label

    def _register_objects(self, numbers: Sequence[int]) -> None:
        """Create accumulators for new objects and their pairs."""
        new = [number for number in numbers if number not in self._objects]
        window = round(self.settings.smooth * self._rate)
        size_wh, settings = self.info.size_wh, self.settings
        for number in new:
            self._objects[number] = ObjectAccumulator(number, size_wh, settings, window, self._idle_speed)
            if self.settings.kind(number) == "instrument":
                self._usage.setdefault(self.settings.label(number), IntervalCollector(self.settings.bridge))
        for pair in combinations(sorted(self._objects), 2):
            kinds = {self.settings.kind(number) for number in pair}
            if pair not in self._pairs and kinds != {"tissue"}:
                self._pairs[pair] = PairAccumulator(*pair, self.settings)

    def _emit_motion(self, number: int, motion: list[tuple[str, Motion]]) -> None:
        if self._tables:
            for point, part in motion:
                self._tables.motion(number, point, part)

    def finish(self) -> Findings:
        """Return the results for all frames; nothing may be added after that."""
        if self._buffer:
            self._flush(None)
        for number, track in sorted(self._objects.items()):
            self._emit_motion(number, track.finish())
        seconds = self._end - self._start
        objects = tuple(self._object_summary(track, seconds) for _, track in sorted(self._objects.items()))
        pairs = tuple(self._pair_summary(track) for _, track in sorted(self._pairs.items()))
        usage = [
            Usage(label, part.seconds, _share(part.seconds, seconds) or 0.0, part.all())
            for label, part in sorted(self._usage.items())
        ]
        flagged = [
            Flagged(flag, part.frames, part.seconds, part.all()) for flag, part in sorted(self._flags.items())
        ]
        return Findings(
            source=self.info.name,
            size_wh=self.info.size_wh,
            rate=self._rate,
            frames=self._frames,
            start_seconds=self._start,
            end_seconds=self._end,
            unit=self.settings.unit,
            idle_speed=self._idle_speed,
            images_checked=self._images_checked + sum(part.frames for part in flagged),
            objects=objects,
            pairs=pairs,
            usage=tuple(usage),
            flagged=tuple(flagged),
            events=list_events(objects, pairs, self._last_frame),
            charts=self._chart_data(),
        )

    def _chart_data(self) -> ChartData:
        times = self._times.points()
        objects = sorted(self._objects.items())

        def over_seconds(curve: DownsampledCurve) -> tuple[Floats, Floats]:
            ordinals, values = curve.points()
            return np.interp(ordinals, *times), values

        return ChartData(
            {number: over_seconds(track.area_curve) for number, track in objects},
            {number: over_seconds(track.speed_curve) for number, track in objects},
            {pair: over_seconds(track.curve) for pair, track in sorted(self._pairs.items())},
            {number: track.heat for number, track in objects},
            self._background,
        )

    def _object_summary(self, track: ObjectAccumulator, seconds: float) -> ObjectSummary:
        number, centroid, tip = track.object_id, track.paths["centroid"], track.paths["tip"]
        present = track.present.all()
        return ObjectSummary(
            id=number,
            label=self.settings.label(number),
            kind=self.settings.kind(number),
            time_in_view=track.visible.seconds,
            share_in_view=_share(track.visible.seconds, seconds) or 0.0,
            appearances=len(present),
            frames_left_out=track.frames_left_out,
            path_length=centroid.length,
            smooth_path_length=track.smooth_path.length,
            mean_speed=_share(centroid.length, centroid.seconds),
            max_speed=track.speed.range[1],
            mean_acceleration=track.acceleration.mean,
            mean_jerk=track.jerk.mean,
            idle_time=track.idle.seconds,
            idle_share=_share(track.idle.seconds, track.measured_seconds),
            tip_path_length=tip.length,
            tip_mean_speed=_share(tip.length, tip.seconds),
            mean_area=track.area.mean,
            min_area=track.area.range[0],
            max_area=track.area.range[1],
            working_area=track.working_area(),
            intervals=present,
            visible_intervals=track.visible.all(),
            idle_intervals=track.idle.all(),
        )

    def _pair_summary(self, track: PairAccumulator) -> PairSummary:
        contacts = track.contact.all()
        kinds = sorted(self.settings.kind(number) for number in (track.a, track.b))
        return PairSummary(
            a=track.a,
            b=track.b,
            kind="-".join(kinds),
            frames=track.distance.count,
            min_distance=track.distance.range[0],
            mean_distance=track.distance.mean,
            contacts=len(contacts),
            contact_time=track.contact.seconds,
            intervals=contacts,
        )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
