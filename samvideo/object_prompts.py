"""The user's object ids: they never change, whatever slots a tracker keeps its objects in."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from samvideo.errors import PromptError, VideoError, shown
from samvideo.geometry import Box4, check_mask_size, check_points, clip_box, scale_points
from samvideo.types import BoolArray, Box, FloatArray, Frame, Mask, Points, Prompt


@dataclass(frozen=True, eq=False)
class ObjectPrompt:
    """All prompts of one object on one frame, checked against that frame.

    Attributes:
        object_id: at least 1.
        xy, labels: (N, 2) and (N,) clicks, N may be 0; label 1 is on the object, 0 is not.
        box: clipped to the frame, or None.
        mask: bool (H, W), or None; excludes clicks and box.
        label: of the object, or None.
    """

    object_id: int
    xy: FloatArray
    labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    box: Box4 | None = None
    mask: BoolArray | None = None
    label: str | None = None

    @property
    def points(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The box as two corners, labelled 2 and 3, and the clicks: (N, 2) in pixels of the frame, (N,) labels."""
        corners = np.asarray(self.box or (), np.float64).reshape(-1, 2)
        return np.concatenate([corners, self.xy]), np.concatenate([[2, 3][: len(corners)], self.labels]).astype(int)


def number_prompts(prompts: Iterable[Prompt], taken: Iterable[int] = ()) -> list[Prompt]:
    """Give every prompt without an id the next free one, in order, and every prompt the label of its object.

    An id is free if no prompt before names it, and none on the same frame: `box=…` and `points=…@9#1` after it are
    both of object 1, which the latter corrects.

    Raises:
        PromptError: no list of prompts, or two labels for one object.
    """
    prompts = [prompts] if isinstance(prompts, Prompt) else list(prompts)
    if wrong := [prompt for prompt in prompts if not isinstance(prompt, Prompt)]:
        raise PromptError(f"a prompt is a Box, Points or Mask, not {shown(wrong[0])}")
    used, together, numbered = set(taken), defaultdict[object, set[int]](set), []
    for prompt in prompts:
        if prompt.object_id is not None:
            together[_moment(prompt)].add(prompt.object_id)
    for prompt in prompts:
        if prompt.object_id is None:
            beside = together[_moment(prompt)]
            prompt = replace(prompt, object_id=next(i for i in count(1) if i not in used and i not in beside))
        assert prompt.object_id is not None
        used.add(prompt.object_id)
        numbered.append(prompt)
    labels = labels_of(numbered)
    return [_labelled(prompt, labels) for prompt in numbered]


def _moment(prompt: Prompt) -> tuple[int | None, float | None]:
    return (prompt.frame or 0 if prompt.seconds is None else None), prompt.seconds


def _labelled(prompt: Prompt, labels: Mapping[int, str]) -> Prompt:
    label = labels.get(prompt.object_id or 0)
    return prompt if prompt.label == label else replace(prompt, label=label)


def labels_of(prompts: Iterable[Prompt]) -> dict[int, str]:
    """Return the labels of objects, by id, that numbered prompts give; PromptError if one has two."""
    labels: dict[int, str] = {}
    for prompt in prompts:
        if prompt.object_id is None or prompt.label is None:
            continue
        if (first := labels.setdefault(prompt.object_id, prompt.label)) != prompt.label:
            raise PromptError(
                f"object {prompt.object_id} has the labels {first!r} and {prompt.label!r}: one label per object "
                "expected; give another object its own id"
            )
    return labels


def group_prompts(prompts: Sequence[Prompt], taken: Iterable[int], size_wh: tuple[int, int]) -> list[ObjectPrompt]:
    """Check the prompts of one frame and join them per object, in ascending order of id.

    Args:
        prompts: of the frame.
        taken: ids of the objects that are known before.
        size_wh: of the frame.

    Raises:
        PromptError: outside the frame, wrong size, two boxes or two masks for one object, mask with clicks.
    """
    by_id: dict[int, list[Prompt]] = {}
    for prompt in number_prompts(prompts, taken):
        assert prompt.object_id is not None
        by_id.setdefault(prompt.object_id, []).append(prompt)
    return [_join(object_id, by_id[object_id], size_wh) for object_id in sorted(by_id)]


def group_tracked(prompts: Sequence[Prompt], known: Iterable[int], size_wh: tuple[int, int]) -> list[ObjectPrompt]:
    """`group_prompts` on a frame of a video, where a new object needs a prompt that is on it.

    Raises:
        PromptError: as `group_prompts`, or only clicks that are not on it for an object that is not `known`.
    """
    known = set(known)
    grouped = group_prompts(prompts, known, size_wh)
    for one in grouped:
        if one.object_id not in known and one.box is None and one.mask is None and not one.labels.any():
            raise PromptError(
                f"object {one.object_id} is new, and has only clicks that are not on it: give a box, a mask or "
                "a click on it as well, or the id of the object to correct"
            )
    return grouped


def _join(object_id: int, prompts: list[Prompt], size_wh: tuple[int, int]) -> ObjectPrompt:
    boxes = [clip_box(p.xyxy, size_wh) for p in prompts if isinstance(p, Box)]
    masks = [p.mask for p in prompts if isinstance(p, Mask)]
    clicks = [p for p in prompts if isinstance(p, Points)]
    if len(boxes) > 1 or len(masks) > 1 or (masks and (boxes or clicks)):
        raise PromptError(
            f"object {object_id} has {len(boxes)} boxes, {len(masks)} masks and {len(clicks)} sets of points on "
            "one frame: at most one box (with any points) or one mask expected; give a second object its own id"
        )
    for click in clicks:
        check_points(click.xy, size_wh)
    for mask in masks:
        check_mask_size(mask, size_wh)
    return ObjectPrompt(
        object_id,
        np.concatenate([np.zeros((0, 2), np.float32), *(c.xy for c in clicks)]),
        np.concatenate([np.zeros(0, np.int64), *(c.labels for c in clicks)]),
        boxes[0] if boxes else None,
        masks[0] if masks else None,
        prompts[0].label,
    )


def input_points(
    prompt: ObjectPrompt, frame_wh: tuple[int, int], input_wh: tuple[int, int]
) -> tuple[FloatArray, NDArray[np.int64]]:
    """`ObjectPrompt.points` in pixels of the input, float32."""
    xy, labels = prompt.points
    return scale_points(xy.astype(np.float32), frame_wh, input_wh), labels


def size_changed(frame: Frame, expected_wh: tuple[int, int]) -> VideoError:
    """The error for a frame of another size than those before it."""
    found, expected = ("{}x{}".format(*size_wh) for size_wh in (frame.size_wh, expected_wh))
    return VideoError(
        f"frame {frame.index} is {found}, those before it {expected}: one size expected; reset the tracker or "
        "resize the frames"
    )
