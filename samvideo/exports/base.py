"""The interface of export formats, and helpers that they share."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from samvideo.io.paired import RunVideo, paired
from samvideo.io.tracks import FrameRecord, ObjectRecord, TracksFile
from samvideo.types import Frame


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        write: the function.
        suffix: of its file, "" for a folder.
        about: a description.
        needs_video: whether it needs the source.
        restores: whether it is the `tracks.json` of a run, which it may replace.
    """

    write: Callable[["Job"], None]
    suffix: str
    about: str
    needs_video: bool = False
    restores: bool = False


@dataclass(frozen=True)
class Job:
    """One run to export to `out`, a file or folder whose parent exists; `title` is the name of the video.

    `labels` are classes by object id, and `video` is the source if it was given.
    """

    tracks: TracksFile
    out: Path
    title: str
    labels: Mapping[int, str]
    video: RunVideo | None

    def label(self, object_id: int) -> str:
        """Return the class of an object."""
        return self.labels.get(object_id, f"object {object_id}")

    @cached_property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all objects of the run, ascending."""
        return self.tracks.object_ids()

    @cached_property
    def classes(self) -> dict[str, int]:
        """Number of each class from 1, in the order of their first objects."""
        labels = dict.fromkeys(self.label(number) for number in self.object_ids)
        return {label: number for number, label in enumerate(labels, 1)}

    @cached_property
    def indices(self) -> tuple[int, ...]:
        """Indices of the frames in the source."""
        return tuple(frame.index for frame in self.tracks)

    def frames(self) -> Iterator[tuple[Frame, FrameRecord]]:
        """Yield every frame of the run as decoded from the video and as tracked; see `paired`."""
        assert self.video is not None
        return paired(self.tracks, self.video)

    @cached_property
    def length(self) -> int:
        """Number of frames of the source, or up to the last one tracked if it is unknown."""
        tracked = self.indices[-1] + 1 if self.indices else 0
        return max(self.tracks.info.frame_count or 0, tracked)

    def of(self, object_id: int) -> Iterator[tuple[FrameRecord, ObjectRecord | None]]:
        """Yield every frame with the object, or with None if it is not in view."""
        for frame in self.tracks:
            yield frame, frame.visible().get(object_id)
