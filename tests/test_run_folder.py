"""Only what a run wrote is replaced, and never what it reads; a refused run leaves everything as it was."""

import json
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from runs_made import SIZE, disc, results

from samvideo.errors import ConfigError, OutputError
from samvideo.prompt_syntax import prompt_files
from samvideo.run import Run, RunSettings
from samvideo.run_folder import JOURNAL, FrameRanges, check_folder
from samvideo.types import Frame, VideoInfo

INFO = VideoInfo("clip", SIZE, Fraction(25))
KINDS = ("overlay", "masks", "rle", "csv")


def run(
    out: Path, count: int = 3, *, save: Iterable[str] = KINDS, finish: bool = True, sources: tuple[Path, ...] = ()
) -> Run:
    """Write a run of `count` frames over what an earlier one left."""
    settings = RunSettings("clip.mp4", "flow", {}, out, tuple(save), overwrite=True)
    made = Run.open(settings, INFO, sources=sources)
    with made:
        for result in results(count, lambda k: disc(40, 40)):
            made.write(Frame(result.index, result.seconds, np.zeros((*SIZE[::-1], 3), np.uint8)), result)
    if finish:
        made.finish("complete")
    return made


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_hidden_files_that_no_run_wrote_stay(tmp_path: Path) -> None:
    for name in (".resume/state", ".resume/steps.jsonl", ".masks.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("0\n")
        with pytest.raises(ConfigError, match="choose another folder with -o"):
            run(tmp_path, 2)
        assert content(tmp_path) == {name: b"0\n"}
        (tmp_path / name).unlink()
    (tmp_path / ".resume").rmdir()
    for name in (".resume", "masks"):
        (tmp_path / name).symlink_to("nowhere")
        with pytest.raises(ConfigError, match="is not a folder"):
            run(tmp_path, 2)
        (tmp_path / name).unlink()


def test_a_folder_of_masks_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, 2)
    before = content(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "masks")
    with pytest.raises(OutputError, match="read-only, or not yours"):
        run(tmp_path, 2)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["masks/00000.png", "tracks.json"])
def test_a_prompt_that_would_be_replaced_is_refused(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    run(out, 2)
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps([{"mask": f"out/{name}", "frame": 0}]))
    before = content(out)
    for text in (f"mask={out / name}@0#1", str(prompts)):
        with pytest.raises(ConfigError, match=r"the prompt .* lies where the results are written"):
            check_folder(out, True, prompts=prompt_files([text]))
    assert content(out) == before
    (out / "first.png").write_text("mine")
    check_folder(out, True, prompts=prompt_files([f"mask={out / 'first.png'}"]))


@pytest.mark.parametrize("finish", [True, False])
def test_all_files_of_a_run_are_replaced_and_no_others(tmp_path: Path, finish: bool) -> None:
    run(tmp_path, 5, finish=finish)
    assert (tmp_path / JOURNAL).exists() != finish
    for left in ("masks/.00004.png.part", ".overlay.mp4.whole"):  # by a process that was killed
        (tmp_path / left).write_text("half")
    own = {
        "notes.txt": b"mine",
        "masks/truth.png": b"mine",
        "masks/3.png": b"mine",
        "masks/000003.png": b"mine",
        "redacted.mp4": b"mine",
    }
    for name, mine in own.items():
        (tmp_path / name).write_bytes(mine)
    run(tmp_path, 2, save=["masks", "csv"])
    assert sorted(content(tmp_path)) == sorted(
        [*own, "masks/00000.png", "masks/00001.png", "run.json", "tracks.csv"]
    )
    assert own.items() <= content(tmp_path).items()
    recorded = json.loads((tmp_path / "run.json").read_text())
    assert (recorded["files"], recorded["mask_frames"]) == (
        {"masks": ["masks"], "csv": ["tracks.csv"]},
        [[0, 1, 1]],
    )


