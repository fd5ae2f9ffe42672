"""Whatever shows pictures of the source shows those that the masks of the run belong to, or refuses."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs_made import INFO, SIZE, disc, results, write_run
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.errors import ConfigError, SamVideoError, VideoError
from samvideo.exports import export_run
from samvideo.io.paired import RunVideo, paired
from samvideo.io.source import open_video
from samvideo.io.tracks import open_masks
from samvideo.redaction import Redaction, redact_run
from samvideo.types import FrameResult, VideoInfo
from tests.clips import write_clip

COUNT = 24
LOSSLESS = {"crf": "1"}


def place(k: int) -> tuple[int, int]:
    return 20 + 6 * k, 50


def picture(k: int) -> np.ndarray:
    """A red disc on grey that moves by most of its width from frame to frame."""
    rgb = np.full((*SIZE[::-1], 3), 90, np.uint8)
    rgb[disc(*place(k), radius=6)] = 220, 30, 30
    return rgb


def red(rgb: np.ndarray) -> int:
    return int((rgb[..., 0].astype(int) - rgb[..., 1] > 90).sum())


def write_video(path: Path, frames: range = range(COUNT), **options: object) -> Path:
    return write_clip(path, [picture(k) for k in frames], options=LOSSLESS, **options)  # type: ignore[arg-type]


def tracked(
    folder: Path, frames: range, info: VideoInfo, times: Callable[[int], float] = lambda k: k / 25, begin: int = 0
) -> Path:
    """A run with masks on these frames, numbered and timed from frame `begin`."""

    def made(k: int) -> FrameResult:
        (result,) = results(1, lambda _: disc(*place(k), radius=6))
        return replace(result, index=k - begin, seconds=times(k) - times(begin))

    return write_run(folder, map(made, frames), ("rle",), info=info)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "v.mp4")


KNOWN = replace(INFO, name="v", frame_count=COUNT)
STRIPPED = VideoInfo("video", SIZE, INFO.rate, renumbered=True)


SEEN = {
    "another recording": lambda k: picture(k)[:, ::-1],
    "begins earlier": lambda k: picture(max(0, k - 5)),
    "begins later": lambda k: picture(k + 5),
    "a frame was cut out": lambda k: picture(k + (k > 8)),
    "backwards": lambda k: picture(COUNT - 1 - k),
}


@pytest.mark.parametrize("case", SEEN)
def test_a_video_with_other_pictures_is_refused(tmp_path: Path, case: str) -> None:
    """Although its size, times and number of frames are the same."""
    made = results(COUNT, lambda k: disc(*place(k), radius=6))
    run = write_run(tmp_path / "run", made, ("rle",), picture=picture, info=replace(KNOWN, frame_count=None))
    other = write_clip(tmp_path / "v.mp4", [SEEN[case](k) for k in range(COUNT)], options=LOSSLESS)
    with pytest.raises(VideoError, match="another picture than the one tracked"):
        redact_run(run, str(other), tmp_path / "redacted.mp4", Redaction())
    assert not list(tmp_path.glob("redacted*"))


@pytest.mark.parametrize("options", [{"crf": "45"}, {"crf": "51", "preset": "ultrafast"}])
def test_a_copy_of_low_quality_is_the_same_video(tmp_path: Path, options: dict[str, str]) -> None:
    run = write_run(
        tmp_path / "run", results(COUNT, lambda k: disc(*place(k), radius=6)), picture=picture, info=KNOWN
    )
    copy = write_clip(tmp_path / "v.mp4", [picture(k) for k in range(COUNT)], options=options)
    redact_run(run, str(copy), tmp_path / "redacted.mp4", Redaction(mode="fill", margin=4, hold=0))
    assert len(shown(tmp_path / "redacted.mp4")) == COUNT


def shown(path: Path) -> list[int]:
    with open_video(path) as source:
        return [red(frame.rgb) for frame in source]


def check_consumers(run: Path, video: Path, out: Path, frames: int, first: int | None = None) -> None:
    """No red is left where the object is hidden, all of it where only the object is kept."""
    redact_run(run, str(video), out / "redacted.mp4", Redaction(mode="fill", margin=2, hold=0), first=first)
    left = shown(out / "redacted.mp4")
    assert (len(left), max(left)) == (frames, 0)
    area = int(disc(50, 50, radius=6).sum())
    for name in ("green.mp4", "cutout-webm.webm", "prores.mov"):
        target = export_run(run, Path(name).stem, out / name, video=str(video), first=first)
        kept = shown(target)
        assert len(kept) == frames
        assert min(kept) > 0.6 * area
    davis = export_run(run, "davis", out / "davis", video=str(video), first=first)
    images = sorted((davis / "JPEGImages").rglob("*.jpg"))
    masks = sorted((davis / "Annotations").rglob("*.png"))
    assert [path.stem for path in images] == [path.stem for path in masks]
    for image, mask in zip(images, masks, strict=True):
        with open_video(image) as picture_source, open_video(mask) as mask_source:
            inside = next(iter(mask_source)).rgb.any(2)
            assert red(next(iter(picture_source)).rgb * inside[..., None]) > 0.6 * area


@pytest.mark.parametrize("frames", [range(COUNT), range(10, 18), range(1, COUNT, 3)])
def test_a_run_that_knows_its_frames(tmp_path: Path, video: Path, frames: range) -> None:
    check_consumers(tracked(tmp_path / "run", frames, KNOWN), video, tmp_path, len(frames))


@pytest.mark.parametrize("frames", [range(10, 18), range(5, COUNT, 4)])
def test_a_renumbered_run_is_told_where_it_begins(tmp_path: Path, video: Path, frames: range) -> None:
    run = tracked(tmp_path / "run", frames, STRIPPED, begin=frames[0])
    with pytest.raises(ConfigError, match="--from"):
        check_consumers(run, video, tmp_path, len(frames))
    assert not list(tmp_path.glob("redacted*"))
    with pytest.raises(ConfigError, match="--from"):
        export_run(run, "green", tmp_path / "new" / "green.mp4", video=str(video))
    assert not (tmp_path / "new").exists()
    check_consumers(run, video, tmp_path, len(frames), first=frames[0])


def test_a_part_of_the_source(tmp_path: Path) -> None:
    part = write_video(tmp_path / "part.mp4", range(8, 20))
    run = tracked(tmp_path / "run", range(10, 18), KNOWN)
    with pytest.raises(VideoError, match=r"has 12 frames, the video that was tracked had 24.*--from"):
        check_consumers(run, part, tmp_path, 8)
    check_consumers(run, part, tmp_path, 8, first=2)


def uneven(k: int) -> float:
    return (k * 0.04 if k < 10 else 0.4 + (k - 10) * 0.1) + 0.02 * (k % 3 == 1)


def test_times_show_a_wrong_begin_on_variable_rate(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", times=[uneven(k) for k in range(COUNT)])
    run = tracked(tmp_path / "run", range(6, 18), STRIPPED, uneven, begin=6)
    for wrong in (0, 5, 7):
        with pytest.raises(VideoError, match="is shown at"):
            redact_run(run, str(video), tmp_path / "redacted.mp4", Redaction(hold=0), first=wrong)
        with pytest.raises(VideoError, match="is shown at"):
            export_run(run, "green", tmp_path / "green.mp4", video=str(video), first=wrong)
        with pytest.raises(VideoError, match="is shown at"):
            export_run(run, "davis", tmp_path / "wrong", video=str(video), first=wrong, overwrite=True)
        assert not list(tmp_path.rglob("*.jpg"))
        assert not list(tmp_path.glob("redacted*")) + list(tmp_path.glob("green*"))
    check_consumers(run, video, tmp_path, 12, first=6)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"frames": range(12)}, "has 12 frames"),
        ({"frames": range(COUNT + 6)}, "has 30 frames"),
        ({"rate": 24}, "is shown at"),
        ({"rate": 50}, "is shown at"),
        ({"times": [uneven(k) for k in range(COUNT)]}, "is shown at"),
    ],
)
def test_another_video_is_refused(tmp_path: Path, made: dict[str, object], message: str) -> None:
    other = write_video(tmp_path / "v.mp4", **made)  # type: ignore[arg-type]
    run = tracked(tmp_path / "run", range(COUNT), KNOWN)
    with pytest.raises(VideoError, match=message):
        redact_run(run, str(other), tmp_path / "redacted.mp4", Redaction())
    unknown = tracked(tmp_path / "run2", range(COUNT), replace(KNOWN, frame_count=None))
    if len(shown(other)) <= COUNT:
        with pytest.raises(VideoError, match=r"no frame 12|is shown at"):
            redact_run(unknown, str(other), tmp_path / "redacted.mp4", Redaction())
    assert not list(tmp_path.glob("redacted*"))


def test_a_refusal_keeps_what_was_there(tmp_path: Path, video: Path) -> None:
    run = tracked(tmp_path / "run", range(10, 18), STRIPPED, begin=10)
    (tmp_path / "redacted.mp4").write_text("mine")
    for first in (None, 20):
        with pytest.raises(SamVideoError):
            redact_run(run, str(video), tmp_path / "redacted.mp4", Redaction(), first=first, overwrite=True)
        assert (tmp_path / "redacted.mp4").read_text() == "mine"
    with pytest.raises(ConfigError, match="is what is read"):
        redact_run(run, str(video), video, Redaction(), first=10, overwrite=True)
    assert len(shown(video)) == COUNT


def test_copies_in_other_containers_and_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy = write_video(tmp_path / "copy.mkv", rate=30)
    run = tracked(tmp_path / "run", range(2, 9), replace(KNOWN, name="v"), lambda k: k / 30)
    tracks = open_masks(run)
    with caplog.at_level(logging.WARNING), RunVideo(tracks, str(copy)) as source:
        assert [frame.index for frame, _ in paired(tracks, source)] == list(range(2, 9))
    assert "the run is of v" in caplog.text


def test_frames_that_were_not_tracked_are_left_out_and_said(tmp_path: Path, video: Path) -> None:
    run = tracked(tmp_path / "run", range(9), KNOWN)  # as after Ctrl-C
    lines = (run / "tracks.jsonl").read_text().splitlines(keepends=True)
    (run / "tracks.jsonl").write_text("".join(lines[:4] + lines[6:-1]) + lines[-1][:30])  # killed, and lines lost
    done = CliRunner().invoke(app, ["redact", str(run), "--video", str(video), "--mode", "fill", "--hold", "0"])
    assert done.exit_code == 0, done.output
    assert "6 frames, 0 of them" in done.stderr
    assert "18 frames of the video were not tracked and are left out" in done.stderr
    assert shown(run / "redacted.mp4") == [0] * 6


def test_older_tracks_of_a_stripped_source_are_not_trusted(tmp_path: Path, video: Path) -> None:
    run = tracked(tmp_path / "run", range(10, 18), replace(STRIPPED, renumbered=False), begin=10)
    for name in ("tracks.jsonl", "tracks.json"):
        text = (run / name).read_text()
        (run / name).write_text(text.replace(', "renumbered": false', "").replace(', "frame_count": null', ""))
        with pytest.raises(ConfigError, match="--from"):
            RunVideo(open_masks(run / name), str(video))


def test_a_table_of_a_renumbered_run_is_told_where_it_begins(tmp_path: Path, video: Path) -> None:
    prompt = ["-p", "box=62,44,75,57", "--model", "flow", "-q", "-o", str(tmp_path / "run")]
    options = ["--strip-source", "--start", "8", "--save", "csv"]
    runner = CliRunner()
    assert runner.invoke(app, ["track", str(video), *prompt, *options]).exit_code == 0
    command = ["analyze", str(tmp_path / "run"), "--video", str(video), "-o", str(tmp_path / "report")]
    done = runner.invoke(app, command)
    assert (done.exit_code, "--from" in done.stderr) == (2, True)
    assert not (tmp_path / "report").exists()
    assert runner.invoke(app, [*command, "--from", "8"]).exit_code == 0


def test_an_object_that_comes_later_is_said(tmp_path: Path, video: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = write_run(
        tmp_path / "run",
        results(COUNT, lambda k: disc(*place(k), radius=6) if k >= 10 else np.zeros(SIZE[::-1], bool)),
        info=KNOWN,
    )
    done = redact_run(run, str(video), tmp_path / "redacted.mp4", Redaction(mode="fill", hold=2))
    assert (done.frames, done.unmasked) == (COUNT, 8)
    assert "8 of 24 frames have no mask" in caplog.text


@pytest.mark.parametrize(("options", "offset"), [((), None), (("--start", "8"), 8), (("--start", "0.32s"), 8)])
def test_from_track_to_redact(tmp_path: Path, video: Path, options: tuple[str, ...], offset: int | None) -> None:
    x, y = place(offset or 0)
    prompt = ["-p", f"box={x - 6},{y - 6},{x + 7},{y + 7}", "--model", "flow", "-q", "-o", str(tmp_path / "run")]
    runner = CliRunner()
    done = runner.invoke(app, ["track", str(video), *prompt, "--strip-source", "--save", "rle", *options])
    assert done.exit_code == 0, done.output
    command = ["redact", str(tmp_path / "run"), "--video", str(video), "--mode", "fill"]
    if offset is not None:
        done = runner.invoke(app, command)
        assert (done.exit_code, "--from" in done.stderr) == (2, True)
        command += ["--from", str(offset)]
    done = runner.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert max(shown(tmp_path / "run" / "redacted.mp4")) == 0
