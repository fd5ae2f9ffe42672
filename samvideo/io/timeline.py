"""The presentation times of a file's packets: which one is frame `index`, and where to begin decoding for it."""

import bisect
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Timeline:
    """Times of all frames in display order, in units of `time_base`, the container's zero kept.

    Attributes:
        times: one per shown frame, sorted.
        keys: (time, where to seek for it) of each key picture, sorted: decoding may begin there.
        time_base: seconds of one unit.
        packets: how many packets the file holds, shown or not.
        exact: every frame has a time and no two have the same, so that a time names a frame.
    """

    times: "array[int]"
    keys: list[tuple[int, int]]
    time_base: Fraction
    packets: int
    exact: bool

    @classmethod
    def of(cls, packets: Iterable[Any], time_base: Fraction) -> "Timeline":
        """Collect it from all packets (`av.Packet`) of a track; nothing is decoded."""
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
            # An edit list cuts by this flag: such a packet is decoded for others' sake, but never shown.
            if not packet.is_discard:
                times.append(packet.pts)
        times = array("q", sorted(times))
        exact = timed and all(before < after for before, after in pairwise(times))
        return cls(times, sorted(keys), time_base, count, exact)

    def index_of(self, time: Fraction) -> int | None:
        """The frame shown from `time` (seconds of the container) on, None where there is none."""
        ticks = time / self.time_base
        place = bisect.bisect_left(self.times, ticks)
        return place if place < len(self.times) and self.times[place] == ticks else None

    def time_of(self, index: int) -> Fraction:
        """When frame `index` is shown, in seconds of the container."""
        return self.times[index] * self.time_base

    def index_after(self, time: Fraction) -> int:
        """The first frame shown at or after `time`, the number of frames where none is."""
        return bisect.bisect_left(self.times, time / self.time_base)

    def starts(self, index: int) -> Iterator[tuple[Fraction, int]]:
        """Key pictures not later than frame `index`, nearest first: (time in seconds, where to seek)."""
        last = bisect.bisect_right(self.keys, self.times[index], key=lambda entry: entry[0])
        for time, place in reversed(self.keys[:last]):
            yield time * self.time_base, place


def stated_seconds(metadata: dict[str, str]) -> float | None:
    """The track's length as Matroska's statistics tag states it, "HH:MM:SS.fraction"."""
    stated = metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = (float(part) for part in stated)
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds
