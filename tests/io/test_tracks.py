"""What a run recorded is read back as it was, and damage is reported where it is."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from runs_made import INFO, disc, results, write_run

from samvideo.analysis.saved_run import analyse_run
from samvideo.analysis.settings import AnalysisSettings
from samvideo.errors import ConfigError, VideoError
from samvideo.exports import export_run
from samvideo.io.rle import decode_rle
from samvideo.io.tracks import TracksFile, open_masks
from samvideo.io.tracks_table import TracksTable, open_run

COUNT = 4


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", results(COUNT, lambda k: disc(20 + k, 50), lambda k: disc(90, 30)))


def test_lines_and_document_hold_the_same_results(run: Path) -> None:
    lines, document = list(TracksFile(run / "tracks.jsonl")), list(TracksFile(run / "tracks.json"))
    assert lines == document
    assert len(lines) == COUNT
    for tracked, made in zip(
        lines, results(COUNT, lambda k: disc(20 + k, 50), lambda k: disc(90, 30)), strict=True
    ):
        result = tracked.result((200, 100))
        assert (result.masks == made.masks).all()
        assert (result.index, result.seconds, result.object_ids) == (made.index, made.seconds, made.object_ids)


def test_the_folder_of_a_run_may_be_text(run: Path) -> None:
    for opened in (open_masks(str(run)), open_run(str(run)), TracksFile(str(run / "tracks.jsonl"))):
        assert opened.path == run / "tracks.jsonl"


def test_lines_are_preferred_and_old_runs_are_read(run: Path) -> None:
    assert open_masks(run).path.name == "tracks.jsonl"
    (run / "tracks.jsonl").unlink()
    assert open_masks(run).path.name == "tracks.json"
    assert len(list(open_run(run))) == COUNT
    (run / "tracks.json").unlink()
    assert isinstance(open_run(run), TracksTable)
    with pytest.raises(VideoError, match="--save rle"):
        open_masks(run)


@pytest.mark.parametrize("indent", [None, 1])
def test_a_document_in_another_layout_is_read(run: Path, tmp_path: Path, indent: int | None) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads((run / "tracks.json").read_text()), indent=indent))
    assert list(TracksFile(other)) == list(open_masks(run))


def test_the_document_is_exported_from_the_lines_of_a_killed_run(run: Path) -> None:
    expected = (run / "tracks.json").read_bytes()
    (run / "tracks.json").unlink()
    assert export_run(run, "tracks") == run / "tracks.json"
    assert (run / "tracks.json").read_bytes() == expected
    with pytest.raises(ConfigError, match="belongs to the run"):
        export_run(run / "tracks.json", "tracks", run / "tracks.json", overwrite=True)


@pytest.mark.parametrize("cut", [1, 20, 300])
def test_a_torn_last_line_is_ignored(run: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    path = run / "tracks.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    tracks = TracksFile(path)
    with caplog.at_level(logging.WARNING):
        found = list(tracks)
        assert list(tracks) == found
    # The line break alone may be missing: an editor drops it, and the line is complete.
    assert len(found) == (COUNT if cut == 1 else COUNT - 1)
    assert len(caplog.records) == (0 if cut == 1 else 1)


def damaged(line: str, **fields: object) -> str:
    entry = json.loads(line)
    entry["objects"][1].update(fields)
    return json.dumps(entry)


@pytest.mark.parametrize("name", ["tracks.jsonl", "tracks.json"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"score": "high"}, r"line 3: objects.1.score is 'high'"),
        ({"score": float("nan")}, r"line 3: objects.1.score is nan"),
        ({"present": 1}, r"line 3: objects.1.present is 1"),
        ({"id": 0}, r"line 3: objects.1.id is 0"),
        ({"bbox": [1, 2, 3]}, r"line 3: objects.1.bbox has length 3: 4 expected"),
        ({"id": 2**31}, r"line 3: objects.1.id is 2147483648"),
        ({"id": 10**400}, r"line 3: objects.1.id is"),
        ({"id": 1}, r"line 3: .*every object once"),
        ({"area": 2**40}, r"line 3: objects.1.area is"),
        ({"bbox": [1, 2, -3, 4]}, r"line 3: objects.1.bbox.2 is -3"),
        ({"segmentation": [1]}, r"line 3: objects.1.segmentation is"),
    ],
)
def test_damage_is_reported_with_line_field_and_value(
    run: Path, name: str, fields: dict[str, object], message: str
) -> None:
    path = run / name
    lines = path.read_text().splitlines()
    comma = "," * (name == "tracks.json")
    lines[2] = damaged(lines[2].removesuffix(","), **fields) + comma
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(VideoError, match=message) as caught:
        list(TracksFile(path))
    assert str(path) in str(caught.value)


def test_a_torn_line_in_the_middle_is_an_error(run: Path) -> None:
    path = run / "tracks.jsonl"
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:40]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(VideoError, match=r"line 3 is not JSON"):
        list(TracksFile(path))


def test_a_document_that_is_cut_off_is_an_error_after_its_last_frame(run: Path) -> None:
    path = run / "tracks.json"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:3]) + "\n")
    frames = iter(TracksFile(path))
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(VideoError, match="cut off after line 3"):
        next(frames)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ('{"format": "samvideo-tracks-2", "vid', "is not JSON"),
        (
            '{"format": "samvideo-tracks-2", "video": {"name": "a", "width": 0, "height": 4, "rate": "25"}}\n',
            "width",
        ),
        (
            '{"format": "samvideo-tracks-2", "video": {"name": "a", "width": 9, "height": 4, "rate": "0/1"}}\n',
            "rate",
        ),
        (
            '{"format": "samvideo-tracks-9", "video": {"name": "a", "width": 9, "height": 4, "rate": "5"}}\n',
            "format",
        ),
    ],
)
def test_a_header_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tracks.jsonl").write_text(text)
    with pytest.raises(VideoError, match=message):
        open_masks(tmp_path)


def test_a_torn_row_of_the_table_is_an_error_with_its_line(run: Path) -> None:
    path = run / "tracks.csv"
    path.write_text(path.read_text()[:-30])
    with pytest.raises(VideoError, match="line 9: "):
        TracksTable(path)


HUGE = {"size": [2**31, 2**31], "counts": [2**62]}


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        (HUGE, "size .100, 200. expected"),
        ({"size": [1, 1], "counts": [0, 1]}, "size .100, 200. expected"),
        ({"size": [100, 200], "counts": [10**30]}, "whole numbers"),
        ({"size": [100, 200], "counts": [2**62, 2**62, 2**62, 2**62, 20000]}, "do not add up"),
        ({"size": [100, 200], "counts": [1.5, 19998.5]}, "whole numbers"),
        ({"size": [100, 200], "counts": [20001, -1]}, "do not add up"),
        ({"size": [100, 200], "counts": "é"}, "not a valid COCO RLE"),
        ({"size": [100, 200], "counts": {"a": 1}}, "whole numbers"),
        ({"size": [100, 200], "counts": [[20000]]}, "whole numbers"),
        ({"size": 5, "counts": "0"}, "size .H, W. and counts"),
        ({"size": [100, True], "counts": "0"}, "size .H, W. and counts"),
        ({}, "size .H, W. and counts"),
    ],
)
def test_an_rle_that_is_none(run: Path, rle: dict[str, object], message: str) -> None:
    path = run / "tracks.jsonl"
    lines = path.read_text().splitlines()
    lines[2] = damaged(lines[2], segmentation=rle)
    path.write_text("\n".join(lines) + "\n")
    tracks = TracksFile(path)
    for read in (tracks.check_masks, lambda: [frame.result((200, 100)) for frame in tracks]):
        with pytest.raises(VideoError, match=rf"frame 1, object 2: .*{message}"):
            read()
    with pytest.raises(VideoError, match=message):
        analyse_run(run, AnalysisSettings())


def test_a_mask_is_not_allocated_before_its_size_is_checked() -> None:
    with pytest.raises(ConfigError, match="at most 134217728 pixels"):
        decode_rle(HUGE)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ({"width": 10**9, "height": 10**9}, "width is 1000000000"),
        ({"width": 2**16, "height": 2**16}, "at most 134217728 pixels"),
        ({"width": 1e400}, "not JSON|width is inf"),
        ({"rate": "1e-300"}, "rate is '1e-300'"),
        ({"rate": "1/" + "9" * 400}, "rate is"),
        ({"rate": 25}, "rate is 25"),
        ({"name": None}, "name is None"),
    ],
)
def test_a_header_of_impossible_values(run: Path, video: dict[str, object], message: str) -> None:
    path = run / "tracks.jsonl"
    first, *lines = path.read_text().splitlines()
    header = json.loads(first)
    header["video"] |= video
    path.write_text("\n".join([json.dumps(header), *lines]) + "\n")
    with pytest.raises(VideoError, match=message):
        TracksFile(path)


def test_frames_out_of_order(run: Path) -> None:
    for name in ("tracks.jsonl", "tracks.json", "tracks.csv"):
        path = run / name
        head, first, second, *lines = path.read_text().splitlines()
        path.write_text("\n".join([head, *lines[:2], first, second, *lines[2:]]) + "\n")
        with pytest.raises(VideoError, match="order of time"):
            list(TracksTable(path) if name == "tracks.csv" else TracksFile(path))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_document_that_an_editor_has_saved_again(run: Path, encoding: str) -> None:
    path, before = run / "tracks.json", list(TracksFile(run / "tracks.json"))
    path.write_text(path.read_text(), encoding=encoding)
    assert list(TracksFile(path)) == before


def test_a_name_that_is_not_text_is_kept_readable(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", results(1, lambda k: disc(20, 50)), info=replace(INFO, name="l\udce9.mp4"))
    assert open_masks(folder).info.name == "l?.mp4"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",1,1,1.0000,", ",1.5,1,1.0000,", "object is '1.5'"),
        (",1,1,1.0000,", ",99999999999,1,1.0000,", "object is '99999999999'"),
        ("0.000000,", "nan,", "seconds is 'nan'"),
        ("0,0.0", "x,0.0", "frame is 'x'"),
        (",197,", ",,", "area is None"),
        (",197,", ",0,", "a box with the centroid inside"),
        (",12,", ",,", "a box with the centroid inside"),
        ("20.5,50.5", "99,50.5", "a box with the centroid inside"),
        (",12,42,29,59,20.5", ",1,42,99999,59,20.5", "x2 is '99999'"),
        ("0,0.000000,2,", "0,0.000000,1,", "every object once"),
        ("0.040000", "0.000000001", "times in seconds"),
        ("frame,", "frames,", "frame is missing"),
        ("1,0.04", "\0", "NUL|frame is"),
    ],
)
def test_a_table_of_impossible_values(run: Path, old: str, new: str, message: str) -> None:
    path = run / "tracks.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(VideoError, match=message):
        TracksTable(path)


def test_a_table_of_one_frame_per_hour(tmp_path: Path) -> None:
    made = results(3, lambda k: disc(20, 50), times=lambda k: 3600.0 * k)
    table = TracksTable(write_run(tmp_path / "run", made, ("csv",)) / "tracks.csv")
    assert 1 / float(table.info.rate) == pytest.approx(3600, rel=0.01)
