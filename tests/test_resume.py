"""A run that is resumed ends with the files of an unbroken one."""

import errno
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs_made import check_same_files

from samvideo import outputs, resume
from samvideo.errors import ConfigError, OutputError, SamVideoError, VideoError
from samvideo.io.files import write_atomically
from samvideo.object_prompts import group_prompts
from samvideo.run import RunSettings
from samvideo.run_folder import RESUME
from samvideo.runner import run_tracking
from samvideo.types import Box, Frame, FrameResult, Mask, Prompt
from tests.clips import write_clip

FRAMES = 14
PROMPTS = Box((20, 52, 60, 90), frame=4, label="grasper"), Box((70, 50, 110, 90), frame=6)


class Progress(nullcontext[Any]):
    def __init__(self, *arguments: object) -> None:
        super().__init__(self)

    def advance(self, result: FrameResult) -> None:
        """Show nothing."""


class Drifting:
    """A fast tracker whose boxes drift with all that it has seen."""

    lookahead = 1
    calls = 0  # of all trackers

    def __init__(self, stop: Callable[[int], bool]) -> None:
        self._stop = stop
        self.reset()

    def reset(self) -> None:
        self._boxes: dict[int, list[float]] = {}
        self._seen = 0.0

    def forget(self, object_id: int) -> None:
        del self._boxes[object_id]

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        Drifting.calls += 1
        if self._stop(Drifting.calls):
            raise VideoError("stopped")
        self._seen = (self._seen * 7 + float(frame.rgb.mean())) % 11
        for prompt in group_prompts(prompts, self._boxes, frame.size_wh):
            assert prompt.box
            self._boxes[prompt.object_id] = list(prompt.box)
        masks = np.zeros((len(self._boxes), *frame.rgb.shape[:2]), bool)
        for mask, box in zip(masks, self._boxes.values(), strict=True):
            box[:] = [side + self._seen / 7 - 0.5 for side in box]
            x1, y1, x2, y2 = (max(0, int(side)) for side in box)
            mask[y1:y2, x1:x2] = True
        scores = np.full(len(masks), self._seen / 11, np.float32)
        return FrameResult(frame.index, frame.seconds, tuple(self._boxes), masks, scores, masks.any((1, 2)))

    def state(self) -> bytes:
        return json.dumps([self._seen, list(self._boxes.items())]).encode()

    def restore(self, state: bytes) -> None:
        self._seen, boxes = json.loads(state)
        self._boxes = dict(boxes)


@pytest.fixture(autouse=True)
def _save_every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(resume, "SAVE_SHARE", 1e9)
    monkeypatch.setattr(Drifting, "calls", 0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES)


def settings(clip: Path, out: Path, **changes: Any) -> RunSettings:
    return replace(RunSettings(str(clip), "flow", {}, out, ("overlay", "masks", "rle", "csv"), PROMPTS), **changes)


def track(chosen: RunSettings, stop: Callable[[int], bool] = lambda step: False) -> SamVideoError | None:
    """Run, stopped before the steps that `stop` says; return the error that ended it."""
    _, failure = run_tracking(chosen, lambda: Drifting(stop), Progress)
    return failure


