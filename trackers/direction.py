"""Tracking backwards, or both ways, from prompts anywhere in a video; works with every tracker.

The video is never held in memory: what is needed again is decoded again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args

from samvideo.errors import ConfigError, PromptError, VideoError
from samvideo.io.source import VideoSource
from samvideo.io.spool import Spool
from samvideo.trackers.base import Tracker, foresee, with_next
from samvideo.trackers.objects import number_prompts
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


def follow(
    tracker: Tracker,
    source: VideoSource,
    prompts: Mapping[int, Sequence[Prompt]],
    direction: Direction = "forward",
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
    asked = _numbered(prompts)
    if not asked:
        raise PromptError("nothing to track: give at least one prompt")
    if direction == "backward":
        tracker.reset()
        yield from _told(tracker, backwards(source, max(asked)), asked)
        return
    yield from _forward(tracker, source, asked)
    if direction == "both":
        yield from _remaining(tracker, source, asked)


def _numbered(prompts: Mapping[int, Sequence[Prompt]]) -> dict[int, list[Prompt]]:
    """Give ids to prompts without one, once for all passes."""
    order = [(index, prompt) for index in sorted(prompts) for prompt in prompts[index]]
    named = number_prompts([prompt for _, prompt in order])
    asked: dict[int, list[Prompt]] = {}
    for (index, _), prompt in zip(order, named, strict=True):
        asked.setdefault(index, []).append(prompt)
    return asked


def _forward(tracker: Tracker, source: VideoSource, asked: Mapping[int, Sequence[Prompt]]) -> Iterator[FrameResult]:
    tracker.reset()
    _seek(source, min(asked))
    waiting = set(asked)
    for result in _told(tracker, source, asked):
        waiting.discard(result.index)
        yield result
    if waiting:
        raise VideoError(f"the video ends before frame {min(waiting)}, on which there are prompts")


def _told(
    tracker: Tracker, frames: Iterable[Frame], asked: Mapping[int, Sequence[Prompt]]
) -> Iterator[FrameResult]:
    for frame, following in with_next(frames):
        said = asked.get(frame.index, ())
        if said:
            foresee(tracker, following)
        yield tracker.step(frame, said)


def _remaining(
    tracker: Tracker, source: VideoSource, asked: Mapping[int, Sequence[Prompt]]
) -> Iterator[FrameResult]:
    """What the forward pass could not reach: each object before its first prompt."""
    first: dict[int, int] = {}
    for index in sorted(asked):
        for prompt in asked[index]:
            assert prompt.object_id is not None
            first.setdefault(prompt.object_id, index)
    tracker.reset()
    alive: set[int] = set()
    for frame, following in with_next(backwards(source, max(first.values()))):
        news = [p for p in asked.get(frame.index, ()) if p.object_id and first[p.object_id] == frame.index]
        if news:
            foresee(tracker, following)
        result = tracker.step(frame, news)
        if alive:
            yield result.select(alive)
        alive.update(p.object_id for p in news if p.object_id)


def _seek(source: VideoSource, index: int) -> None:
    """Seek, but leave a source alone that may not be able to when nothing but its start is asked for."""
    if index > 0:
        source.seek(index)


def around(
    tracker: Tracker,
    source: VideoSource,
    prompts: Mapping[int, Sequence[Prompt]],
    direction: Direction,
    watch: Callable[[FrameResult], bool],
) -> Iterator[tuple[Frame, FrameResult]]:
    """`follow`, then every frame from the first on with all that the passes found there.

    Results wait on disk, compressed, and the frames are decoded once more: memory does not grow with the video.

    Args:
        tracker, source, prompts, direction: as for `follow`.
        watch: called with each result as it is found; False ends the search, and what was found is still given.
    """
    with Spool() as spool:
        for result in follow(tracker, source, prompts, direction):
            spool.add(result)
            if not watch(result):
                break
        source.seek(0)
        for frame in source:
            yield frame, spool.take(frame)
