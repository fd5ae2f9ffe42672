"""What every format is given, and what they share."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from samvideo.io.tracks import TrackedFrame, TrackedObject, TracksFile


@dataclass(frozen=True)
class Format:
    """One format: what writes it, the ending of its file ("" for a folder), what it is, and what it needs."""

    write: Callable[["Job"], None]
    suffix: str
    about: str
    needs_video: bool = False


@dataclass(frozen=True)
class Job:
    """One run to be written.

    Attributes:
        tracks: the run; may be read as often as wanted.
        out: file or folder to write; its folder exists.
        title: name of the video.
        labels: object id -> class.
        video: the source, or None.
    """

    tracks: TracksFile
    out: Path
    title: str
    labels: Mapping[int, str]
    video: str | None

    def label(self, object_id: int) -> str:
        """The class of an object."""
        return self.labels.get(object_id, f"object {object_id}")

    @cached_property
    def object_ids(self) -> tuple[int, ...]:
        """All objects of the run, ascending."""
        return tuple(sorted({thing.object_id for frame in self.tracks for thing in frame.objects}))

    @cached_property
    def classes(self) -> dict[str, int]:
        """Class -> its number from 1, in the order of their first objects."""
        labels = dict.fromkeys(self.label(number) for number in self.object_ids)
        return {label: number for number, label in enumerate(labels, 1)}

    @cached_property
    def indices(self) -> tuple[int, ...]:
        """The numbers of the frames in the source."""
        return tuple(frame.index for frame in self.tracks)

    def of(self, object_id: int) -> Iterator[tuple[int, TrackedFrame, TrackedObject | None]]:
        """One object through the run: position from 0, frame, and the object where it is in view."""
        for position, frame in enumerate(self.tracks):
            found = (thing for thing in frame.objects if thing.object_id == object_id)
            yield position, frame, next((thing for thing in found if in_view(thing)), None)


def in_view(thing: TrackedObject) -> bool:
    """Whether the tracker saw it and it has a pixel."""
    return thing.present and thing.area > 0
