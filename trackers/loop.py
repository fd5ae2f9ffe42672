"""`track`: from a source and prompts to results, and the checks that need no decoding."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, TypeAlias

from samvideo.errors import ConfigError, PromptError
from samvideo.io.prefetch import prefetch
from samvideo.io.source import Timed, VideoSource, clip, open_video
from samvideo.object_prompts import number_prompts
from samvideo.trackers.base import Tracker
from samvideo.trackers.factory import create_tracker
from samvideo.trackers.schedule import PromptSchedule, propagate
from samvideo.types import FrameResult, Prompt, VideoInfo

Moment: TypeAlias = int | float


def track(
    source: Any,
    prompts: Sequence[Prompt],
    *,
    model: str | Tracker = "auto",
    start: Moment | None = None,
    end: Moment | None = None,
    stride: int = 1,
) -> Iterator[FrameResult]:
    """Track the prompted objects through a video, one result a frame, as it is decoded.

    ::

        for result in track("v.mp4", [Box((40, 60, 200, 220)), Points([(300, 80)], frame=12)]):
            print(result.seconds, result.object_ids, result.masks.shape)

    Args:
        source: whatever `open_video` takes: a file, a folder or glob of images, a camera index, an address,
            an iterable of RGB arrays.
        prompts: at least one; each waits for its `frame` or `seconds`, by default the first frame tracked.
        model: a model's name, "auto" (see `samvideo.trackers.factory.choose_model`), or a tracker of your own.
        start, end: an int is a frame number, a float seconds; `end` is left out.
        stride: take every n-th frame. Results carry the frame numbers of the source.

    Raises:
        VideoError: the source cannot be opened, or breaks off (after its last good frame).
        PromptError: a prompt does not fit its frame, or its frame never comes.
        ConfigError: no prompts, no such model, stride below 1.
    """
    tracker = create_tracker(model) if isinstance(model, str) else model
    with open_video(source) as video:
        check_prompts(prompts, video.info, start=start, end=end)
        with closing(prefetch(clip(video, start, end, stride))) as frames:
            for _, result in propagate(frames, tracker, PromptSchedule(prompts, stride)):
                yield result


def check_prompts(
    prompts: Sequence[Prompt], info: VideoInfo, *, start: Moment | None = None, end: Moment | None = None
) -> None:
    """Raise PromptError for a prompt that the range or the length of the video rules out before any decoding."""
    if not prompts:
        raise ConfigError("nothing to track: give at least one prompt, a Box, Points or Mask")
    for prompt in prompts:
        if prompt.frame is not None:
            if info.frame_count is not None and prompt.frame >= info.frame_count:
                raise PromptError(
                    f"a prompt is for frame {prompt.frame}, but {info.name} has {info.frame_count} frames: "
                    f"0 to {info.frame_count - 1} expected"
                )
            early = isinstance(start, int) and prompt.frame < start
            if early or (isinstance(end, int) and prompt.frame >= end):
                raise PromptError(
                    f"a prompt is for frame {prompt.frame}, outside the range that is tracked "
                    f"(start {start}, end {end}): move the prompt or widen the range"
                )


def place_prompts(prompts: Sequence[Prompt], video: VideoSource) -> dict[int, list[Prompt]]:
    """Prompts by the index of their frame, for a source that can tell which frame a time means.

    Raises:
        PromptError: a prompt is given as a time and the source cannot tell.
    """
    placed: dict[int, list[Prompt]] = {}
    for prompt in number_prompts(prompts):
        index = prompt.frame or 0
        if prompt.seconds is not None:
            if not isinstance(video, Timed):
                raise PromptError(f"{video.info.name} has no times to seek by: give @FRAME, not {prompt.seconds} s")
            index = video.index_at(prompt.seconds)
        placed.setdefault(index, []).append(prompt)
    return placed
