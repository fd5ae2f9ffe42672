"""The result of an analysis, as values: what the files and the page are written from."""

from dataclasses import dataclass

import numpy as np

from samvideo.analysis.intervals import Interval
from samvideo.analysis.shapes import Floats
from samvideo.types import UInt8Array

Number = float | None
"""None where there is nothing to measure."""


@dataclass(frozen=True)
class ObjectFigures:
    """One object. Lengths are pixels or millimetres (see `Findings.unit`), times seconds.

    Attributes:
        id, label, kind: its number in the run, its class, and `instrument` or `tissue`.
        time_in_view: sum of the durations of the frames that show it; share_in_view of the whole video.
        appearances: number of `intervals`.
        path_length: way of the centroid from frame to frame, straight over gaps that are bridged.
        smooth_path_length: the same of the smoothed centroid, which masks that tremble do not lengthen.
        mean_speed: path_length over the time it took.
        max_speed, mean_acceleration, mean_jerk: of the smoothed centroid, half a window away from where it appears
            and goes.
        idle_time: how long the smoothed centroid was slower than the idle speed; idle_share of the time measured.
        tip_path_length, tip_mean_speed: the same of the tip.
        mean_area, min_area, max_area: over the frames that show it.
        working_area: the area of the fewest cells, of 64 along the frame, in which the tip (or, without one, the
            centroid) spent 95 % of its time.
        intervals: when it was in view, gaps of at most the bridge left out; visible_intervals: with every gap.
        idle_intervals: rests that are long enough to count.
    """

    id: int
    label: str
    kind: str
    time_in_view: float
    share_in_view: float
    appearances: int
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
class PairFigures:
    """Two objects, one an instrument at least: distance of their nearest pixels, and contact."""

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
    """One class of instruments: how long at least one of it was in view."""

    label: str
    time_in_view: float
    share_in_view: float
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class Flagged:
    """Pictures with one fault; their frames are left out of all figures of motion."""

    flag: str
    frames: int
    seconds: float
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class Event:
    """Something that happened: `enter`, `leave`, `contact start`, `contact end`, `idle start`, `idle end`.

    A start is the first frame of it, an end the last frame of it and the time when that one was over.
    """

    frame: int
    seconds: float
    event: str
    object: int
    other: int | None = None


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is only drawn: curves over (seconds, value), heat maps (rows, columns) in seconds, a picture."""

    area: dict[int, tuple[Floats, Floats]]
    speed: dict[int, tuple[Floats, Floats]]
    distance: dict[tuple[int, int], tuple[Floats, Floats]]
    heat: dict[int, Floats]
    picture: UInt8Array | None


@dataclass(frozen=True, eq=False)
class Findings:
    """All that was found in one run."""

    source: str
    size_wh: tuple[int, int]
    rate: float
    frames: int
    start_seconds: float
    end_seconds: float
    unit: str
    idle_speed: float
    pictures_seen: int
    objects: tuple[ObjectFigures, ...]
    pairs: tuple[PairFigures, ...]
    usage: tuple[Usage, ...]
    flagged: tuple[Flagged, ...]
    events: tuple[Event, ...]
    drawn: Drawn

    @property
    def seconds(self) -> float:
        """Length of what was analysed."""
        return self.end_seconds - self.start_seconds


def events_of(
    objects: tuple[ObjectFigures, ...], pairs: tuple[PairFigures, ...], last_frame: int
) -> tuple[Event, ...]:
    """All events in order of time; what holds to the last frame has no end."""
    named = [("enter", "leave", entry.id, None, entry.intervals) for entry in objects]
    named += [("idle start", "idle end", entry.id, None, entry.idle_intervals) for entry in objects]
    found = [
        *named,
        *(("contact start", "contact end", pair.a, pair.b, pair.intervals) for pair in pairs),
    ]
    events = []
    for start, end, one, other, intervals in found:
        for part in intervals:
            events.append(Event(part.start_frame, part.start_seconds, start, one, other))
            if part.end_frame < last_frame:
                events.append(Event(part.end_frame, part.end_seconds, end, one, other))
    return tuple(sorted(events, key=lambda event: (event.seconds, event.object, event.event)))


def times_of(points: tuple[Floats, Floats], seconds: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """A curve over ordinals as one over seconds; `seconds` is the curve of the frames' times."""
    return np.interp(points[0], *seconds), points[1]
