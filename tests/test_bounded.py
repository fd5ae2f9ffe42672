"""Memory does not grow with the length of the video."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from samvideo import Box, open_video
from samvideo.demo import demo_frames
from samvideo.io.prefetch import prefetch
from samvideo.outputs import Outputs, default_kinds
from samvideo.trackers.factory import create_tracker
from samvideo.trackers.schedule import PromptSchedule, propagate

BOX = Box((8, 24, 42, 62))


def back_and_forth(count: int) -> Iterator[np.ndarray]:
    pictures = [rgb for rgb, _ in demo_frames(40, (160, 96))]
    for index in range(count):
        yield pictures[39 - abs(39 - index % 78)]


@pytest.mark.slow
@pytest.mark.parametrize("last", [500, pytest.param(2000, marks=pytest.mark.long)])
def test_a_whole_run_needs_no_more_memory_at_its_end_than_at_frame_200(tmp_path: Path, last: int) -> None:
    process = psutil.Process()
    resident = {}
    with (
        open_video(back_and_forth(last + 1)) as video,
        Outputs(tmp_path, default_kinds("a video"), video.info) as out,
    ):
        for frame, result in propagate(prefetch(iter(video)), create_tracker("flow"), PromptSchedule([BOX])):
            out.write(frame, result)
            if frame.index in (200, last):
                resident[frame.index] = process.memory_info().rss
    assert resident[last] < 1.05 * resident[200]
