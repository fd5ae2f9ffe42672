"""Presentation times of a file's packets, to convert between times, frame indices and seek positions."""

import bisect
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Timeline:
    """Times of all frames in display order, in units of `time_base` from the container's origin."""

    times: "array[int]"  # one per shown frame, sorted
    keys: list[tuple[int, int]]  # (time, seek position) of each keyframe, sorted; decoding can start there
    time_base: Fraction  # seconds of one unit
    packets: int  # in the file, shown or not
    exact: bool  # every frame has a unique time, so that a time identifies a frame

    @classmethod
    def of(cls, packets: Iterable[Any], time_base: Fraction) -> "Timeline":
        """Build it from all packets (`av.Packet`) of a track; nothing is decoded."""
        times, keys, count, timed = array("q"), [], 0, True
        for packet in packets:
            if packet.size == 0:
                continue
            count += 1
            if packet.pts is None:
                timed = False
                continue
            if packet.is_keyframe:
                keys.append((packet.pts, packet.pts if packet.dts is None else min(packet.pts, packet.dts)))
            # Set by an edit list: other packets need this one for decoding, but it is never shown.
            if not packet.is_discard:
                times.append(packet.pts)
        times = array("q", sorted(times))
        exact = timed and all(before < after for before, after in pairwise(times))
        return cls(times, sorted(keys), time_base, count, exact)

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