def same_run(one: Path, other: Path) -> None:
    """Compare two folders, but for their names and the times that they took."""
    check_same_files(one, other)
    records = [json.loads((folder / "run.json").read_text()) for folder in (one, other)]
    for record in records:
        for timing in ("fps", "seconds", "out"):
            del record[timing]
    assert records[0] == records[1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"direction": "backward"},
        {"direction": "both"},
        {"start": 2, "stride": 2, "strip_source": True},
        {"save": ("csv",)},
    ],
    ids=str,
)
def test_a_run_that_failed_twice_goes_on(clip: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    assert track(settings(clip, tmp_path / "whole", **changes)) is None
    chosen = settings(clip, tmp_path / "out", **changes)
    Drifting.calls = 0
    stopped = 4, 5, 7, 12  # without new steps, after one, and later
    for again in (False, True, True, True):
        failure = track(replace(chosen, resume=again), lambda step: step in stopped)
        if failure is None:
            break
        assert str(failure) == "stopped"
        assert (tmp_path / "out" / RESUME / "state").exists()
    else:
        assert track(replace(chosen, resume=True)) is None
    same_run(tmp_path / "whole", tmp_path / "out")
    with pytest.raises(ConfigError, match="nothing is left to do"):
        track(replace(chosen, resume=True))


def test_a_tracker_without_state_starts_again(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_state(self: object) -> bytes:
        raise ConfigError("cannot save its state")

    monkeypatch.setattr(Drifting, "state", no_state)
    assert track(settings(clip, tmp_path / "whole")) is None
    Drifting.calls = 0
    assert track(settings(clip, tmp_path / "out"), lambda step: step == 8)
    assert track(settings(clip, tmp_path / "out", resume=True)) is None
    assert Drifting.calls == 8 + FRAMES
    same_run(tmp_path / "whole", tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"prompts": PROMPTS[:1]}, "prompts"),
        ({"prompts": (PROMPTS[0], replace(PROMPTS[1], object_id=9))}, "prompts"),
        ({"prompts": (Mask(np.ones((96, 128), bool)),)}, "prompts"),
        ({"stride": 2}, "stride"),
        ({"start": 0.04}, "start"),
        ({"direction": "both"}, "direction"),
        ({"model": "nano"}, "model"),
        ({"options": {"policy": "samurai"}}, "policy"),
        ({"options": {"first_mask": "nano"}}, "first_mask"),
        ({"save": ("csv",)}, "--save"),
        ({"strip_source": True}, "--strip-source"),
        ({"source": "longer"}, "source"),
        ({"source": "recoloured"}, "source"),
    ],
)
def test_other_settings_are_refused(clip: Path, tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    if source := changes.get("source"):
        (tmp_path / source).mkdir()
        other = tmp_path / source / clip.name
        data = clip.read_bytes()
        other.write_bytes(data + b"\0" if source == "longer" else data.replace(b"x264", b"y264"))
        changes = {"source": str(other)}
    assert track(settings(clip, tmp_path / "out"), lambda step: step == 5)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=f"cannot be resumed: its .*{named}.* differed"):
        track(settings(clip, tmp_path / "out", resume=True, **changes))
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}


def test_nothing_to_resume(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        track(settings(clip, tmp_path / "own", resume=True))
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["notes.txt"]
    with pytest.raises(ConfigError, match="give one of them"):
        track(settings(clip, tmp_path / "own", resume=True, overwrite=True))


@pytest.mark.parametrize(
    "begun", [[], [".samvideo.lock"], ["run.json"], ["run.json", ".resume/.settings.json.part"]]
)
def test_a_run_killed_at_its_very_start_is_started_again(clip: Path, tmp_path: Path, begun: list[str]) -> None:
    assert track(settings(clip, tmp_path / "whole")) is None
    for name in begun:
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (tmp_path / "whole" / "run.json").read_text() if name == "run.json" else ""
        path.write_text(text.replace('"complete"', '"running"', 1))
    assert track(settings(clip, tmp_path / "out", resume=True)) is None
    (tmp_path / "out" / ".samvideo.lock").unlink(missing_ok=True)
    same_run(tmp_path / "whole", tmp_path / "out")


@pytest.mark.parametrize("failing", [outputs.CsvTable, outputs.RleTracks, outputs.MaskFolder])
def test_a_run_that_met_a_full_disk_is_resumed(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: Any
) -> None:
    write = failing.write

    def write_some(self: Any, frame: Frame, result: FrameResult) -> None:
        if frame.index > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, frame, result)

    assert track(settings(clip, tmp_path / "whole")) is None
    monkeypatch.setattr(failing, "write", write_some)
    assert "free some space" in str(track(settings(clip, tmp_path / "out")))
    monkeypatch.setattr(failing, "write", write)
    assert track(settings(clip, tmp_path / "out", resume=True)) is None
    same_run(tmp_path / "whole", tmp_path / "out")


def test_a_state_that_cannot_be_saved_ends_no_run(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write_nothing(path: Path, content: bytes) -> None:
        if path.name == "state":
            raise OutputError("no space")
        write_atomically(path, content)

    monkeypatch.setattr(resume, "write_atomically", write_nothing)
    assert track(settings(clip, tmp_path / "whole")) is None
    assert caplog.text.count("last saved: no space") == 1
