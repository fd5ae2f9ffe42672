"""Clips with known motion: every figure is the one computed by hand."""

import csv
import json
import resource
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs_made import INFO, SIZE, box, disc, nothing, results, write_run
from typer.testing import CliRunner

from samvideo.analysis import blocks, motion
from samvideo.analysis.analyser import Analyser
from samvideo.analysis.findings import Findings
from samvideo.analysis.output import FILES, write_analysis
from samvideo.analysis.saved_run import analyse_run
from samvideo.analysis.settings import AnalysisSettings
from samvideo.cli.main import app
from samvideo.errors import ConfigError, VideoError
from samvideo.io.sink import VideoWriter
from samvideo.targets import list_of
from samvideo.types import VideoInfo
from tests.clips import write_clip


def found(made: Any, settings: AnalysisSettings | None = None, info: VideoInfo = INFO) -> Findings:
    analyser = Analyser(info, settings)
    for result in made:
        analyser.add(result)
    return analyser.finish()


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_disc_that_moves_three_pixels_a_frame(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", results(50, lambda k: disc(20 + 3 * k, 50)))
    findings = write_analysis(run, tmp_path / "report")
    (entry,) = findings.objects
    assert entry.path_length == pytest.approx(3 * 49, abs=1e-9)
    assert entry.smooth_path_length == pytest.approx(3 * 49, abs=1e-6)
    assert entry.mean_speed == pytest.approx(75, abs=1e-9)
    assert entry.max_speed == pytest.approx(75, abs=1e-6)
    assert entry.mean_acceleration == pytest.approx(0, abs=1e-6)
    assert entry.mean_jerk == pytest.approx(0, abs=1e-4)
    assert (entry.time_in_view, entry.share_in_view) == (pytest.approx(2), pytest.approx(1))
    area = int(disc(50, 50).sum())
    assert (entry.mean_area, entry.min_area, entry.max_area) == (area, area, area)

    assert {path.name for path in (tmp_path / "report").iterdir()} == {*FILES, list_of("analysis")}
    assert [path.name for path in (tmp_path / "report").glob("[!.]*.json")] == ["analysis.json"]
    objects = json.loads((tmp_path / "report" / "analysis.json").read_text())["objects"]
    assert [(o["id"], o["path_length"], o["mean_speed"], o["time_in_view"]) for o in objects] == [(1, 147, 75, 2)]
    rows = [row for row in table(tmp_path / "report", "motion.csv") if row["point"] == "centroid"]
    assert [float(row["speed"]) for row in rows] == [75] * 50
    assert [float(row["x"]) for row in rows] == [20.5 + 3 * k for k in range(50)]
    assert table(tmp_path / "report", "objects.csv")[0]["mean_speed"] == "75"


def test_frame_rate_and_scale() -> None:
    made = list(results(50, lambda k: disc(20 + 3 * k, 50)))
    (entry,) = found(made, AnalysisSettings(fps=50)).objects
    assert (entry.mean_speed, entry.time_in_view) == (pytest.approx(150), pytest.approx(1))
    (entry,) = found(made, AnalysisSettings(mm_per_pixel=0.1)).objects
    assert entry.path_length == pytest.approx(14.7)
    assert entry.mean_speed == pytest.approx(7.5)
    assert entry.mean_area == pytest.approx(disc(50, 50).sum() / 100)


def test_thirds_of_a_second_are_exact_though_written_with_six_digits(tmp_path: Path) -> None:
    info = VideoInfo("made", SIZE, Fraction(30))
    made = results(31, lambda k: disc(20 + 3 * k, 50), times=lambda k: k / 30)
    run = write_run(tmp_path / "run", made, info=info)
    (entry,) = analyse_run(run, AnalysisSettings()).objects
    assert entry.mean_speed == pytest.approx(90, abs=1e-9)


def test_uneven_times_and_strides_give_true_speeds() -> None:
    (entry,) = found(results(20, lambda k: disc(20 + 2 * k, 50), step=4)).objects
    assert (entry.path_length, entry.mean_speed) == (pytest.approx(152), pytest.approx(50))
    assert entry.max_speed == pytest.approx(50, abs=1e-6)
    assert entry.time_in_view == pytest.approx(20 * 4 / 25)
    # Twice as slow from frame 20 on: three pixels still take three pixels' time.
    made = results(40, lambda k: disc(20 + 3 * k, 50), times=lambda k: k / 25 if k < 20 else (2 * k - 20) / 25)
    (entry,) = found(made).objects
    assert entry.path_length == pytest.approx(117)
    assert entry.mean_speed == pytest.approx(117 / (58 / 25))
    assert entry.time_in_view == pytest.approx(60 / 25)


def test_acceleration_and_jerk_of_a_cubic() -> None:
    # x = 1 + t + 2 t² + 3 t³ with t in frames / 10: its derivatives are known, and a cubic fits it exactly.
    t = np.arange(60) / 25
    points = np.stack([1 + t + 2 * t**2 + 3 * t**3, np.zeros(60)], 1)
    smoother = motion.Smoother(11, 0.2)
    numbers = np.arange(60)
    (part,) = [*smoother.add(motion.Samples(numbers, numbers, t, np.full(60, 0.04), points)), *smoother.finish()]
    assert part.speed == pytest.approx(1 + 4 * t + 9 * t**2, abs=1e-6)
    assert part.acceleration == pytest.approx(4 + 18 * t, abs=1e-5)
    assert part.jerk == pytest.approx(np.full(60, 18), abs=1e-3)
    assert part.interior.sum() == 50


def test_an_object_hidden_for_ten_frames() -> None:
    def hidden(k: int) -> np.ndarray:
        return nothing() if 20 <= k < 30 else disc(20 + 3 * k, 50)

    (entry,) = found(results(50, hidden)).objects
    assert [(i.start_frame, i.end_frame) for i in entry.intervals] == [(0, 19), (30, 49)]
    assert [(i.start_seconds, i.end_seconds) for i in entry.intervals] == [
        (0, pytest.approx(0.8)),
        (pytest.approx(1.2), pytest.approx(2)),
    ]
    assert entry.time_in_view == pytest.approx(1.6)
    assert entry.path_length == pytest.approx(3 * 38)
    assert entry.mean_speed == pytest.approx(75)

    bridged = found(results(50, hidden), AnalysisSettings(bridge=0.4))
    (entry,) = bridged.objects
    assert [(i.start_frame, i.end_frame, i.frames) for i in entry.intervals] == [(0, 49, 40)]
    assert [(i.start_frame, i.end_frame) for i in entry.visible_intervals] == [(0, 19), (30, 49)]
    assert entry.time_in_view == pytest.approx(1.6)
    assert entry.path_length == pytest.approx(3 * 49)
    assert entry.mean_speed == pytest.approx(75)
    assert [(e.event, e.frame) for e in bridged.events] == [("enter", 0)]

    events = [(e.event, e.frame, round(e.seconds, 6)) for e in found(results(50, hidden)).events]
    assert events == [("enter", 0, 0.0), ("leave", 19, 0.8), ("enter", 30, 1.2)]
    # The gap is 0.4 seconds: a bridge one frame shorter does not reach.
    assert len(found(results(50, hidden), AnalysisSettings(bridge=0.36)).objects[0].intervals) == 2


def test_contact_of_two_boxes_starts_at_the_exact_frame(tmp_path: Path) -> None:
    # Right edge at 30 + 5 k, the other's left edge at 100: they touch on frame 14, and part again on frame 30.
    def goes(k: int) -> np.ndarray:
        x = 10 + 5 * min(k, 29) if k < 30 else 10
        return box(x, 40, x + 20, 60)

    run = write_run(tmp_path / "run", results(40, goes, lambda k: box(100, 30, 160, 70)))
    for source in (run, run / "tracks.json", run / "tracks.jsonl"):
        findings = analyse_run(source, AnalysisSettings(tissue=frozenset({2})))
        (pair,) = findings.pairs
        assert [(i.start_frame, i.end_frame) for i in pair.intervals] == [(14, 29)]
        assert pair.contact_time == pytest.approx(16 / 25)
        assert pair.kind == "instrument-tissue"
        assert pair.min_distance == 0
        expected = [max(0, 70 - 5 * k) for k in range(30)] + [70] * 10
        assert pair.mean_distance == pytest.approx(np.mean(expected))
        contacts = [(e.event, e.frame, e.other) for e in findings.events if e.event.startswith("contact")]
        assert contacts == [("contact start", 14, 2), ("contact end", 29, 2)]
    for name in ("tracks.json", "tracks.jsonl"):
        (run / name).unlink()  # the table alone knows the boxes, which is all there is here
    (pair,) = analyse_run(run, AnalysisSettings()).pairs
    assert [(i.start_frame, i.end_frame) for i in pair.intervals] == [(14, 29)]
    assert pair.kind == "instrument-instrument"
    (pair,) = found(results(40, goes, lambda k: box(100, 30, 160, 70)), AnalysisSettings(contact_gap=10)).pairs
    assert pair.intervals[0].start_frame == 12
    assert found(results(4, goes, goes), AnalysisSettings(tissue=frozenset({1, 2}))).pairs == ()


def test_the_tip_is_opposite_to_where_the_instrument_enters() -> None:
    # A shaft of width 4 from the left border, whose end moves 2 pixels a frame.
    findings = found(results(30, lambda k: box(0, 48, 60 + 2 * k, 52)))
    (entry,) = findings.objects
    assert entry.tip_path_length == pytest.approx(2 * 29)
    assert entry.tip_mean_speed == pytest.approx(50)
    assert entry.path_length == pytest.approx(29)  # the middle moves half as far
    heat = findings.charts.heat[1]
    cell = SIZE[0] / heat.shape[1]
    assert heat.sum() == pytest.approx(30 / 25)
    assert set(np.nonzero(heat)[0]) == {int(50 / cell)}
    assert set(np.nonzero(heat)[1]) == {int((59.5 + 2 * k) / cell) for k in range(30)}


def test_idle_and_working_area() -> None:
    # Two seconds at rest, then one second at 125 pixels a second.
    findings = found(results(75, lambda k: disc(20 + 5 * max(0, k - 50), 50)), AnalysisSettings(smooth=0.2))
    (entry,) = findings.objects
    assert entry.idle_time == pytest.approx(2, abs=0.08)
    assert entry.idle_share == pytest.approx(2 / 3, abs=0.03)
    assert [(e.event, e.frame) for e in findings.events][:2] == [("enter", 0), ("idle start", 0)]
    assert abs(findings.events[2].frame - 49) <= 2
    (entry,) = found(results(10, lambda k: disc(20, 50))).objects
    assert entry.working_area == pytest.approx((SIZE[0] / 64) ** 2)


def test_usage_by_class() -> None:
    made = results(
        50, lambda k: disc(30, 50) if k < 20 else nothing(), lambda k: disc(90, 50) if k >= 30 else nothing()
    )
    findings = found(made, AnalysisSettings(labels={1: "grasper", 2: "grasper"}))
    (usage,) = findings.usage
    assert (usage.label, usage.time_in_view) == ("grasper", pytest.approx(40 / 25))
    assert [(i.start_frame, i.end_frame) for i in usage.intervals] == [(0, 19), (30, 49)]


def test_flagged_pictures_are_left_out_of_motion(tmp_path: Path) -> None:
    ground = np.random.default_rng(0).integers(60, 200, (SIZE[1], SIZE[0], 3)).astype(np.uint8)

    def picture(k: int) -> np.ndarray:
        return np.zeros_like(ground) if 20 <= k < 30 else ground

    def jumps(k: int) -> np.ndarray:
        return disc(100, 10) if 20 <= k < 30 else disc(20 + 3 * k, 50)

    run = write_run(tmp_path / "run", results(50, jumps), ("rle", "overlay"), picture)
    findings = write_analysis(run, tmp_path / "report")
    (entry,), (flagged,) = findings.objects, findings.flagged
    assert (flagged.flag, flagged.frames) == ("black", 10)
    assert [(i.start_frame, i.end_frame) for i in flagged.intervals] == [(20, 29)]
    assert (entry.path_length, entry.mean_speed) == (pytest.approx(3 * 38, abs=0.5), pytest.approx(75, abs=0.5))
    assert entry.time_in_view == pytest.approx(2)  # what the tracker says of presence stands
    frames = table(tmp_path / "report", "frames.csv")
    assert [row["flag"] for row in frames] == [""] * 20 + ["black"] * 10 + [""] * 20


def moving(ground: np.ndarray, colour: tuple[int, int, int]) -> Callable[[int], np.ndarray]:
    def picture(k: int) -> np.ndarray:
        rgb = ground.copy()
        rgb[disc(20 + 3 * k, 50)] = colour
        return rgb

    return picture


@pytest.mark.parametrize("light", [60, 25, 10, 4])
@pytest.mark.parametrize("kinds", [("rle", "overlay"), ("csv", "overlay")])
def test_a_dim_view_is_not_black(tmp_path: Path, light: int, kinds: tuple[str, ...]) -> None:
    textured = np.random.default_rng(0).integers(0, light, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    for name, ground in (("textured", textured), ("flat", np.full_like(textured, light // 2))):
        for colour in ((200, 80, 40), (light, light, light)):
            run = write_run(
                tmp_path / f"{name}{colour[2]}",
                results(50, lambda k: disc(20 + 3 * k, 50)),
                kinds,
                moving(ground, colour),
            )
            findings = write_analysis(run, run / "report")
            assert (findings.flagged, findings.left_out, findings.images_checked) == ((), "", 50)
            (entry,) = findings.objects
            assert (entry.path_length, entry.frames_left_out) == (pytest.approx(3 * 49, abs=0.5), 0)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    ground = np.random.default_rng(0).integers(0, 50, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    lit = moving(ground, (200, 80, 40))
    path = tmp_path / "v.mkv"
    write_clip(path, [lit(k) if k not in range(20, 30) else np.zeros_like(ground) for k in range(50)])
    run = write_run(tmp_path / "run", results(50, lambda k: disc(20 + 3 * k, 50)))
    out = tmp_path / "report"
    done = CliRunner().invoke(app, ["analyze", str(run), "--video", str(path), "-o", str(out)])
    assert done.exit_code == 0, done.output
    said = "Left out of all motion: 10 black of 50 frames."
    assert said in done.stderr
    assert "(10 of its frames left out)" in done.stderr
    assert said in (out / "report.html").read_text().split("<h2>")[0]
    tree = json.loads((out / "analysis.json").read_text())
    assert (tree["pictures_seen"], tree["frames"]) == (50, 50)
    assert [(part["flag"], part["frames"]) for part in tree["flagged"]] == [("black", 10)]
    assert tree["objects"][0]["frames_left_out"] == 10


def test_frames_without_an_image_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", results(50, lambda k: disc(20 + 3 * k, 50)), ("rle", "overlay"))
    with VideoWriter(run / "overlay.mp4", SIZE, Fraction(25)) as writer:  # as after a crash
        for k in range(30):
            writer.write(np.full((*SIZE[::-1], 3), 128, np.uint8), k / 25)
    assert "20 frames have no image" in write_analysis(run, tmp_path / "report").left_out


def test_another_video_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    info = replace(INFO, name="video", renumbered=True)
    run = write_run(tmp_path / "run", results(20, lambda k: disc(20 + 3 * k, 50)), info=info)
    video = write_clip(tmp_path / "v.mp4", 24, size_wh=SIZE)
    with pytest.raises(ConfigError, match="--from"):
        write_analysis(run, tmp_path / "report", video=video)
    other = write_clip(tmp_path / "other.mp4", 24, size_wh=SIZE, rate=24)
    with pytest.raises(VideoError, match="is shown at"):
        write_analysis(run, tmp_path / "report", video=other, first=2)
    assert not (tmp_path / "report").exists()
    assert write_analysis(run, tmp_path / "report", video=video, first=2).images_checked == 20


def test_pieces_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wobbles(k: int) -> np.ndarray:
        return nothing() if k % 37 < 3 else disc(100 + int(60 * np.sin(k / 9)), 50 + int(20 * np.cos(k / 5)))

    run = write_run(tmp_path / "run", results(150, wobbles, lambda k: box(0, 48, 60 + k % 50, 52)))
    write_analysis(run, tmp_path / "whole")
    monkeypatch.setattr("samvideo.analysis.saved_run.FRAMES", 7)
    monkeypatch.setattr(motion, "BLOCK", 16)
    write_analysis(run, tmp_path / "pieces")
    whole = json.loads((tmp_path / "whole" / "analysis.json").read_text())
    pieces = json.loads((tmp_path / "pieces" / "analysis.json").read_text())
    assert pieces == whole
    for name in ("frames.csv", "motion.csv", "distances.csv"):
        rows = [sorted((tmp_path / part / name).read_text().splitlines()) for part in ("whole", "pieces")]
        assert rows[0] == rows[1]
    from_table = write_run(tmp_path / "table", results(150, wobbles), ("csv",))
    (entry,) = analyse_run(from_table, AnalysisSettings()).objects
    assert entry.path_length == pytest.approx(whole["objects"][0]["path_length"], rel=1e-3)


def test_two_hours_in_constant_memory(tmp_path: Path) -> None:
    """180,000 frames: the part that repeats is measured on a tenth, and memory must not grow with the rest."""
    lines = write_run(tmp_path / "short", results(100, lambda k: disc(20 + k, 50))) / "tracks.jsonl"
    head, *frames = lines.read_text().splitlines()
    long = tmp_path / "long" / "tracks.jsonl"
    long.parent.mkdir()
    with long.open("w") as file:
        file.write(f"{head}\n")
        for index in range(18000):
            entry = json.loads(frames[index % 100]) | {"index": index, "seconds": round(index / 25, 6)}
            file.write(json.dumps(entry) + "\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    findings = write_analysis(long.parent, tmp_path / "report")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert findings.objects[0].path_length == pytest.approx(180 * 99 + 179 * 99)
    assert findings.seconds == pytest.approx(720)
    assert grown < 100_000, f"{grown} kB more"
    assert (tmp_path / "report" / "report.html").stat().st_size < 300_000


def test_an_analysis_replaces_only_what_an_analysis_wrote(tmp_path: Path) -> None:
    run, out = write_run(tmp_path / "run", results(3, lambda k: disc(20, 50))), tmp_path / "report"
    out.mkdir()
    (out / "objects.csv").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="choose another"):
            write_analysis(run, out, overwrite=overwrite)
    assert [path.read_text() for path in out.iterdir()] == ["mine"]
    (out / "objects.csv").unlink()
    write_analysis(run, out)
    (out / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    whole = (run / "tracks.jsonl").read_text()
    (run / "tracks.jsonl").write_text(whole.replace('"counts": "', '"counts": "0'))
    for place in (out, tmp_path / "a" / "b"):
        with pytest.raises(VideoError):
            write_analysis(run, place, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "run"]
    (run / "tracks.jsonl").write_text(whole)
    write_analysis(run, out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


def test_bad_input(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", results(3, lambda k: disc(20, 50)))
    with pytest.raises(VideoError, match="does not exist"):
        write_analysis(tmp_path / "none", tmp_path / "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="--save rle"):
        write_analysis(tmp_path / "empty", tmp_path / "b")
    with pytest.raises(ConfigError, match="belongs to the run"):
        write_analysis(run, run, overwrite=True)
    with pytest.raises(ConfigError, match="bridge must be"):
        AnalysisSettings(bridge=-1)
    with pytest.raises(ConfigError, match="mm_per_pixel must be"):
        AnalysisSettings(mm_per_pixel=float("nan"))
    text = (run / "tracks.jsonl").read_text()
    for damage, message in (
        (text.replace('"counts": "', '"counts": "0'), "frame 0, object 1"),
        (text.replace('"index": 2', '"index": 1').replace('"seconds": 0.08', '"seconds": 0.04'), "order of time"),
        (text.replace("samvideo-tracks-2", "other"), "line 1: format is 'other'"),
        ("{}", "a tracks file as"),
    ):
        (run / "tracks.jsonl").write_text(damage)
        with pytest.raises(VideoError, match=message):
            analyse_run(run, AnalysisSettings())
    for name in ("tracks.json", "tracks.jsonl"):
        (run / name).unlink()
    (run / "tracks.csv").write_text("frame,seconds\nx,y\n")
    with pytest.raises(VideoError, match="a table written by"):
        analyse_run(run, AnalysisSettings())


def test_a_run_without_objects(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", results(3))
    findings = write_analysis(run, tmp_path / "report")
    assert (findings.objects, findings.frames) == ((), 3)
    assert blocks.FRAMES > 3
