"""From blocks of a run to findings, in memory that does not grow with the frames."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Protocol

import numpy as np

from samvideo.analysis.blocks import Block, Clock
from samvideo.analysis.findings import (
    Drawn,
    Findings,
    Flagged,
    ObjectFigures,
    PairFigures,
    Usage,
    events_of,
    times_of,
)
from samvideo.analysis.intervals import Curve, Intervals
from samvideo.analysis.motion import Motion
from samvideo.analysis.objects import ObjectTrack, PairTrack
from samvideo.analysis.settings import Settings
from samvideo.analysis.shapes import Floats, measure
from samvideo.io.rle import IntArray, Runs, joined_runs, runs_of_masks
from samvideo.types import FrameResult, UInt8Array, VideoInfo

FRAMES = 256  # results that are held back, to be measured together


class Tables(Protocol):
    """Takes the rows of the long tables as they become certain."""

    def frames(self, block: Block, object_id: int, tip: Floats) -> None:
        """An object's rows of a block; `tip` (R', 2) belongs to its masks there."""

    def motion(self, object_id: int, point: str, motion: Motion) -> None:
        """Smoothed motion of an object's centroid or tip."""

    def distances(
        self, block: Block, pair: tuple[int, int], place: IntArray, distance: Floats, touch: float
    ) -> None:
        """Distances of a pair on the frames `place` of a block; at most `touch` is contact."""


