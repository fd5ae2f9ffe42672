"""What a person has marked: objects with names, and boxes, clicks and masks on frames; with undo and redo."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from samvideo.errors import PromptError
from samvideo.geometry import check_mask_size, check_points, clip_box
from samvideo.trackers.objects import number_prompts
from samvideo.types import BoolArray, Box, Mask, Points, Prompt

MAX_OBJECTS = 64
MAX_CLICKS = 200  # on one object and frame
MAX_NAME = 40
HISTORY = 500  # steps that can be undone

Click = tuple[float, float, int]
Box4 = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Mark:
    """All that was said of one object on one frame.

    Attributes:
        box: (x1, y1, x2, y2) in pixels of the video, or None.
        clicks: (x, y, label) each; label 1 is on the object, 0 is not.
        mask: bool (H, W) at the video's size, or None; excludes box and clicks.
    """

    box: Box4 | None = None
    clicks: tuple[Click, ...] = ()
    mask: BoolArray | None = None

    def prompts(self, object_id: int) -> list[Prompt]:
        """The same as prompts for a tracker."""
        if self.mask is not None:
            return [Mask(self.mask, object_id=object_id)]
        said: list[Prompt] = [] if self.box is None else [Box(self.box, object_id=object_id)]
        if self.clicks:
            xy, labels = [c[:2] for c in self.clicks], [c[2] for c in self.clicks]
            said.append(Points(xy, labels, object_id=object_id))
        return said

    def texts(self, object_id: int, frame: int) -> list[str]:
        """The same in the command line's grammar; an uploaded mask has no file to name."""
        tail = f"@{frame}#{object_id}"
        if self.mask is not None:
            return [f"mask=uploaded.png{tail}"]
        said = [] if self.box is None else ["box=" + ",".join(f"{value:g}" for value in self.box) + tail]
        if self.clicks:
            clicks = "/".join(f"{'' if label else '-'}{x:g},{y:g}" for x, y, label in self.clicks)
            said.append(f"points={clicks}{tail}")
        return said


Marks = dict[int, dict[int, Mark]]
"""Marks by frame, then by object."""


@dataclass(frozen=True)
class _Page:
    """One state of everything; edits make a new one, so that undo is going back to an old one."""

    names: dict[int, str] = field(default_factory=dict)
    marks: dict[tuple[int, int], Mark] = field(default_factory=dict)  # by (frame, object)


