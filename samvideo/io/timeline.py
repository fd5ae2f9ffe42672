"""Presentation times of a file's packets, to convert between times, frame indices and seek positions."""

import bisect
import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

BACK_SECONDS = 1.0  # a clock that goes back by more has begun anew


@dataclass(frozen=True)
class Timeline:
    """Times of all frames in display order, in units of `time_base` from the container's origin."""

    times: "array[int]"  # one per shown frame, sorted
    keys: list[tuple[int, int]]  # (time, seek position) of each keyframe, sorted; decoding can start there
    time_base: Fraction  # seconds of one unit
    packets: int  # in the file, shown or not
    shown: int  # packets of frames that are shown
    exact: bool  # every frame has a unique time by one clock, so that a time identifies a frame

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
        times, keys, count, shown, timed = array("q"), [], 0, 0, not untimed
        last, back = -math.inf, BACK_SECONDS / float(time_base)
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
                timed = timed and packet.dts > last - back
                last = packet.dts
            if packet.is_keyframe:
                keys.append((time, time if packet.dts is None else min(time, packet.dts)))
            if not packet.is_discard:
                times.append(time)
        times = array("q", sorted(times))
        exact = timed and all(0 < after - before <= jump / time_base for before, after in pairwise(times))
        return cls(times, sorted(keys), time_base, count, shown, exact)

    @property
    def end(self) -> int:
        """When the last frame ends, if it is shown as long as the one before."""
        return self.times[-1] + (self.times[-1] - self.times[-2] if len(self.times) > 1 else 1) if self.times else 0

    @property
    def rate(self) -> Fraction | None:
        """Mean frames per second, None if unknown."""
        span = (self.times[-1] - self.times[0]) * self.time_base if self.times else 0
        return ((len(self.times) - 1) / span).limit_denominator(1001) if span else None

    def seconds(self, index: int) -> float:
        """Return the time of a frame from the first."""
        return float((self.times[index] - self.times[0]) * self.time_base)

    def index_of(self, time: Fraction) -> int | None:
        """Return the frame shown from `time` (seconds of the container), None if there is none."""
        ticks = time / self.time_base
        place = bisect.bisect_left(self.times, ticks)
        return place if place < len(self.times) and self.times[place] == ticks else None

    def index_after(self, time: Fraction) -> int:
        """Return the first frame shown at or after `time`, the number of frames if there is none."""
        return bisect.bisect_left(self.times, time / self.time_base)

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
