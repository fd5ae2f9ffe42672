"""What the pages share, read by some threads while another one changes it."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from samvideo.demo import demo_frames
from samvideo.errors import PromptError
from samvideo.io.source import VideoSource, open_video
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.trackers.flow import FlowTracker
from samvideo.web.messages import Stop, Track
from samvideo.web.project import Project
from samvideo.web.state import Phase

SIZE = 160, 96
IMAGES = [rgb for rgb, _ in demo_frames(4, SIZE)]


def source() -> VideoSource:
    return open_video(IMAGES, rate=25)


@pytest.fixture
def project() -> Iterator[Project]:
    with source() as video:
        info = video.info
    with Project(
        info, source, FlowTracker(), GrabCutSegmenter, tool="box", direction="forward", model="flow"
    ) as project:
        project.annotations.add_object()
        yield project


def test_a_state_is_of_one_moment(project: Project) -> None:
    def edit() -> None:
        for k in range(2000):
            project.annotations.set_box(0, 1, (float(k % 100), 0, 160, 96))

    thread = threading.Thread(target=edit)
    thread.start()
    while thread.is_alive():
        state = project.state()
        for drawn in state.annotations:
            assert drawn.box
            assert drawn.box[0] == (state.annotations_revision - 2) % 100
            assert state.changed == (0,)
            assert state.undo
    thread.join()


def test_changes_are_seen_while_the_tracking_thread_tracks(project: Project) -> None:
    project.annotations.set_box(0, 1, (20, 20, 60, 60))
    drawn = project.annotations.current.by_frame()
    assert project.tracking.changed(drawn) == {(0, 1)}
    for _ in project.tracking.run(drawn, "forward"):
        assert project.tracking.changed(drawn) == set()
    project.annotations.clear(0, 1)
    assert project.state().changed == (0,)
    project.annotations.undo()
    assert project.state().changed == ()


def test_commands_come_in_order(project: Project) -> None:
    with pytest.raises(PromptError, match="nothing to track yet"):
        project.command(Track(kind="track"))
    commands = [Stop(kind="pause"), Stop(kind="finish")]
    for command in commands:
        project.command(command)
    assert project.waiting()
    assert [project.next_command(), project.next_command(), project.next_command()] == [*commands, None]


def test_previews_are_made_again_after_tracking(project: Project) -> None:
    project.annotations.set_box(1, 1, (20, 20, 60, 60))
    first, again = project.masks(1), project.masks(1)
    assert first
    assert again
    assert first.objects[1].source == "preview"
    assert again.objects[1] is first.objects[1]
    for phase in (Phase.TRACKING, Phase.FAILED):
        project.report(replace(project.status, phase=phase))
    assert project.state().phase is Phase.FAILED
    assert project.status.version == 2
    third = project.masks(1)
    assert third
    assert third.objects[1] is not first.objects[1]
    with pytest.raises(PromptError, match="0 to 3 expected"):
        project.masks(4)
