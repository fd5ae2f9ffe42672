"""Which frame is shown when: the one rule for times, and the presentation times of a file's packets."""

import bisect
import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

BACK_SECONDS = 1.0  # a clock that goes back by more was restarted
TIME_TOLERANCE = 0.0006
"""Seconds by which a time may lie before its frame: times are typed with three decimals, and stored rounded."""


def shown_at(seconds: float, starts: Callable[[int], float], end: float, count: int) -> int:
    """Return the frame shown at a time: the last one that starts by then, with `TIME_TOLERANCE`.

    Args:
        seconds: the time.
        starts: seconds at which frame k of 0 to `count` - 1 starts.
        end: seconds at which the last frame ends; from then on the result is `count`.
        count: number of frames.
    """
    if seconds + TIME_TOLERANCE >= end:
        return count
    return max(0, bisect.bisect_right(range(count), seconds + TIME_TOLERANCE, key=starts) - 1)


def shown_at_rate(seconds: float, rate: Fraction, count: int | None) -> int:
    """Return the same for frames of constant `rate`, without an end if `count` is None."""
    index = max(0, math.floor((Fraction(seconds) + Fraction(TIME_TOLERANCE)) * rate))
    return index if count is None else min(index, count)


@dataclass(frozen=True)
class Timeline:
    """Times of all frames in display order, in units of `time_base` from the container's origin."""

    times: "array[int]"  # one per shown frame, sorted
    keys: list[tuple[int, int]]  # (time, seek position) of each keyframe, sorted; decoding can start there
    time_base: Fraction  # seconds of one unit
    packets: int  # in the file, shown or not
    shown: int  # packets of frames that are shown
    exact: bool  # every frame has a unique time by one clock, so that a time identifies a frame
    last_duration: int  # of the last frame, 0 if unknown

    @classmethod
    def of(
        cls, packets: Iterable[Any], time_base: Fraction, *, untimed: bool = False, jump: float = math.inf
    ) -> "Timeline":
        """Build it from all packets (`av.Packet`) of a track; nothing is decoded.

        Args:
            packets: in the order of the file.
            time_base: seconds of one unit of their times.
            untimed: the packets have no presentation times: those of decoding are taken, in their order.
            jump: seconds between two frames that only another clock explains, as `BACK_SECONDS` back do.
        """
        times, keys, count, shown, timed, last = array("q"), [], 0, 0, not untimed, (0, 0)
        before, back = -math.inf, BACK_SECONDS / float(time_base)
        for packet in packets:
            if packet.size == 0:
                continue
            count += 1
            # Set by an edit list: other packets need this one for decoding, but it is never shown.
            shown += not packet.is_discard
            time = packet.dts if untimed else packet.pts
            if time is None:
                timed = False
                continue
            if packet.dts is not None:
                timed = timed and packet.dts > before - back
                before = packet.dts
            if packet.is_keyframe:
                keys.append((time, time if packet.dts is None else min(time, packet.dts)))
            if not packet.is_discard:
                times.append(time)
                last = max(last, (time, packet.duration or 0))
        times = array("q", sorted(times))
        exact = timed and all(0 < later - earlier <= jump / time_base for earlier, later in pairwise(times))
        return cls(times, sorted(keys), time_base, count, shown, exact, last[1])

    @property
    def end(self) -> int:
        """When the last frame ends, if it is shown as long as the one before."""
        return self.times[-1] + (self.times[-1] - self.times[-2] if len(self.times) > 1 else 1) if self.times else 0

    @property
    def rate(self) -> Fraction | None:
        """Mean frames per second, None if unknown."""
        span = (self.times[-1] - self.times[0]) * self.time_base if self.times else Fraction(0)
        return (Fraction(len(self.times) - 1) / span).limit_denominator(1001) if span else None

    def seconds(self, index: int) -> float:
        """Return the time of a frame from the first."""
        return float((self.times[index] - self.times[0]) * self.time_base)

    def index_of(self, time: Fraction) -> int | None:
        """Return the frame shown from `time` (seconds of the container), None if there is none."""
        ticks = time / self.time_base
        place = bisect.bisect_left(self.times, ticks)
        return place if place < len(self.times) and self.times[place] == ticks else None

    def index_at(self, seconds: float, origin: Fraction, period: Fraction) -> int:
        """Return the frame shown at `seconds` after `origin`; see `shown_at`. `period` is that of an only frame.

        The last frame lasts at least as long as the one before it: files often state less.
        """

        def starts(index: int) -> float:
            return float(self.times[index] * self.time_base - origin)

        count = len(self.times)
        before = (self.times[-1] - self.times[-2]) * self.time_base if count > 1 else period
        last = max(self.last_duration * self.time_base, before)
        return shown_at(seconds, starts, starts(count - 1) + float(last), count)

    def starts(self, index: int) -> Iterator[tuple[Fraction, int]]:
        """Yield (time in seconds, seek position) of the keyframes not later than frame `index`, nearest first."""
        last = bisect.bisect_right(self.keys, self.times[index], key=lambda entry: entry[0])
        for time, place in reversed(self.keys[:last]):
            yield time * self.time_base, place


def stated_seconds(metadata: dict[str, str]) -> float | None:
    """Return the duration in Matroska's statistics tag, "HH:MM:SS.fraction", in seconds."""
    stated = metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = (float(part) for part in stated)
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds
