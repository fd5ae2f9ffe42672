"""What an export writes and replaces, and the input that it refuses."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from exports_made import COUNT, RGB, plate, ring, written
from runs_made import INFO, SIZE, nothing, results, write_run
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.errors import ConfigError, OutputError, VideoError
from samvideo.exports import FORMATS, export_run
from samvideo.io.locks import folder_lock
from samvideo.io.sink import VideoWriter

# pycocotools' own decoder is written for NumPy 1
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("exports") / "run", results(COUNT, ring, plate))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "made.mp4"
    with VideoWriter(path, SIZE, Fraction(25), crf=5) as writer:
        for index in range(COUNT):
            writer.write(np.full((*SIZE[::-1], 3), RGB, np.uint8), index / 25)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", list(FORMATS.all()))
def test_an_export_writes_its_target_only(run: Path, video: Path, tmp_path: Path, name: str) -> None:
    other = write_run(tmp_path / "other", results(COUNT + 3, ring))
    beside = tmp_path / "beside"
    for kept in (
        "seqinfo.ini",
        f"{name}.json",
        ".out.part",
        ".samvideo-x",
        "labels.txt",
        "Annotations/480p/made/7.png",
    ):
        (beside / kept).parent.mkdir(parents=True, exist_ok=True)
        (beside / kept).write_text("mine")
    before, recorded = tree(beside), tree(run)
    target = beside / f"out{FORMATS.find(name).suffix}"
    assert export_run(run, name, target, video=str(video)) == target
    first = tree(beside)
    assert {key: first[key] for key in before} == before
    assert {Path(key).parts[0] for key in first.keys() - before.keys()} == {target.name}
    with pytest.raises(ConfigError, match="--overwrite"):
        export_run(run, name, target, video=str(video))
    if not FORMATS.find(name).needs_video:
        export_run(other, name, target, overwrite=True)
    export_run(run, name, target, video=str(video), overwrite=True)
    assert tree(beside).keys() == first.keys()  # no frame of the longer run is left
    assert tree(run) == recorded


@pytest.mark.parametrize("name", [name for name, spec in FORMATS.all().items() if not spec.suffix])
def test_a_folder_of_other_files_is_not_replaced(run: Path, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    export_run(run, name, mine)
    shutil.move(mine / ".samvideo-export.json", tmp_path / "list.json")
    before = tree(mine)
    with pytest.raises(ConfigError, match="that no earlier export wrote"):
        export_run(run, name, mine, overwrite=True)
    assert tree(mine) == before
    names = json.loads((tmp_path / "list.json").read_text())
    for listed, message in (
        ([*names, "../list.json"], "relative path below"),
        (names[1:], "was not written by an earlier export"),
    ):
        (mine / ".samvideo-export.json").write_text(json.dumps(listed))
        with pytest.raises(ConfigError, match=message):
            export_run(run, name, mine, overwrite=True)
        (mine / ".samvideo-export.json").unlink()
        assert tree(mine) == before
    assert (tmp_path / "list.json").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_export_replaces_what_it_reads(run: Path, video: Path, tmp_path: Path, overwrite: bool) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    shutil.copy(video, tmp_path / "made.mp4")
    (folder / "masks").mkdir()
    before = tree(tmp_path)
    for name, target in (
        ("coco", "run/tracks.json"),
        ("coco", "run/tracks.jsonl"),
        ("mot", "run/tracks.csv"),
        ("cvat", "run/run.json"),
        ("green", "run/overlay.mp4"),
        ("green", "made.mp4"),
        ("davis", "run"),
        ("numpy", "."),
        ("davis", "run/masks"),
        ("coco", "run/masks/00000.json"),
        ("tracks", "run/tracks.jsonl"),
    ):
        with pytest.raises(ConfigError, match="-o"):
            export_run(folder, name, tmp_path / target, video=str(tmp_path / "made.mp4"), overwrite=overwrite)
    with pytest.raises(ConfigError, match="--overwrite"):
        export_run(folder, "tracks")
    with pytest.raises(ConfigError, match="not a regular file"):
        export_run(folder, "coco", Path("/dev/null"), overwrite=overwrite)
    assert tree(tmp_path) == before


def test_tracks_of_a_run_that_goes_on_are_not_replaced(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    before = tree(folder)
    with folder_lock(folder), pytest.raises(ConfigError, match="another samvideo process"):
        export_run(folder, "tracks", overwrite=True)
    assert tree(folder) == before
    export_run(folder, "tracks", overwrite=True)


@pytest.mark.parametrize(
    "name", ["..", "a/../..", "C:\\x\\..", "a\0b.mp4", "li\nne.mp4", "/", "x" * 300, "\u65e5\u672c.mp4"]
)
def test_the_name_of_a_source_leaves_no_folder(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "run", results(2, plate), info=replace(INFO, name=name))
    (tmp_path / "a").mkdir()
    before = tree(tmp_path)
    for format in ("davis", "mot-sequence", "cvat", "coco"):
        with (
            pytest.raises(OutputError, match="too long") if (len(name), format) == (300, "davis") else nullcontext()
        ):
            export_run(folder, format, tmp_path / "a" / format)
    after = tree(tmp_path)
    assert {key: after[key] for key in before} == before
    assert {Path(key).parts[0] for key in after.keys() - before.keys()} == {"a"}
    ElementTree.parse(tmp_path / "a" / "cvat")


def test_bad_input(run: Path, video: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no export format .*nown: numpy, coco"):
        export_run(run, "voc")
    with pytest.raises(ConfigError, match="--video"):
        export_run(run, "green")
    with pytest.raises(VideoError, match="--save rle"):
        export_run(tmp_path / "none", "coco")
    small = tmp_path / "small.mp4"
    with VideoWriter(small, (64, 48), Fraction(25)) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8), 0)
    with pytest.raises(VideoError, match="that was tracked"):
        written(run, tmp_path, "green", video=str(small))
    short = tmp_path / "short.mp4"
    with VideoWriter(short, SIZE, Fraction(25)) as writer:
        writer.write(np.zeros((*SIZE[::-1], 3), np.uint8), 0)
    with pytest.raises(VideoError, match="has no frame 1"):
        written(run, tmp_path, "prores", video=str(short))
    assert not list(tmp_path.glob(".*.part"))
    done = CliRunner().invoke(app, ["export", str(run), "-f", "mot", "-o", str(tmp_path / "boxes.txt")])
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(app, ["export", str(run), "-f", "mot", "-o", str(tmp_path / "boxes.txt")])
    assert (again.exit_code, "--overwrite" in again.stderr) == (2, True)


def test_a_run_in_which_nothing_was_found(tmp_path: Path, video: Path) -> None:
    empty = write_run(tmp_path / "run", results(COUNT, lambda k: nothing()))
    for name in FORMATS.all():
        assert export_run(
            empty, name, tmp_path / f"out.{name}{FORMATS.find(name).suffix}", video=str(video)
        ).exists()


def test_a_run_without_a_frame(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", results(0, ring))
    for name in ("coco", "numpy"):
        with pytest.raises(VideoError, match="holds no frame"):
            export_run(folder, name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_masks_that_are_not_what_the_file_says(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    lines = (folder / "tracks.jsonl").read_text().splitlines()
    entry = json.loads(lines[3])
    entry["objects"][1]["area"] += 1
    lines[3] = json.dumps(entry)
    (folder / "tracks.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(VideoError, match=r"frame 2, object 2: area is \d+, but the mask"):
        export_run(folder, "coco", tmp_path / "coco.json")


@pytest.mark.parametrize(
    ("label", "said"), [(["9=x"], "object 9"), (["1=a,2=b"], "one object"), (["1=a", "1=b"], "two")]
)
@pytest.mark.parametrize("verb", ["export", "analyze"])
def test_labels_that_would_not_be_used(run: Path, tmp_path: Path, verb: str, label: list[str], said: str) -> None:
    options = [part for text in label for part in ("--label", text)]
    format = ["-f", "coco"] if verb == "export" else []
    done = CliRunner().invoke(app, [verb, str(run), *format, "-o", str(tmp_path / "out"), *options])
    assert (done.exit_code, said in done.stderr, (tmp_path / "out").exists()) == (2, True, False)
