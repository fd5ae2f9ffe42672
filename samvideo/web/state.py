"""What the server tells the pages: immutable values, sent as JSON by `samvideo.web.messages`."""

from dataclasses import dataclass, field
from enum import Enum

from samvideo.geometry import Box4
from samvideo.trackers.direction import Direction
from samvideo.web.annotations import Click
from samvideo.web.results import Row


def as_text(name: str) -> str:
    """A name as text that can be encoded: bytes in names of files need not be."""
    return name.encode(errors="replace").decode()


class Phase(str, Enum):
    """What tracking does now. Files may be written in every phase but `TRACKING` and `REPLAYING`."""

    IDLE = "idle"  # nothing was tracked yet, or the last pass came to its end
    TRACKING = "tracking"
    REPLAYING = "replaying"  # shows the tracker frames again that have results already
    PAUSED = "paused"  # a page stopped the pass; it can continue
    FAILED = "failed"  # the pass ended with an error
    DONE = "done"  # the command ends

    @property
    def busy(self) -> bool:
        """Whether a pass is running."""
        return self in (Phase.TRACKING, Phase.REPLAYING)


@dataclass(frozen=True, kw_only=True)
class Status:
    """What the tracking thread reports.

    Attributes:
        phase: of tracking.
        saving: whether files are being written.
        at: the frame that was tracked or written last.
        error: the last failure, for the person; "" when there is none.
        files: names of the written files by kind; empty while they are out of date.
        folder: where they are.
        version: grows by one with every change.
    """

    phase: Phase = Phase.IDLE
    saving: bool = False
    at: int | None = None
    error: str = ""
    files: dict[str, str] = field(default_factory=dict)
    folder: str = ""
    version: int = 0


@dataclass(frozen=True)
class ObjectState:
    """One object."""

    id: int
    name: str


@dataclass(frozen=True)
class AnnotationState:
    """What is drawn for one object on one frame; of a mask only that there is one."""

    frame: int
    object: int
    box: Box4 | None
    clicks: tuple[Click, ...]
    mask: bool


@dataclass(frozen=True, kw_only=True)
class PageState(Status):
    """Everything but frames and results.

    Attributes:
        objects, annotations: all there are.
        annotations_revision: see `Snapshot.revision`.
        undo, redo: whether there is a step in that direction.
        changed: frames whose annotations changed since they were tracked.
        colours: "#rrggbb" by object.
    """

    objects: tuple[ObjectState, ...]
    annotations: tuple[AnnotationState, ...]
    annotations_revision: int
    undo: bool
    redo: bool
    changed: tuple[int, ...]
    colours: dict[int, str]


@dataclass(frozen=True)
class Facts:
    """What never changes: the video, and the choices that the page begins with.

    Attributes:
        name: of the video.
        width, height: of its frames in pixels.
        aspect: how much wider than high a pixel is shown.
        frames: how many there are; the first is frame 0.
        rate: average frames per second.
        tool: "box", "points" or "mask".
        direction: of tracking.
        model: its name.
        stills: whether the frames are images, each segmented alone.
        by_name: whether objects can be found by name, which takes the libraries of `samvideo[detect]`.
        embedded: whether the page is part of another one, so that closing it ends nothing.
    """

    name: str
    width: int
    height: int
    aspect: float
    frames: int
    rate: float
    tool: str
    direction: Direction
    model: str
    stills: bool
    by_name: bool
    embedded: bool


@dataclass(frozen=True)
class MaskOverlay:
    """One object's mask as it is drawn over a frame.

    Attributes:
        source: "tracked" or "preview".
        present, score: see `FrameResult`.
        shapes: see `samvideo.web.outlines`.
    """

    source: str
    present: bool
    score: float
    shapes: list[list[int]]


@dataclass(frozen=True)
class FrameMasks:
    """The masks on one frame, by object."""

    frame: int
    objects: dict[int, MaskOverlay]


@dataclass(frozen=True)
class Proposal:
    """An object that was found, "" as its label if it has none; for `shapes` see `samvideo.web.outlines`."""

    label: str
    shapes: list[list[int]]


@dataclass(frozen=True)
class Proposals:
    """New objects that were found on a frame, the best first; `key` is what a page takes them by."""

    frame: int
    key: int
    found: tuple[Proposal, ...]


@dataclass(frozen=True)
class News:
    """What changed since the last news; `rows` replace those of the same frame and object."""

    rows: list[tuple[int, int, Row | None]]
    state: PageState | None
