"""A run: its files, its summary, and what it records of its source."""

import errno
import json
import os
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from runs_made import SIZE, disc, nothing, results

from samvideo.errors import ConfigError, OutputError, VideoError
from samvideo.io.tracks import open_masks
from samvideo.outputs import RleTracks
from samvideo.run import Run, RunSettings
from samvideo.run_base import StageTimer
from samvideo.types import BoolArray, Box, Frame, VideoInfo

INFO = VideoInfo("case17", SIZE, Fraction(25), frame_count=9, has_audio=True)


def settings(out: Path, **changes: object) -> RunSettings:
    made = RunSettings(
        source="/secret/case17.mp4",
        prompts=(Box((1, 2, 3, 4)),),
        prompt_texts=("box=1,2,3,4@5", "mask=/secret/first.png"),
        model="flow",
        options={"weights": "/secret/w.pt", "memory": None},
        direction="forward",
        out=out,
        save=("rle",),
        start=5,
        end=None,
        stride=1,
        overwrite=False,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def write(run: Run, count: int = 3, first: int = 5) -> None:
    def seen(k: int) -> BoolArray:
        return disc(40, 40) if k < 2 else nothing()

    rgb = np.zeros((*SIZE[::-1], 3), np.uint8)
    with run:
        for result in results(count, seen):
            moved = replace(result, index=result.index + first, seconds=(result.index + first) / 25)
            run.write(Frame(moved.index, moved.seconds, rgb), moved)


def test_summary_and_run_json_agree(tmp_path: Path) -> None:
    run = Run.open(settings(tmp_path / "out"), INFO)
    with run.timer.measure("total"):
        write(run)
    opened = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (opened["status"], opened["files"]) == ("running", {"rle": ["tracks.json", "tracks.jsonl"]})
    summary = run.finish("complete", skipped=2)
    assert (summary.status, summary.frames, summary.skipped, summary.error) == ("complete", 3, 2, None)
    assert [(entry.id, entry.frames_present, entry.mean_score) for entry in summary.objects] == [(1, 2, 1.0)]
    assert summary.fps == pytest.approx(3 / run.timer.seconds["total"], abs=0.01)
    recorded = json.loads((tmp_path / "out" / "run.json").read_text())
    shown = json.loads(json.dumps(summary.to_json()))
    assert shown.pop("files") == {"rle": str(tmp_path / "out" / "tracks.json")}
    assert recorded.items() >= shown.items()
    assert recorded["files"] == opened["files"]
    assert "error" not in recorded
    assert recorded["settings"]["prompts"] == ["box=1,2,3,4@5", "mask=first.png"]
    assert recorded["settings"]["options"] == {"weights": "w.pt"}
    with pytest.raises(FrozenInstanceError):
        summary.frames = 4  # type: ignore[misc]


def test_an_anonymous_run_records_nothing_of_its_source(tmp_path: Path) -> None:
    run = Run.open(settings(tmp_path / "case17_out", strip_source=True), INFO)
    write(run)
    summary = run.finish("complete", VideoError("/secret/case17.mp4 broke off"))
    assert (summary.status, summary.error, summary.source) == ("failed", "VideoError", "video")
    assert summary.out == tmp_path / "case17_out"
    recorded = (tmp_path / "case17_out" / "run.json").read_text()
    assert "case17" not in recorded
    assert "secret" not in recorded
    assert json.loads(recorded)["files"] == {"rle": ["tracks.json", "tracks.jsonl"]}
    assert set(json.loads(recorded)["settings"]) == {"save", "direction", "stride", "renumbered"}
    tracks = open_masks(tmp_path / "case17_out")
    assert tracks.info == VideoInfo("video", SIZE, Fraction(25), renumbered=True)
    assert [(frame.index, frame.seconds) for frame in tracks] == [(0, 0.0), (1, 0.04), (2, 0.08)]


def test_the_first_error_is_kept_and_ends_the_run_as_failed(tmp_path: Path) -> None:
    run = Run.open(settings(tmp_path / "out"), INFO)
    write(run)
    (tmp_path / "out" / "run.json").unlink()
    (tmp_path / "out" / "run.json").mkdir()
    summary = run.finish("complete")
    assert isinstance(run.failure, OutputError)
    assert (summary.status, summary.error) == ("complete", None)  # the results are complete, run.json is missing


def test_closing_errors_are_errors_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close = RleTracks.close

    def fail(tracks: RleTracks) -> None:
        close(tracks)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    run = Run.open(settings(tmp_path / "out"), INFO)
    monkeypatch.setattr(RleTracks, "close", fail)
    summary = run.finish("interrupted")
    assert summary.status == "failed"
    assert str(run.failure) == summary.error
    assert "tracks.json" in (summary.error or "")


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="--overwrite"):
        Run.open(settings(tmp_path), INFO)


def test_a_timer_sums_over_several_runs() -> None:
    timer = StageTimer()
    assert list(timer.each("decode", iter("abc"))) == ["a", "b", "c"]
    first = timer.seconds["decode"]
    assert first > 0
    list(timer.each("decode", iter("abc")))
    assert timer.seconds["decode"] > first
