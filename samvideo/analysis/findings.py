"""The result of an analysis, from which the files and the page are written."""

from dataclasses import dataclass

from samvideo.analysis.intervals import Interval
from samvideo.analysis.mask_geometry import Floats
from samvideo.types import UInt8Array

Number = float | None
"""None if there is nothing to measure."""


@dataclass(frozen=True)
class ObjectSummary:
    """Measurements of one object. Lengths are pixels or millimetres (see `Findings.unit`), times seconds.

    Attributes:
        id, label, kind: id in the run, class, and `instrument` or `tissue`.
        time_in_view: sum of the durations of the frames that show it; share_in_view: fraction of the whole video.
        appearances: number of `intervals`.
        frames_left_out: frames that show it and are left out of its motion and heat map: their images have a fault
            (see `Flagged`).
        path_length: length of the path of the centroid from frame to frame, straight over bridged gaps.
        smooth_path_length: the same of the smoothed centroid, which jitter of the mask does not lengthen.
        mean_speed: path_length over the time that the path takes.
        max_speed, mean_acceleration, mean_jerk: of the smoothed centroid, without the half windows after it appears
            and before it disappears.
        idle_time: how long the smoothed centroid is slower than the idle speed; idle_share: fraction of the time in
            which its speed is known.
        tip_path_length, tip_mean_speed: the same of the tip.
        mean_area, min_area, max_area: over the frames that show it.
        working_area: area of the fewest cells, of 64 along the longer side of the frame, in which the tip (without
            a tip, the centroid) spends 95 % of its time.
        intervals: when it is in view, with gaps bridged; visible_intervals: with every gap.
        idle_intervals: rests that are long enough to count.
    """

    id: int
    label: str
    kind: str
    time_in_view: float
    share_in_view: float
    appearances: int
    frames_left_out: int
    path_length: float
    smooth_path_length: float
    mean_speed: Number
    max_speed: Number
    mean_acceleration: Number
    mean_jerk: Number
    idle_time: float
    idle_share: Number
    tip_path_length: float
    tip_mean_speed: Number
    mean_area: Number
    min_area: Number
    max_area: Number
    working_area: Number
    intervals: tuple[Interval, ...]
    visible_intervals: tuple[Interval, ...]
    idle_intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class PairSummary:
    """Distance between the nearest pixels of two objects, at least one an instrument, and their contacts."""

    a: int
    b: int
    kind: str
    frames: int
    min_distance: Number
    mean_distance: Number
    contacts: int
    contact_time: float
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class Usage:
    """How long at least one instrument of a class is in view."""

    label: str
    time_in_view: float
    share_in_view: float
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class Flagged:
    """Images with one kind of fault; their frames are left out of all measurements of motion."""

    flag: str
    frames: int
    seconds: float
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class Event:
    """`enter`, `leave`, `contact start`, `contact end`, `idle start` or `idle end`.

    A start is at the first frame, an end at the last frame, at the time when that frame ends.
    """

    frame: int
    seconds: float
    event: str
    object: int
    other: int | None = None


@dataclass(frozen=True, eq=False)
class ChartData:
    """Data of charts: curves (seconds, values), heat maps (rows, columns) in seconds, and a frame behind them."""

    area: dict[int, tuple[Floats, Floats]]
    speed: dict[int, tuple[Floats, Floats]]
    distance: dict[tuple[int, int], tuple[Floats, Floats]]
    heat: dict[int, Floats]
    background: UInt8Array | None


@dataclass(frozen=True, eq=False)
class Findings:
    """All results for one run."""

    source: str
    size_wh: tuple[int, int]
    rate: float
    frames: int
    start_seconds: float
    end_seconds: float
    unit: str
    idle_speed: float
    images_checked: int
    objects: tuple[ObjectSummary, ...]
    pairs: tuple[PairSummary, ...]
    usage: tuple[Usage, ...]
    flagged: tuple[Flagged, ...]
    events: tuple[Event, ...]
    charts: ChartData

    @property
    def seconds(self) -> float:
        """Duration of the analysed frames."""
        return self.end_seconds - self.start_seconds

    @property
    def left_out(self) -> str:
        """Sentence on the frames that are left out of motion or were not checked; empty if there are none."""
        parts = [f"{part.frames} {part.flag}" for part in self.flagged]
        said = [f"Left out of all motion: {', '.join(parts)} of {self.frames} frames."] if parts else []
        if 0 < self.images_checked < self.frames:
            said.append(
                f"{self.frames - self.images_checked} frames have no image and were not checked for faults."
            )
        return " ".join(said)


def list_events(
    objects: tuple[ObjectSummary, ...], pairs: tuple[PairSummary, ...], last_frame: int
) -> tuple[Event, ...]:
    """Return all events in order of time; an interval that lasts to the last frame has no end event."""
    named = [("enter", "leave", entry.id, None, entry.intervals) for entry in objects]
    named += [("idle start", "idle end", entry.id, None, entry.idle_intervals) for entry in objects]
    found = [*named, *(("contact start", "contact end", pair.a, pair.b, pair.intervals) for pair in pairs)]
    events = []
    for start, end, one, other, intervals in found:
        for part in intervals:
            events.append(Event(part.start_frame, part.start_seconds, start, one, other))
            if part.end_frame < last_frame:
                events.append(Event(part.end_frame, part.end_seconds, end, one, other))
    return tuple(sorted(events, key=lambda event: (event.seconds, event.object, event.event)))