class Analyser:
    """Takes a run block by block, or a tracker's results one by one, and concludes.

    ::

        analyser = Analyser(video.info)
        for result in track(path, prompts):
            analyser.add(result)
        findings = analyser.conclude()

    Args:
        info: name, size and rate of the video.
        settings: see there.
        tables: where the long tables go, if anywhere.
    """

    def __init__(self, info: VideoInfo, settings: Settings | None = None, tables: Tables | None = None) -> None:
        self.info, self.settings = info, settings or Settings()
        self._tables = tables
        self._rate = self.settings.fps or float(info.rate)
        self._idle_speed = self.settings.idle_speed_at(info.size_wh)
        self.clock = Clock(float(info.rate), self.settings.fps)
        self._objects: dict[int, ObjectTrack] = {}
        self._pairs: dict[tuple[int, int], PairTrack] = {}
        self._usage: dict[str, Intervals] = {}
        self._flags: dict[str, Intervals] = defaultdict(Intervals)
        self._times, self._frames, self._last_frame = Curve(), 0, -1
        self._start = self._end = 0.0
        self._held: list[tuple[FrameResult, str, Runs]] = []
        self._picture: UInt8Array | None = None
        self._pictures = 0

    def see(self, rgb: UInt8Array) -> None:
        """Keep a picture for the page; later ones take its place ever more rarely."""
        self._pictures += 1
        if self._pictures & (self._pictures - 1) == 0:
            self._picture = rgb

    def add(self, result: FrameResult, flag: str = "") -> None:
        """Take a tracker's result of the next frame; `flag` says what is wrong with its picture.

        Raises:
            VideoError: it is not later than the frame before.
        """
        if len(self._held) == FRAMES:
            self._pass_on(result)
        # The masks themselves are let go: runs are a hundred times smaller.
        self._held.append((replace(result, masks=result.masks[:, :0, :0]), flag, runs_of_masks(result.masks)))

    def _pass_on(self, following: FrameResult | None) -> None:
        results = [result for result, _, _ in self._held]
        runs = joined_runs([part for _, _, part in self._held], self.info.size_wh)
        shapes = measure(runs)
        after = None if following is None else (following.index, following.seconds)
        block = Block(
            self.clock.times([r.index for r in results], [r.seconds for r in results], after),
            np.array([flag for _, flag, _ in self._held], np.str_),
            np.repeat(np.arange(len(results)), [len(r.object_ids) for r in results]),
            np.array([k for r in results for k in r.object_ids], np.int64),
            np.array([p for r in results for p in r.present], bool) & (shapes.area > 0),
            np.array([s for r in results for s in r.scores], float),
            shapes,
            runs,
        )
        self._held = []
        self.add_block(block)

    def add_block(self, block: Block) -> None:
        """Take the next frames of a run."""
        times = block.times
        if self._frames == 0:
            self._start = float(times.seconds[0])
        self._frames += len(times.frames)
        self._last_frame = int(times.frames[-1])
        self._end = float(times.seconds[-1] + times.durations[-1])
        self._times.add(times.ordinals, times.seconds)
        for flag in sorted(set(block.flags.tolist()) - {""}):
            self._flags[flag].add(block.flags == flag, times.frames, times.seconds, times.durations)
        self._know(sorted(set(block.ids.tolist())))
        for number in sorted(self._objects):
            tip, motion = self._objects[number].add(block)
            if self._tables:
                self._tables.frames(block, number, tip)
            self._tell(number, motion)
        for pair, track in self._pairs.items():
            place, distance = track.add(block)
            if self._tables:
                touch = self.settings.contact_gap * self.settings.scale
                self._tables.distances(block, pair, place, distance, touch)
        for label, intervals in self._usage.items():
            members = [number for number in self._objects if self._counts_as(number, label)]
            holds = np.zeros(len(times.frames), bool)
            holds[block.place[block.seen & np.isin(block.ids, members)]] = True
            intervals.add(holds, times.frames, times.seconds, times.durations)

    def _counts_as(self, number: int, label: str) -> bool:
        return self.settings.kind(number) == "instrument" and self.settings.label(number) == label

    def _know(self, numbers: Sequence[int]) -> None:
        """Make room for objects that are new."""
        new = [number for number in numbers if number not in self._objects]
        window = round(self.settings.smooth * self._rate)
        for number in new:
            self._objects[number] = ObjectTrack(number, self.info.size_wh, self.settings, window, self._idle_speed)
            if self.settings.kind(number) == "instrument":
                self._usage.setdefault(self.settings.label(number), Intervals(self.settings.bridge))
        for pair in combinations(sorted(self._objects), 2):
            kinds = {self.settings.kind(number) for number in pair}
            if pair not in self._pairs and kinds != {"tissue"}:
                self._pairs[pair] = PairTrack(*pair, self.settings)

    def _tell(self, number: int, motion: list[tuple[str, Motion]]) -> None:
        if self._tables:
            for point, part in motion:
                self._tables.motion(number, point, part)

    def conclude(self) -> Findings:
        """The figures of all that was taken; nothing can be added any more."""
        if self._held:
            self._pass_on(None)
        for number, track in sorted(self._objects.items()):
            self._tell(number, track.finish())
        seconds = self._end - self._start
        objects = tuple(self._object(track, seconds) for _, track in sorted(self._objects.items()))
        pairs = tuple(self._pair(track) for _, track in sorted(self._pairs.items()))
        return Findings(
            source=self.info.name,
            size_wh=self.info.size_wh,
            rate=self._rate,
            frames=self._frames,
            start_seconds=self._start,
            end_seconds=self._end,
            unit=self.settings.unit,
            idle_speed=self._idle_speed,
            pictures_seen=self._pictures,
            objects=objects,
            pairs=pairs,
            usage=tuple(
                Usage(label, part.seconds, _share(part.seconds, seconds) or 0.0, tuple(part.all()))
                for label, part in sorted(self._usage.items())
            ),
            flagged=tuple(
                Flagged(flag, part.frames, part.seconds, tuple(part.all()))
                for flag, part in sorted(self._flags.items())
            ),
            events=events_of(objects, pairs, self._last_frame),
            drawn=self._drawn(),
        )

    def _drawn(self) -> Drawn:
        times = self._times.points()
        objects = sorted(self._objects.items())
        return Drawn(
            {number: times_of(track.area_curve.points(), times) for number, track in objects},
            {number: times_of(track.speed_curve.points(), times) for number, track in objects},
            {pair: times_of(track.curve.points(), times) for pair, track in sorted(self._pairs.items())},
            {number: track.heat for number, track in objects},
            self._picture,
        )

    def _object(self, track: ObjectTrack, seconds: float) -> ObjectFigures:
        number, centroid, tip = track.object_id, track.paths["centroid"], track.paths["tip"]
        present = tuple(track.present.all())
        return ObjectFigures(
            id=number,
            label=self.settings.label(number),
            kind=self.settings.kind(number),
            time_in_view=track.visible.seconds,
            share_in_view=_share(track.visible.seconds, seconds) or 0.0,
            appearances=len(present),
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
            visible_intervals=tuple(track.visible.all()),
            idle_intervals=tuple(track.idle.all()),
        )

    def _pair(self, track: PairTrack) -> PairFigures:
        contacts = tuple(track.contact.all())
        kinds = sorted(self.settings.kind(number) for number in (track.a, track.b))
        least = track.distance.range[0]
        return PairFigures(
            track.a,
            track.b,
            "-".join(kinds),
            track.distance.count,
            least,
            track.distance.mean,
            len(contacts),
            track.contact.seconds,
            contacts,
        )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