class MarkBook:
    """The marks of one video, shared by all open pages; every method may be called from any thread.

    Args:
        size_wh: of the video; what lies outside is refused.
        frame_count: frames are 0 to `frame_count` - 1.
    """

    def __init__(self, size_wh: tuple[int, int], frame_count: int) -> None:
        self._size_wh, self._count = size_wh, frame_count
        self._lock = threading.RLock()
        self._page = _Page()
        self._undo: list[_Page] = []
        self._redo: list[_Page] = []
        self._next_id = 1
        self.revision = 0

    # --- reading ------------------------------------------------------------------------------------------

    @property
    def names(self) -> dict[int, str]:
        """Names by object id."""
        return dict(self._page.names)

    def marks(self) -> Marks:
        """Everything marked, by frame and object, in ascending order."""
        found: Marks = {}
        for (frame, object_id), mark in sorted(self._page.marks.items(), key=lambda item: item[0]):
            found.setdefault(frame, {})[object_id] = mark
        return found

    def describe(self) -> dict[str, Any]:
        """For the page: objects and marks as JSON, masks only as a flag."""
        page = self._page
        marks = [
            {"frame": frame, "object": i, "box": m.box, "clicks": m.clicks, "mask": m.mask is not None}
            for (frame, i), m in sorted(page.marks.items(), key=lambda item: item[0])
        ]
        objects = [{"id": i, "name": name} for i, name in page.names.items()]
        return {
            "objects": objects,
            "marks": marks,
            "undo": bool(self._undo),
            "redo": bool(self._redo),
            "marks_revision": self.revision,
        }

    # --- editing ------------------------------------------------------------------------------------------

    def add_object(self, name: str = "") -> int:
        """A new object; ids are never used twice. Raises PromptError when there are too many."""
        with self._lock:
            if len(self._page.names) >= MAX_OBJECTS:
                raise PromptError(f"there are {MAX_OBJECTS} objects already: remove one first")
            object_id, self._next_id = self._next_id, self._next_id + 1
            self._turn(replace(self._page, names={**self._page.names, object_id: _name(name, object_id)}))
            return object_id

    def rename(self, object_id: int, name: str) -> None:
        """Change an object's name."""
        with self._lock:
            self._check_object(object_id)
            self._turn(replace(self._page, names={**self._page.names, object_id: _name(name, object_id)}))

    def remove_object(self, object_id: int) -> None:
        """Remove an object and all its marks."""
        with self._lock:
            self._check_object(object_id)
            names = {i: name for i, name in self._page.names.items() if i != object_id}
            marks = {key: mark for key, mark in self._page.marks.items() if key[1] != object_id}
            self._turn(_Page(names, marks))

    def set_box(self, frame: int, object_id: int, box: Box4) -> None:
        """Put a box around an object; it replaces an earlier box or mask there, clicks stay."""
        clipped = clip_box(Box(box).xyxy, self._size_wh)
        with self._lock:
            self._put(frame, object_id, replace(self._mark(frame, object_id), box=clipped, mask=None))

    def add_click(self, frame: int, object_id: int, click: Click) -> None:
        """Add a click; it replaces a mask there."""
        clicked = Points([click[:2]], [click[2]])
        check_points(clicked.xy, self._size_wh)
        with self._lock:
            mark = self._mark(frame, object_id)
            if len(mark.clicks) >= MAX_CLICKS:
                raise PromptError(f"there are {MAX_CLICKS} clicks here already: undo some, or draw a box")
            self._put(frame, object_id, replace(mark, clicks=(*mark.clicks, click), mask=None))

    def set_mask(self, frame: int, object_id: int, mask: BoolArray) -> None:
        """Give the object's mask, bool (H, W) at the video's size; it replaces box and clicks there."""
        check_mask_size(mask, self._size_wh)
        with self._lock:
            self._put(frame, object_id, Mark(mask=np.asarray(mask, bool)))

    def clear(self, frame: int, object_id: int) -> None:
        """Take back what was marked on one object and frame."""
        with self._lock:
            self._check(frame, object_id)
            marks = {key: mark for key, mark in self._page.marks.items() if key != (frame, object_id)}
            self._turn(replace(self._page, marks=marks))

    def load(self, placed: Iterable[tuple[int, Prompt]]) -> None:
        """Take over (frame, prompt) pairs, as a command line gives them; cannot be undone.

        Raises:
            PromptError: a prompt lies outside the video, or contradicts another.
        """
        placed = list(placed)
        numbered = number_prompts(prompt for _, prompt in placed)
        for (frame, _), prompt in zip(placed, numbered, strict=True):
            object_id = prompt.object_id or 1
            self._page.names.setdefault(object_id, _name("", object_id))
            self._next_id = max(self._next_id, object_id + 1)
            if isinstance(prompt, Box):
                self.set_box(frame, object_id, prompt.xyxy)
            elif isinstance(prompt, Mask):
                self.set_mask(frame, object_id, prompt.mask)
            elif isinstance(prompt, Points):
                for (x, y), label in zip(prompt.xy.tolist(), prompt.labels.tolist(), strict=True):
                    self.add_click(frame, object_id, (x, y, label))
        self._undo.clear()

    def undo(self) -> None:
        """Go one step back; nothing happens at the beginning."""
        self._travel(self._undo, self._redo)

    def redo(self) -> None:
        """Take the last `undo` back; nothing happens when there is none."""
        self._travel(self._redo, self._undo)

    # --- inside -------------------------------------------------------------------------------------------

    def _travel(self, source: list[_Page], target: list[_Page]) -> None:
        with self._lock:
            if source:
                target.append(self._page)
                self._page = source.pop()
                self.revision += 1

    def _turn(self, page: _Page) -> None:
        self._undo.append(self._page)
        del self._undo[:-HISTORY]
        self._redo.clear()
        self._page = page
        self.revision += 1

    def _mark(self, frame: int, object_id: int) -> Mark:
        return self._page.marks.get((frame, object_id), Mark())

    def _put(self, frame: int, object_id: int, mark: Mark) -> None:
        self._check(frame, object_id)
        self._turn(replace(self._page, marks={**self._page.marks, (frame, object_id): mark}))

    def _check(self, frame: int, object_id: int) -> None:
        self._check_object(object_id)
        if not 0 <= frame < self._count:
            raise PromptError(f"there is no frame {frame}: 0 to {self._count - 1} expected")

    def _check_object(self, object_id: int) -> None:
        if object_id not in self._page.names:
            raise PromptError(f"there is no object {object_id}: it was removed, or never added")


def _name(text: str, object_id: int) -> str:
    cleaned = "".join(c for c in text if c.isprintable()).strip()[:MAX_NAME]
    return cleaned or f"Object {object_id}"


def changed_frames(now: Marks, before: Marks) -> dict[int, set[int]]:
    """Frames, by object, whose marks are not the same in both; a removed object's frames count too."""
    changed: dict[int, set[int]] = {}
    for frame in now.keys() | before.keys():
        here, there = now.get(frame, {}), before.get(frame, {})
        for object_id in here.keys() | there.keys():
            # An edit makes a new Mark and undo brings the old one back, so identity tells.
            if here.get(object_id) is not there.get(object_id):
                changed.setdefault(object_id, set()).add(frame)
    return changed
