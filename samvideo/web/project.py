"""Everything the open pages share: the video, the marks, the results, and what is going on."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from samvideo.errors import ConfigError, PromptError, VideoError
from samvideo.io.source import VideoSource
from samvideo.render import object_colour
from samvideo.trackers.base import Tracker
from samvideo.trackers.direction import Direction, check_direction
from samvideo.types import FrameResult, VideoInfo
from samvideo.web.frames import FrameStore
from samvideo.web.marks import Mark, MarkBook
from samvideo.web.passes import Passes
from samvideo.web.preview import Preview
from samvideo.web.results import Results
from samvideo.web.shapes import outlines

KEPT_PREVIEWS = 256


@dataclass(frozen=True)
class Command:
    """What a page asks of the command that serves it: `track`, `pause` or `finish`."""

    kind: str
    direction: Direction = "forward"


class Project:
    """Context manager; the page's requests come from many threads, tracking runs in one of its own.

    Args:
        info: of the video; its `frame_count` must be known.
        open_source: opens the video anew.
        tracker: for tracking.
        make_preview: makes the tracker for previews, when the first is wanted.
        tool: "box", "points" or "mask": what the page begins with.
        direction: what the page begins with.
        model: its name, for the page.
    """

    def __init__(
        self,
        info: VideoInfo,
        open_source: Callable[[], VideoSource],
        tracker: Tracker,
        make_preview: Callable[[], Tracker],
        *,
        tool: str,
        direction: Direction,
        model: str,
    ) -> None:
        assert info.frame_count is not None
        self.info, self.count = info, info.frame_count
        self.book = MarkBook(info.size_wh, self.count)
        self.results = Results(info.size_wh)
        self.passes = Passes(tracker, open_source, self.results, self.count)
        self._frames, self._thumbs = FrameStore(open_source), FrameStore(open_source)
        self._preview = Preview(make_preview)
        self._previews: dict[tuple[int, int], tuple[Mark, dict[str, Any]]] = {}  # by (frame, object)
        self._facts = {"tool": tool, "direction": direction, "model": model}
        self._changed = threading.Condition()
        self._command: Command | None = None
        self._status: dict[str, Any] = {"phase": "idle", "error": "", "files": {}}
        self.version = 0
        self.closed = False

    # --- what the page asks -------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All but frames and results, as JSON."""
        marks = self.book.marks()
        with self._changed:
            status = {**self._status, "version": self.version}
        return {
            **self.book.describe(),
            **status,
            "changed": sorted(self.passes.changed(marks)),
            "colours": {i: "#{:02x}{:02x}{:02x}".format(*object_colour(i)) for i in self.book.names},
        }

    def facts(self) -> dict[str, Any]:
        """What never changes."""
        width, height = self.info.size_wh
        return {
            **self._facts,
            "name": self.info.name,
            "width": width,
            "height": height,
            "frames": self.count,
            "rate": float(self.info.rate),
        }

    def frame(self, index: int, width: int) -> bytes:
        """Frame `index` as JPEG for a place `width` pixels wide. Raises PromptError when there is none."""
        return self._frames.jpeg(self._check(index), width)

    def thumbnail(self, index: int) -> bytes:
        """Frame `index` as a small JPEG; another reader makes it, so that frames do not wait for thumbnails."""
        return self._thumbs.thumbnail(self._check(index))

    def masks(self, index: int) -> dict[str, Any] | None:
        """Outlines on one frame: what was tracked, and previews of marks that were not yet.

        None when a newer request made this one pointless.
        """
        marks, ids = self.book.marks(), set(self.book.names)
        tracked = self.results.look_up(self._check(index), ids)
        shown = _shapes(tracked, self.info.size_wh, "tracked")
        here = marks.get(index, {})
        changed = self.passes.changed(marks).get(index, set())
        wanted = {i: mark for i, mark in here.items() if i in changed or i not in tracked.object_ids}
        missing = {
            i: mark for i, mark in wanted.items() if self._previews.get((index, i), (None, None))[0] is not mark
        }
        if missing:
            # Clicks on an object that is marked elsewhere too correct what was tracked here.
            known = {i for i in missing if any(i in marks[frame] for frame in marks if frame != index)}
            frame, following = self._frames.frame(index), None
            with suppress(VideoError):  # the last one
                following = self._frames.frame(index + 1)
            preview = self._preview.masks(frame, missing, self.results.look_up(index, known), following)
            if preview is None:
                return None
            with self._changed:
                for i, shape in _shapes(preview, self.info.size_wh, "preview").items():
                    self._previews[index, i] = missing[i], shape
                for key in list(self._previews)[:-KEPT_PREVIEWS]:
                    del self._previews[key]
        previews = dict(self._previews)
        shown.update({i: previews[index, i][1] for i in wanted if (index, i) in previews})
        return {"frame": index, "objects": shown}

    def _check(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise PromptError(f"there is no frame {index}: 0 to {self.count - 1} expected")
        return index

    def ask(self, kind: str, direction: str = "forward") -> None:
        """Hand a command to the thread that tracks.

        Raises:
            PromptError: nothing is marked.
            ConfigError: no such command or direction.
        """
        if kind not in ("track", "pause", "finish"):
            raise ConfigError(f"command must be track, pause or finish, not {kind!r}")
        if kind == "track" and not self.book.marks():
            raise PromptError("nothing to track yet: draw a box around an object first")
        command = Command(kind, check_direction(direction))
        with self._changed:
            self._command = command
            self._changed.notify_all()

    # --- what the tracking thread does --------------------------------------------------------------------

    def next_command(self, seconds: float = 0.0) -> Command | None:
        """Take the command that waits, or the one that comes within some seconds."""
        with self._changed:
            if self._command is None and seconds:
                self._changed.wait(seconds)
            command, self._command = self._command, None
            return command

    def waiting(self) -> bool:
        """Whether a command waits."""
        return self._command is not None

    def tell(self, **status: Any) -> None:
        """Change what the pages show: phase, error, progress, files."""
        with self._changed:
            if status.get("phase") == "idle":
                self._previews.clear()  # clicks correct what was tracked, which is new now
            self._status.update(status)
            self.version += 1

    def close(self) -> None:
        """The pages are told what is told by now, and then no more."""
        self.closed = True

    def __enter__(self) -> "Project":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in (self._frames, self._thumbs, self.results):
            part.__exit__(kind, error, trace)


def _shapes(result: FrameResult, size_wh: tuple[int, int], source: str) -> dict[int, dict[str, Any]]:
    return {
        i: {
            "from": source,
            "present": bool(present),
            "score": round(float(score), 4),
            "shapes": outlines(np.asarray(mask), size_wh),
        }
        for i, mask, score, present in zip(
            result.object_ids, result.masks, result.scores, result.present, strict=True
        )
    }
