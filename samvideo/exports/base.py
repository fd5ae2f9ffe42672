"""The interface of export formats, and helpers that they share."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from samvideo.io.tracks import TrackedFrame, TrackedObject, TracksFile


@dataclass(frozen=True)
class Format:
    """One format: function, file suffix ("" for a folder), description, and whether it needs the source video."""

    write: Callable[["Job"], None]
    suffix: str
    about: str
    needs_video: bool = False


@dataclass(frozen=True)
class Job:
    """One run to export.

    Attributes:
        tracks: the run; may be iterated repeatedly.
        out: file or folder to write; its parent exists.
        title: name of the video.
        labels: class by object id.
        video: the source, or None.
    """

    tracks: TracksFile
    out: Path
    title: str
    labels: Mapping[int, str]
    video: str | None

    def label(self, object_id: int) -> str:
        """Return the class of an object."""
        return self.labels.get(object_id, f"object {object_id}")

    @cached_property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all objects of the run, ascending."""
        return tuple(sorted({entry.object_id for frame in self.tracks for entry in frame.objects}))

    @cached_property
    def classes(self) -> dict[str, int]:
        """Number of each class from 1, in the order of their first objects."""
        labels = dict.fromkeys(self.label(number) for number in self.object_ids)
        return {label: number for number, label in enumerate(labels, 1)}

    @cached_property
    def indices(self) -> tuple[int, ...]:
        """Indices of the frames in the source."""
        return tuple(frame.index for frame in self.tracks)

    def of(self, object_id: int) -> Iterator[tuple[int, TrackedFrame, TrackedObject | None]]:
        """Yield position from 0, frame, and the object (None if not in view) for every frame."""
        for position, frame in enumerate(self.tracks):
            found = (entry for entry in frame.objects if entry.object_id == object_id)
            yield position, frame, next((entry for entry in found if in_view(entry)), None)


def in_view(entry: TrackedObject) -> bool:
    """Return whether the object is present and its mask is not empty."""
    return entry.present and entry.area > 0
