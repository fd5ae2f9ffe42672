"""`track`: from a source and prompts to results, and the checks that need no decoding."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeAlias

from samvideo.errors import ConfigError, PromptError
from samvideo.io.prefetch import prefetch
from samvideo.io.source import VideoSource, clip, frame_range, open_video
from samvideo.object_prompts import number_prompts
from samvideo.trackers.base import Tracker
from samvideo.trackers.factory import create_tracker
from samvideo.trackers.schedule import PromptSchedule, propagate
from samvideo.types import FrameResult, Prompt, VideoInfo

Moment: TypeAlias = int | float
MARGIN = 1.0
"""Seconds by which the duration that a header states may be too long."""


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

        for result in track("v.mp4", [Box((40, 60, 200, 220)), Points([(300, 80)], frame=12)]):
            print(result.seconds, result.object_ids, result.masks.shape)

    Args:
        source: whatever `open_video` takes: a file, a folder or glob of images, a camera index, an address,
            an iterable of RGB arrays.
        prompts: at least one; each waits for its `frame` or `seconds`, by default the first frame tracked.
        model: a model's name, "auto" (see `samvideo.trackers.factory.choose_model`), or a tracker of your own.
        start, end: an int is a frame number, a float seconds; see `samvideo.io.source.clip`.
        stride: take every n-th frame. Results carry the frame numbers of the source.

    Raises:
        VideoError: the source cannot be opened, or breaks off (after its last good frame).
        PromptError: a prompt does not fit its frame, or its frame never comes.
        ConfigError: no prompts, no such model, stride below 1.
    """
    tracker = create_tracker(model) if isinstance(model, str) else model
    with open_video(source) as video:
        begin = 0 if start is None and video is not source else start
        checked = check_prompts(prompts, video, start=begin, end=end, stride=stride)
        with closing(prefetch(clip(video, start, end, stride))) as frames:
            for _, result in propagate(frames, tracker, PromptSchedule(checked, stride)):
                yield result


def check_prompts(
    prompts: Sequence[Prompt],
    video: VideoSource,
    *,
    start: Moment | None = None,
    end: Moment | None = None,
    stride: int = 1,
) -> list[Prompt]:
    """Check the prompts of a forward run as far as that is possible without decoding.

    Args:
        prompts: at least one.
        video: is not moved. A file may be read once for its times, without decoding.
        start, end, stride: as for `clip`; a `start` of None is the current position, which is unknown.

    Returns:
        The prompts, with ids, and with the frames of the times that were looked up.

    Raises:
        ConfigError: no prompts, or a range without frames.
        VideoError: the video ends before `start`.
        PromptError: a prompt is not on a frame that is tracked.
    """
    if not prompts:
        raise ConfigError("nothing to track: give at least one prompt, a Box, Points or Mask")
    first, stop = frame_range(video, start, end)
    ranged = bool(start) or end is not None
    checked = []
    for prompt in number_prompts(prompts):
        index = prompt.frame
        if prompt.seconds is not None and (ranged or _is_late(prompt.seconds, video.info)):
            index = video.index_at(prompt.seconds)
        if index is not None:
            _check_exists(prompt, index, video)
            if index < (first or 0) or (stop is not None and index >= stop):
                raise PromptError(
                    f"a prompt is for {_moment(prompt)}, outside the range that is tracked "
                    f"(start {start or 0}, end {end}): move the prompt or widen the range"
                )
            if first is not None or stride == 1:
                prompt = _on_stride(prompt, index, first or 0, stride)
        checked.append(prompt)
    return checked


def _on_stride(prompt: Prompt, index: int, first: int, stride: int) -> Prompt:
    """Return the prompt on its frame: for a time, the tracked frame that is shown then."""
    tracked = index - (index - first) % stride
    if prompt.seconds is None and tracked != index:
        raise PromptError(
            f"a prompt is for frame {index}, but with stride {stride} the frames tracked there are {tracked} and "
            f"{tracked + stride}: move the prompt, or leave the stride out"
        )
    return replace(prompt, frame=tracked, seconds=None)


def place_prompts(prompts: Sequence[Prompt], video: VideoSource) -> dict[int, list[Prompt]]:
    """Prompts by the index of their frame, for a source that can seek; those without frame or time are for frame 0.

    Raises:
        PromptError: a prompt is after the end, or is given as a time and the source cannot tell its frame.
    """
    placed: dict[int, list[Prompt]] = {}
    for prompt in number_prompts(prompts):
        index: int | None = prompt.frame or 0
        if prompt.seconds is not None:
            index = video.index_at(prompt.seconds)
        if index is None:
            raise PromptError(f"{video.info.name} has no times to seek by: give @FRAME, not {prompt.seconds} s")
        _check_exists(prompt, index, video)
        placed.setdefault(index, []).append(prompt)
    return placed


def _check_exists(prompt: Prompt, index: int, video: VideoSource) -> None:
    """Raise PromptError if the video ends before a frame."""
    count = video.length() if index else None
    if count is not None and index >= count:
        raise PromptError(
            f"a prompt is for {_moment(prompt)}, but {video.info.name} has {count} frames: "
            f"0 to {count - 1} expected"
        )


def _is_late(seconds: float, info: VideoInfo) -> bool:
    """Whether a time may be after the end, as far as the header tells."""
    return info.duration is None or seconds > info.duration - MARGIN


def _moment(prompt: Prompt) -> str:
    return f"{prompt.seconds:g} s" if prompt.seconds is not None else f"frame {prompt.frame or 0}"