@pytest.mark.parametrize("name", ["masks/00003.png", "masks/123456.png", "tracks.json", "overlay.mp4", "run.json"])
@pytest.mark.parametrize("earlier", [True, False])
def test_a_file_that_no_run_wrote_is_never_replaced(tmp_path: Path, name: str, earlier: bool) -> None:
    if earlier and name != "run.json":
        run(tmp_path, 3, save=["csv"])
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"status": "complete"}')
    before = content(tmp_path)
    for save in (["csv"], KINDS):
        with pytest.raises(ConfigError, match="choose another folder with -o"):
            run(tmp_path, save=save)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "listed",
    [
        {"files": {"csv": ["../mine.txt"]}},
        {"files": {"csv": ["notes.txt"]}},
        {"files": {"csv": ["/etc/passwd"]}},
        {"files": ["tracks.csv"]},
        {"mask_frames": [[0, 9, 0]]},
        {"mask_frames": [["../a", 1, 1]]},
        {"status": "fine"},
    ],
)
def test_a_record_from_elsewhere_is_not_trusted(tmp_path: Path, listed: dict[str, object]) -> None:
    run(tmp_path / "out", 2, save=["csv"])
    path = tmp_path / "out" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | listed))
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=r"run\.json: .* choose another folder with -o"):
        run(tmp_path / "out")
    assert content(tmp_path) == before


def test_a_record_with_endless_ranges_is_harmless(tmp_path: Path) -> None:
    run(tmp_path, 2, save=["masks"])
    recorded = json.loads((tmp_path / "run.json").read_text()) | {"mask_frames": [[0, 10**30, 1]]}
    (tmp_path / "run.json").write_text(json.dumps(recorded))
    run(tmp_path, 1, save=["masks"])
    assert sorted(content(tmp_path)) == ["masks/00000.png", "run.json"]


def test_results_are_never_written_where_the_source_lies(tmp_path: Path) -> None:
    run(tmp_path / "out", 3)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(2):
        (pictures / f"{index}.png").write_bytes(b"picture")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    (tmp_path / "linked.mp4").symlink_to(tmp_path / "out" / "overlay.mp4")
    os.link(tmp_path / "out" / "overlay.mp4", tmp_path / "hard.mp4")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "masks").symlink_to(pictures)
    masks = tuple(sorted((tmp_path / "out" / "masks").iterdir()))
    before = content(tmp_path)
    for out, sources in {
        "out": (tmp_path / "out" / "overlay.mp4",),
        "link": (tmp_path / "out" / "overlay.mp4",),
        "./out": (tmp_path / "linked.mp4",),
        "out/": (tmp_path / "hard.mp4",),
        "other/../out": masks,
        "out/.": masks[:1],
        "pictures": tuple(pictures.iterdir()),
        "other": tuple(pictures.iterdir()),
    }.items():
        with pytest.raises(ConfigError, match="lies where the results are written"):
            run(tmp_path / out, sources=sources)
    assert content(tmp_path) == before
    (tmp_path / "out" / "source.mp4").write_bytes(b"video")
    run(tmp_path / "out", sources=(tmp_path / "out" / "source.mp4",))
    assert (tmp_path / "out" / "source.mp4").read_bytes() == b"video"


@pytest.mark.parametrize("place", ["file", "file/out", "a" * 300])
def test_a_folder_that_cannot_be_made(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="choose another folder"):
        check_folder(tmp_path / place, overwrite=True)
    assert content(tmp_path) == {"file": b"mine"}


def test_ranges_of_frames() -> None:
    for frames in ([], [4], [4, 5, 6], [0, 3, 6, 9], [0, 1, 2, 7, 8, 9, 20], [5, 5, 6], [3, 2, 1]):
        ranges = FrameRanges()
        for index in frames:
            ranges.add(index)
        assert [index for index in range(25) if index in ranges] == sorted(set(frames))
    ranges = FrameRanges([(0, 10, 2)])
    assert ranges.joined(FrameRanges([(2, 6, 4), (4, 4, 1)])).ranges == [(0, 10, 2)]
    assert ranges.joined(FrameRanges([(0, 12, 2), (1, 1, 1)])).ranges == [(0, 10, 2), (0, 12, 2), (1, 1, 1)]
