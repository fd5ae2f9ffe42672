"""What the open pages share: video, annotations, results, and the state of tracking.

Threads: the server's thread edits annotations and puts commands into a queue; the tracking thread takes them,
tracks, and reports its status. Shared values are immutable and replaced whole, so reading them needs no lock. Each
lock that remains guards one resource: a reader of the video, the file of results, the tracker of previews, the
zipped masks.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from queue import Empty, SimpleQueue

import numpy as np

from samvideo.errors import PromptError
from samvideo.io.source import VideoSource
from samvideo.prompters.detectors import parse_texts
from samvideo.render import object_colour
from samvideo.segmenters.base import Segmenter
from samvideo.trackers.base import Tracker
from samvideo.trackers.direction import Direction
from samvideo.trackers.stills import StillsTracker
from samvideo.types import BoolArray, VideoInfo
from samvideo.web.annotations import AnnotationStore, check_frame
from samvideo.web.frames import Media
from samvideo.web.messages import Command
from samvideo.web.outlines import overlays
from samvideo.web.painting import overlay_mask
from samvideo.web.passes import InteractiveTracking
from samvideo.web.preview import Preview
from samvideo.web.proposing import MakePrompter, Proposing, make_prompter
from samvideo.web.results import Results
from samvideo.web.state import (
    AnnotationState,
    Facts,
    FrameMasks,
    ObjectState,
    PageState,
    Proposals,
    Status,
    as_text,
)


class Project:
    """Context manager over everything that one page run shares.

    Args:
        info: of the video; its `frame_count` must be known.
        open_source: opens the video.
        tracker: for tracking.
        make_segmenter: called at the first preview.
        tool: "box", "points" or "mask": what the page begins with.
        direction: what the page begins with.
        model: its name, for the page.
        embedded: see `PageSettings`.
        make_prompter: see `Proposing`.

    Attributes:
        media, annotations, results, tracking, proposing: the parts, each with its own rules for threads.
        facts: what never changes.
        status: as reported last.
        closed: whether the pages get no more news.
    """

    def __init__(
        self,
        info: VideoInfo,
        open_source: Callable[[], VideoSource],
        tracker: Tracker,
        make_segmenter: Callable[[], Segmenter],
        *,
        tool: str,
        direction: Direction,
        model: str,
        embedded: bool = False,
        make_prompter: MakePrompter = make_prompter,
    ) -> None:
        self.media = Media(info, open_source)
        self.annotations = AnnotationStore(info.size_wh, self.media.count)
        self.results = Results(info.size_wh)
        self.tracking = InteractiveTracking(tracker, open_source, self.results, self.media.count)
        self._preview = Preview(make_segmenter, self.media, self.results)
        self.proposing = Proposing(make_prompter, self._preview.segmenter)
        aspect, rate = float(info.pixel_aspect), float(info.rate)
        stills = isinstance(tracker, StillsTracker)
        by_name = find_spec("transformers") is not None
        self.facts = Facts(
            as_text(info.name),
            *info.size_wh,
            aspect,
            self.media.count,
            rate,
            tool,
            direction,
            model,
            stills,
            by_name,
            embedded,
        )
        self._commands: SimpleQueue[Command] = SimpleQueue()
        self.status = Status()
        self.closed = False

    def state(self) -> PageState:
        """Everything but frames and results."""
        now = self.annotations.current
        drawn = sorted(now.drawn.items(), key=lambda item: item[0])
        return PageState(
            **vars(self.status),
            objects=tuple(ObjectState(i, name) for i, name in now.names.items()),
            annotations=tuple(AnnotationState(*key, a.box, a.clicks, a.mask is not None) for key, a in drawn),
            annotations_revision=now.revision,
            undo=now.can_undo,
            redo=now.can_redo,
            changed=tuple(sorted({frame for frame, _ in self.tracking.changed(now.by_frame())})),
            colours={i: "#{:02x}{:02x}{:02x}".format(*object_colour(i)) for i in now.names},
        )

    def masks(self, index: int) -> FrameMasks | None:
        """Outlines on one frame: what was tracked, and previews of annotations that were not yet.

        None when a newer request overtook this one. Raises PromptError when there is no such frame.
        """
        check_frame(index, self.media.count)
        now = self.annotations.current
        drawn = now.by_frame()
        tracked = self.results.look_up(index, set(now.names))
        changed = self.tracking.changed(drawn)
        here = drawn.get(index, {}).items()
        new = {i: a for i, a in here if (index, i) in changed or i not in tracked.object_ids}
        # Clicks on an object that is annotated elsewhere too correct what was tracked here.
        corrected = {i for i in new if any(i in drawn[frame] for frame in drawn if frame != index)}
        previews = self._preview.overlays(index, new, corrected)
        if previews is None:
            return None
        return FrameMasks(index, {**overlays(tracked, self.media.info.size_wh, "tracked"), **previews})

    def shown_mask(self, index: int, object_id: int) -> BoolArray:
        """The mask shown for an object on a frame, bool (H, W) at the video's size: drawn, previewed or tracked."""
        drawn = self.annotations.mask(index, object_id)
        if drawn.any():
            return drawn
        size_wh = self.media.info.size_wh
        preview = self._preview.made(index, object_id, self.annotations.current.drawn.get((index, object_id)))
        if preview is not None:
            return overlay_mask(preview, size_wh)
        tracked = self.results.look_up(index, {object_id})
        return tracked.mask(object_id) if object_id in tracked.object_ids else drawn

    def propose(self, index: int, texts: str | None) -> Proposals | None:
        """Propose objects on a frame, where none is yet: everything, or what texts such as "person; ball" name.

        None when a newer request overtook this one. Raises SamVideoError: there is no such frame, no text, or no
        detector, or it failed.
        """
        check_frame(index, self.media.count)
        wanted = None if texts is None else parse_texts(texts)
        if wanted and not self.facts.by_name:
            raise PromptError(
                "no library that finds objects by name: pip install 'samvideo[detect]', then start again"
            )
        return self.proposing.propose(self.media.exact(index), wanted, lambda: self._covered(index))

    def _covered(self, index: int) -> BoolArray:
        """The pixels of all objects on a frame, bool (H, W)."""
        self.masks(index)  # makes the previews
        width, height = self.media.info.size_wh
        covered = np.zeros((height, width), bool)
        for object_id in self.annotations.current.names:
            with suppress(PromptError):  # it was removed in the meantime
                covered |= self.shown_mask(index, object_id)
        return covered

    def upload(self, index: int, object_id: int | None, masks: dict[int, BoolArray]) -> None:
        """Take the masks of an image, by id, for a frame.

        A single one belongs to `object_id`, or to a new object; several belong to the objects of their ids, which
        are added where they are missing, as on the command line. Raises PromptError when they are refused.
        """
        if len(masks) > 1:
            self.annotations.set_masks(index, masks)
            return
        (mask,) = masks.values()
        if object_id is None:
            self.annotations.set_masks(index, {self.annotations.next_id: mask})
        else:
            self.annotations.set_mask(index, object_id, mask)

    def command(self, command: Command) -> None:
        """Hand a command to the tracking thread. Raises PromptError when there is nothing to track."""
        if command.kind == "track" and not self.annotations.current.drawn:
            raise PromptError("nothing to track yet: draw a box around an object first")
        self._commands.put(command)

    def next_command(self, seconds: float = 0.0) -> Command | None:
        """Take the oldest command, or the one that comes within some seconds."""
        try:
            return self._commands.get(timeout=seconds) if seconds else self._commands.get_nowait()
        except Empty:
            return None

    def waiting(self) -> bool:
        """Whether a command waits."""
        return not self._commands.empty()

    def report(self, status: Status) -> None:
        """Replace what the pages show; for the tracking thread only."""
        if self.status.phase.busy and not status.phase.busy:
            self._preview.forget()  # clicks correct what was tracked, which is new now
        error, folder = as_text(status.error), as_text(status.folder)
        self.status = replace(status, error=error, folder=folder, version=self.status.version + 1)

    def close(self) -> None:
        """Let the pages have the news until now, and then no more."""
        self.closed = True

    def __enter__(self) -> "Project":
        return self

    def __exit__(self, *_: object) -> None:
        self.proposing.close()
        self.media.close()
        self.results.close()
