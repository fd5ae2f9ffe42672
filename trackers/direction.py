"""Tracking backwards, or both ways, from prompts anywhere in a video; works with every tracker.

The video is never held in memory: what is needed again is decoded again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args

from samvideo.errors import ConfigError, PromptError
from samvideo.io.source import VideoSource
from samvideo.io.spool import Spool
from samvideo.object_prompts import number_prompts
from samvideo.trackers.base import Tracker
from samvideo.trackers.schedule import IndexedSchedule, propagate
from samvideo.types import Frame, FrameResult, Prompt

Direction = Literal["forward", "backward", "both"]
CHUNK = 16
"""Frames held at a time while a source is read backwards."""


def check_direction(text: str) -> Direction:
    """The direction of that name. Raises ConfigError for any other."""
    for direction in get_args(Direction):
        if text == direction:
            return direction
    raise ConfigError(f"direction must be forward, backward or both, not {text!r}")


def backwards(source: VideoSource, last: int, chunk: int = CHUNK) -> Iterator[Frame]:
    """Frames `last`, `last` - 1, ... 0, read forwards in chunks of at most `chunk` frames.

    Raises:
        VideoError: the source cannot seek.
    """
    while last >= 0:
        first = max(0, last - chunk + 1)
        source.seek(first)
        held: list[Frame] = []
        for frame in source:
            if frame.index <= last:
                held.append(frame)
            if frame.index >= last:
                break
        yield from reversed(held)
        last = first - 1


def propagate_directions(
    tracker: Tracker, source: VideoSource, prompts: Mapping[int, Sequence[Prompt]], direction: Direction = "forward"
) -> Iterator[FrameResult]:
    """Track from prompts anywhere in a video, forwards, backwards or both ways.

    Args:
        tracker: is reset first.
        source: must be able to seek, unless going forward from its first frame.
        prompts: by source index of the frame they were made on.
        direction: "forward" from the first prompted frame to the end; "backward" from the last prompted frame to
            frame 0; "both": first everything forward, then each object backwards from its own first prompt. Every
            pair of frame and object comes once, so backward results may lack objects that came forward already.

    Raises:
        ConfigError: unknown direction.
        PromptError: no prompts.
        VideoError: the source cannot seek, or ends before a prompt.
    """
    check_direction(direction)
    numbered = _number(prompts)
    if not numbered:
        raise PromptError("nothing to track: give at least one prompt")
    tracker.reset()
    if direction == "backward":
        frames: Iterable[Frame] = backwards(source, max(numbered))
    else:
        if min(numbered) > 0:  # a source that cannot seek can still be tracked from its start
            source.seek(min(numbered))
        frames = source
    for _, result in propagate(frames, tracker, IndexedSchedule(numbered)):
        yield result
    if direction == "both":
        yield from _backward_remainder(tracker, source, numbered)


def _number(prompts: Mapping[int, Sequence[Prompt]]) -> dict[int, list[Prompt]]:
    """Give ids to prompts without one, once for all passes."""
    order = [(index, prompt) for index in sorted(prompts) for prompt in prompts[index]]
    numbered: dict[int, list[Prompt]] = {}
    for (index, _), prompt in zip(order, number_prompts([prompt for _, prompt in order]), strict=True):
        numbered.setdefault(index, []).append(prompt)
    return numbered


def _backward_remainder(
    tracker: Tracker, source: VideoSource, prompts: Mapping[int, Sequence[Prompt]]
) -> Iterator[FrameResult]:
    """What the forward pass could not reach: each object before its first prompt."""
    first: dict[int | None, int] = {}
    for index in sorted(prompts):
        for prompt in prompts[index]:
            first.setdefault(prompt.object_id, index)
    initial = {i: [p for p in prompts[i] if first[p.object_id] == i] for i in set(first.values())}
    tracker.reset()
    tracked: set[int] = set()
    for frame, result in propagate(backwards(source, max(initial)), tracker, IndexedSchedule(initial)):
        if tracked:
            yield result.select(tracked)
        tracked |= {p.object_id for p in initial.get(frame.index, ()) if p.object_id is not None}


def track_all_directions(
    tracker: Tracker,
    source: VideoSource,
    prompts: Mapping[int, Sequence[Prompt]],
    direction: Direction,
    watch: Callable[[FrameResult], bool],
) -> Iterator[tuple[Frame, FrameResult]]:
    """Run `propagate_directions`, then give every frame of the video with all that the passes found there.

    Results wait on disk, compressed, and the frames are decoded once more: memory does not grow with the video.

    Args:
        tracker, source, prompts, direction: as for `propagate_directions`.
        watch: called with each result as it is found; False ends the search, and what was found is still given.
    """
    with Spool() as spool:
        for result in propagate_directions(tracker, source, prompts, direction):
            for found in (result, *result.revised):
                spool.add(found)
            if not watch(result):
                break
        source.seek(0)
        for frame in source:
            yield frame, spool.take(frame)
