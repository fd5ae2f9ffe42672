"""Redacted pixels are not in the file, and results do not reveal the source."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from runs_made import SIZE, box, nothing, results, write_run
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.errors import ConfigError, VideoError
from samvideo.io.sink import VideoWriter
from samvideo.io.source import open_video
from samvideo.redaction import MODES, Redaction, hold_masks, redact, redact_run
from samvideo.types import Frame

COUNT = 16
SECRET = (60, 30, 140, 70)


def place(k: int) -> np.ndarray:
    return nothing() if k in (6, 7) else box(*SECRET)


def text(k: int) -> np.ndarray:
    """A fine black and white pattern like letters; it differs between frames."""
    pattern = np.random.default_rng(k).integers(0, 2, (SIZE[1] // 2, SIZE[0] // 2)) * 200 + 25
    return np.repeat(np.repeat(pattern, 2, 0), 2, 1)[..., None].repeat(3, 2).astype(np.uint8)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "patient_miller.mp4"
    with VideoWriter(path, SIZE, Fraction(25), crf=4) as writer:
        for index in range(COUNT):
            writer.write(text(index), index / 25)
    return path


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    if a.std() == 0:
        return 0.0
    return abs(float(np.corrcoef(a.reshape(-1).astype(float), b.reshape(-1).astype(float))[0, 1]))


@pytest.mark.parametrize("mode", MODES)
def test_nothing_of_the_object_is_left(tmp_path: Path, video: Path, mode: str) -> None:
    run = write_run(tmp_path / "run", results(COUNT, place))
    done = redact_run(run, str(video), tmp_path / "out.mp4", Redaction(mode=mode, margin=4, hold=3))
    assert (done.frames, done.unmasked) == (COUNT, 0)  # two frames without a mask are between others
    x1, y1, x2, y2 = SECRET
    with open_video(tmp_path / "out.mp4") as source:
        for frame in source:
            before = text(frame.index)
            # Coarse blocks keep the mean of many pixels, so a random pattern correlates by chance.
            assert correlation(frame.rgb[y1:y2, x1:x2], before[y1:y2, x1:x2]) < 0.25
            assert correlation(frame.rgb[:20, :50], before[:20, :50]) > 0.95
            assert frame.rgb[y1:y2, x1:x2].std() < 0.25 * before.std()


def test_without_hold_the_gap_is_reported(tmp_path: Path, video: Path) -> None:
    run = write_run(tmp_path / "run", results(COUNT, place))
    done = redact_run(run, str(video), tmp_path / "out.mp4", Redaction(hold=0))
    assert (done.frames, done.unmasked) == (COUNT, 2)


@pytest.mark.parametrize("hold", [0, 1, 2, 30])
def test_each_frame_has_the_masks_around_it(hold: int) -> None:
    def frames() -> Iterator[tuple[Frame, np.ndarray]]:
        for index in range(9):
            yield Frame(index, index / 25, np.zeros((1, 9, 3), np.uint8)), np.eye(9, dtype=bool)[index : index + 1]

    found = list(hold_masks(frames(), hold))
    assert [frame.index for frame, _ in found] == list(range(9))
    for frame, mask in found:
        assert np.flatnonzero(mask).tolist() == [k for k in range(9) if abs(k - frame.index) <= hold]


def test_parts_are_redacted_separately_and_the_rest_is_untouched() -> None:
    rgb = text(0)
    mask = box(10, 10, 40, 40) | box(120, 50, 124, 54)
    for mode in MODES:
        done = redact(rgb, mask, Redaction(mode=mode, margin=0))
        assert (done[~mask] == rgb[~mask]).all()
        assert (done[mask] != rgb[mask]).any()
    assert (redact(rgb, nothing(), Redaction()) == rgb).all()


def test_nothing_but_the_target_is_replaced(tmp_path: Path, video: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = write_run(tmp_path / "run", results(COUNT, place))
    (run / "overlay.mp4").write_text("mine")
    (run / "run.json").write_text(json.dumps({"status": "running", "files": {}, "mask_frames": []}))
    (tmp_path / "folder.mp4").mkdir()
    for name in ("run/overlay.mp4", "run/masks/x.mp4", "folder.mp4"):
        with pytest.raises(ConfigError, match="choose another path"):
            redact_run(run, str(video), tmp_path / name, Redaction(), overwrite=True)
    assert (run / "overlay.mp4").read_text() == "mine"
    out = tmp_path / "out.mp4"
    out.symlink_to(tmp_path / "elsewhere.mp4")
    redact_run(run, str(video), out, Redaction())
    assert not (tmp_path / "elsewhere.mp4").exists()
    assert "the run goes on, or was killed" in caplog.text
    whole, before = (run / "tracks.jsonl").read_text(), out.read_bytes()
    (run / "tracks.jsonl").write_text(
        whole + whole.splitlines()[-1].replace(f'"frame": {COUNT - 1}', '"frame": 999')
    )
    with pytest.raises(VideoError):
        redact_run(run, str(video), out, Redaction(), overwrite=True)
    assert out.read_bytes() == before


def test_the_command_and_bad_input(tmp_path: Path, video: Path) -> None:
    run = write_run(tmp_path / "run", results(COUNT, place, lambda k: box(0, 0, 9, 9)))
    arguments = ["redact", str(run), "--video", str(video), "-o", str(tmp_path / "out.mp4"), "--objects", "1"]
    done = CliRunner().invoke(app, [*arguments, "--mode", "fill"])
    assert done.exit_code == 0, done.output
    assert f"{COUNT} frames, 0 of them" in done.stderr
    again = CliRunner().invoke(app, arguments)
    assert (again.exit_code, "--overwrite" in again.stderr) == (2, True)
    with pytest.raises(ConfigError, match="no object 9"):
        redact_run(run, str(video), tmp_path / "b.mp4", Redaction(frozenset({9})))
    with pytest.raises(ConfigError, match="mode must be"):
        Redaction(mode="smear")
    with pytest.raises(ConfigError, match="at least 0"):
        Redaction(hold=-1)


def tagged(path: Path) -> Path:
    """A clip with audio, whose container and streams name a patient."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update({"title": "Miller, John", "comment": "ward 7", "creation_time": "2020-02-02"})
        picture = container.add_stream("libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = *SIZE, "yuv420p"
        picture.metadata["handler_name"] = "Miller camera"
        sound = container.add_stream("aac", rate=48000)
        sound.metadata.update({"language": "deu", "title": "Miller voice"})
        for index in range(25):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(text(index), format="rgb24")))
        for index in range(46):
            wave = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            wave.sample_rate, wave.pts = 48000, 1024 * index
            container.mux(sound.encode(wave))
        for stream in (picture, sound):
            container.mux(stream.encode(None))
    return path


