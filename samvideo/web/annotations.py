"""What a person has drawn: named objects with boxes, clicks and masks on frames, with undo and redo.

Threads: the server's thread edits (before it starts, the thread that loads the prompts does). Any thread may read
`AnnotationStore.current`: one reference to an immutable snapshot, so no lock is needed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from samvideo.errors import PromptError
from samvideo.geometry import Box4, check_mask_size, check_points, clip_box
from samvideo.object_prompts import number_prompts
from samvideo.types import MAX_LABEL, BoolArray, Box, Mask, Points, Prompt

MAX_OBJECTS = 64
MAX_CLICKS = 200  # on one object and frame
MAX_NAME = MAX_LABEL
HISTORY = 500  # steps that can be undone
HISTORY_BYTES = 256 << 20  # of masks in these steps: about 30 of them in 4K

Click = tuple[float, float, int]


@dataclass(frozen=True, eq=False)
class Annotation:
    """Everything drawn for one object on one frame.

    Attributes:
        box: (x1, y1, x2, y2) in pixels of the video, or None.
        clicks: (x, y, label) each; label 1 is on the object, 0 is not.
        mask: bool (H, W) at the video's size, or None; excludes box and clicks.
    """

    box: Box4 | None = None
    clicks: tuple[Click, ...] = ()
    mask: BoolArray | None = None

    def prompts(self, object_id: int) -> list[Prompt]:
        """Convert to prompts for a tracker."""
        if self.mask is not None:
            return [Mask(self.mask, object_id=object_id)]
        prompts: list[Prompt] = [] if self.box is None else [Box(self.box, object_id=object_id)]
        if self.clicks:
            xy, labels = [c[:2] for c in self.clicks], [c[2] for c in self.clicks]
            prompts.append(Points(xy, labels, object_id=object_id))
        return prompts

    def texts(self, object_id: int, frame: int, label: str | None = None) -> list[str]:
        """Convert to the command line's grammar; an uploaded mask has no file to name."""
        tail = f"@{frame}#{object_id}" + ("" if label is None else f":{label}")
        if self.mask is not None:
            return [f"mask=uploaded.png{tail}"]
        texts = [] if self.box is None else ["box=" + ",".join(f"{value:g}" for value in self.box) + tail]
        if self.clicks:
            clicks = "/".join(f"{'' if label else '-'}{x:g},{y:g}" for x, y, label in self.clicks)
            texts.append(f"points={clicks}{tail}")
        return texts


Annotations = dict[int, dict[int, Annotation]]
"""Annotations by frame, then by object."""


