"""What a run recorded is read back as it was, and damage is reported where it is."""

import json
import logging
from pathlib import Path

import pytest
from runs_made import disc, results, write_run

from samvideo.errors import VideoError
from samvideo.exports import export_run
from samvideo.io.tracks import TracksFile, TracksTable, open_masks, open_run

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
    export_run(run / "tracks.json", "tracks", run / "tracks.json", overwrite=True)
    assert (run / "tracks.json").read_bytes() == expected


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
        ({"bbox": [1, 2, 3]}, r"line 3: objects.1.bbox.3 is"),
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