def all_bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def track(video: Path, out: Path, *options: str) -> None:
    prompt = ["-p", "box=60,30,140,70@5", "--start", "5", "--model", "flow", "--quiet", "-o", str(out)]
    done = CliRunner().invoke(app, ["track", str(video), *prompt, *options])
    assert done.exit_code == 0, done.output


def test_outputs_reveal_only_name_and_times_of_the_source(tmp_path: Path) -> None:
    video = tagged(tmp_path / "case17.mp4")
    track(video, tmp_path / "plain")
    content = all_bytes(tmp_path / "plain")
    assert b"case17" in content
    for secret in (b"Miller", b"ward 7", b"2020-02", str(video).encode()):
        assert secret not in content
    with av.open(str(tmp_path / "plain" / "overlay.mp4")) as container:
        assert len(container.streams.audio) == 1

    track(video, tmp_path / "stripped", "--strip-source")
    content = all_bytes(tmp_path / "stripped")
    for secret in (b"Miller", b"case17", str(tmp_path).encode()):
        assert secret not in content
    tracks = json.loads((tmp_path / "stripped" / "tracks.json").read_text())
    assert tracks["video"]["name"] == "video"
    assert [(frame["index"], frame["seconds"]) for frame in tracks["frames"]][:2] == [(0, 0.0), (1, 0.04)]
    assert (tmp_path / "stripped" / "masks" / "00000.png").exists()
    with av.open(str(tmp_path / "stripped" / "overlay.mp4")) as container:
        assert len(container.streams.audio) == 0
    summary = json.loads((tmp_path / "stripped" / "run.json").read_text())
    assert summary["source"] == "video"


def test_a_mask_prompt_does_not_reveal_its_folder(tmp_path: Path) -> None:
    from samvideo.io.masks import write_index_png

    video = tagged(tmp_path / "case17.mp4")
    (tmp_path / "miller").mkdir()
    write_index_png(tmp_path / "miller" / "first.png", box(*SECRET).astype(np.uint8))
    prompt = ["-p", f"mask={tmp_path}/miller/first.png", "--model", "flow", "-q", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["track", str(video), *prompt])
    assert done.exit_code == 0, done.output
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert settings["prompts"] == ["mask=first.png"]


def test_a_margin_beyond_the_frame_covers_all_of_it() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (100, 200, 3)).astype(np.uint8)
    masked = box(5, 5, 20, 20)
    assert (redact(rgb, masked, Redaction(mode="fill", margin=10**9)) == 128).all()
    assert np.array_equal(redact(rgb, nothing(), Redaction(mode="fill", margin=10**9)), rgb)


def test_no_number_is_not_every_object(tmp_path: Path, video: Path) -> None:
    run = write_run(tmp_path / "run", results(COUNT, place))
    done = CliRunner().invoke(app, ["redact", str(run), "--video", str(video), "--objects", ","])
    assert (done.exit_code, "--objects takes numbers" in done.stderr) == (2, True)