@dataclass(frozen=True)
class Snapshot:
    """The annotations at one moment.

    Attributes:
        names: of the objects, by id.
        drawn: annotations by (frame, object).
        revision: grows by one with every edit, undo and redo.
        can_undo, can_redo: whether there is a step in that direction.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    drawn: Mapping[tuple[int, int], Annotation] = field(default_factory=dict)
    revision: int = 0
    can_undo: bool = False
    can_redo: bool = False

    @property
    def labels(self) -> dict[int, str]:
        """The names that a person gave, by object."""
        return {i: name for i, name in self.names.items() if name != _clean("", i)}

    def by_frame(self) -> Annotations:
        """All annotations by frame and object, in ascending order."""
        found: Annotations = {}
        for (frame, object_id), annotation in sorted(self.drawn.items(), key=lambda item: item[0]):
            found.setdefault(frame, {})[object_id] = annotation
        return found


class AnnotationStore:
    """The annotations of one video, shared by all open pages.

    Args:
        size_wh: of the video; what is outside is refused.
        frame_count: frames are 0 to `frame_count` - 1.

    Attributes:
        current: the snapshot that is valid now; an edit replaces it.
        next_id: of the object that is added next.
    """

    def __init__(self, size_wh: tuple[int, int], frame_count: int) -> None:
        self._size_wh, self._count = size_wh, frame_count
        self.current = Snapshot()
        self._undo: list[Snapshot] = []
        self._redo: list[Snapshot] = []
        self.next_id = 1

    def add_object(self, name: str = "") -> int:
        """Add an object and return its id; ids are never reused. Raises PromptError when there are too many."""
        self._check_room(1)
        object_id, self.next_id = self.next_id, self.next_id + 1
        self._commit(names={**self.current.names, object_id: _clean(name, object_id)})
        return object_id

    def rename(self, object_id: int, name: str) -> None:
        """Change an object's name."""
        self._check_object(object_id)
        self._commit(names={**self.current.names, object_id: _clean(name, object_id)})

    def remove_object(self, object_id: int) -> None:
        """Remove an object with all its annotations."""
        self._check_object(object_id)
        names = {i: name for i, name in self.current.names.items() if i != object_id}
        self._commit(names, {key: drawn for key, drawn in self.current.drawn.items() if key[1] != object_id})

    def set_box(self, frame: int, object_id: int, box: Box4) -> None:
        """Set an object's box; it replaces an earlier box or mask on this frame, clicks stay."""
        clipped = clip_box(Box(box).xyxy, self._size_wh)
        self._put(frame, object_id, replace(self._get(frame, object_id), box=clipped, mask=None))

    def add_click(self, frame: int, object_id: int, click: Click) -> None:
        """Add a click; it replaces a mask on this frame."""
        points = Points([click[:2]], [click[2]])
        check_points(points.xy, self._size_wh)
        before = self._get(frame, object_id)
        if len(before.clicks) >= MAX_CLICKS:
            raise PromptError(f"there are {MAX_CLICKS} clicks here already: undo some, or draw a box")
        self._put(frame, object_id, replace(before, clicks=(*before.clicks, click), mask=None))

    def set_mask(self, frame: int, object_id: int, mask: BoolArray) -> None:
        """Set an object's mask, bool (H, W) at the video's size; it replaces box and clicks on this frame."""
        self._check_mask(mask)
        self._put(frame, object_id, Annotation(mask=np.asarray(mask, bool)))

    def set_masks(self, frame: int, masks: Mapping[int, BoolArray], names: Mapping[int, str] = {}) -> None:
        """`set_mask` for several objects by id, as one step; those that do not exist are added, by their names."""
        check_frame(frame, self._count)
        for mask in masks.values():
            self._check_mask(mask)
        added = {i: _clean(names.get(i, ""), i) for i in masks if i not in self.current.names}
        self._check_room(len(added))
        self.next_id = max(self.next_id, *(i + 1 for i in masks))
        drawn = {(frame, i): Annotation(mask=np.asarray(mask, bool)) for i, mask in masks.items()}
        self._commit({**self.current.names, **added}, {**self.current.drawn, **drawn})

    def mask(self, frame: int, object_id: int) -> BoolArray:
        """The mask drawn for an object on a frame, bool (H, W); a blank one where there is none."""
        self._check(frame, object_id)
        mask = self._get(frame, object_id).mask
        return np.zeros(self._size_wh[::-1], bool) if mask is None else mask

    def clear(self, frame: int, object_id: int) -> None:
        """Remove what was drawn for one object on one frame."""
        self._check(frame, object_id)
        self._commit(drawn={key: drawn for key, drawn in self.current.drawn.items() if key != (frame, object_id)})

    def load(self, placed: Iterable[tuple[int, Prompt]]) -> None:
        """Add (frame, prompt) pairs, as a command line gives them; cannot be undone.

        Raises PromptError for a prompt that is outside the video.
        """
        placed = list(placed)
        numbered = number_prompts(prompt for _, prompt in placed)
        for (frame, _), prompt in zip(placed, numbered, strict=True):
            object_id = prompt.object_id or 1
            if object_id not in self.current.names:
                self._commit(names={**self.current.names, object_id: _clean(prompt.label or "", object_id)})
            self.next_id = max(self.next_id, object_id + 1)
            if isinstance(prompt, Box):
                self.set_box(frame, object_id, prompt.xyxy)
            elif isinstance(prompt, Mask):
                self.set_mask(frame, object_id, prompt.mask)
            elif isinstance(prompt, Points):
                for (x, y), label in zip(prompt.xy.tolist(), prompt.labels.tolist(), strict=True):
                    self.add_click(frame, object_id, (x, y, label))
        self._undo.clear()
        self.current = replace(self.current, can_undo=False)

    def undo(self) -> None:
        """Go one step back; nothing happens at the beginning."""
        self._undo_to(self._undo, self._redo)

    def redo(self) -> None:
        """Revert the last `undo`; nothing happens when there is none."""
        self._undo_to(self._redo, self._undo)

    def _undo_to(self, source: list[Snapshot], target: list[Snapshot]) -> None:
        if source:
            target.append(self.current)
            self._replace(source.pop())

    def _commit(
        self, names: Mapping[int, str] | None = None, drawn: Mapping[tuple[int, int], Annotation] | None = None
    ) -> None:
        before = self.current
        self._undo.append(before)
        del self._undo[:-HISTORY]
        while _mask_bytes(self._undo) > HISTORY_BYTES:
            del self._undo[: len(self._undo) // 4 + 1]
        self._redo.clear()
        self._replace(Snapshot(before.names if names is None else names, before.drawn if drawn is None else drawn))

    def _replace(self, snapshot: Snapshot) -> None:
        self.current = replace(
            snapshot, revision=self.current.revision + 1, can_undo=bool(self._undo), can_redo=bool(self._redo)
        )

    def _get(self, frame: int, object_id: int) -> Annotation:
        return self.current.drawn.get((frame, object_id), Annotation())

    def _put(self, frame: int, object_id: int, annotation: Annotation) -> None:
        self._check(frame, object_id)
        self._commit(drawn={**self.current.drawn, (frame, object_id): annotation})

    def _check(self, frame: int, object_id: int) -> None:
        self._check_object(object_id)
        check_frame(frame, self._count)

    def _check_mask(self, mask: BoolArray) -> None:
        check_mask_size(mask, self._size_wh)
        if not mask.any():
            raise PromptError("the mask would be blank: at least one pixel expected (Delete clears what is drawn)")

    def _check_room(self, more: int) -> None:
        if len(self.current.names) + more > MAX_OBJECTS:
            raise PromptError(f"at most {MAX_OBJECTS} objects expected: remove some first")

    def _check_object(self, object_id: int) -> None:
        if object_id not in self.current.names:
            raise PromptError(f"there is no object {object_id}: it was removed, or never added")


def check_frame(index: int, count: int) -> None:
    """Raise PromptError when a video of `count` frames has no frame `index`."""
    if not 0 <= index < count:
        raise PromptError(f"there is no frame {index}: 0 to {count - 1} expected")


def _mask_bytes(history: Iterable[Snapshot]) -> int:
    masks = {id(a.mask): a.mask for step in history for a in step.drawn.values() if a.mask is not None}
    return sum(mask.nbytes for mask in masks.values())


def _clean(name: str, object_id: int) -> str:
    cleaned = "".join(c for c in name if c.isprintable()).strip()[:MAX_NAME].strip()
    return cleaned or f"Object {object_id}"


def changed_annotations(now: Annotations, before: Annotations) -> set[tuple[int, int]]:
    """Frame and object of all annotations that differ; those of a removed object count too."""
    keys = {(frame, object_id) for drawn in (now, before) for frame, here in drawn.items() for object_id in here}
    # An edit makes a new annotation and undo brings the old one back, so identity is enough.
    return {(f, i) for f, i in keys if now.get(f, {}).get(i) is not before.get(f, {}).get(i)}
