"""Evaluations write and remove only what is theirs, one process at a time."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluation_builders import davis2016, davis2017, endovis_challenge_2018, sav, sav_train
from evaluation_helpers import RepeatTracker, files, make_run, number, numbers, write_frames, write_masks
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.errors import ConfigError, DatasetError, OutputError, SamVideoError
from samvideo.evaluation.datasets import open_dataset
from samvideo.evaluation.datasets.base import LONGEST_NAME, VideoSequence
from samvideo.evaluation.evaluate import claimed, evaluate, score
from samvideo.evaluation.results import FORMAT
from samvideo.io.locks import folder_lock
from samvideo.types import Frame

FIXTURES = Path(__file__).parent / "fixtures"
LEAVING = [
    "..",
    "../victim",
    "/victim",
    "a/../../victim",
    "./bear",
    "bear/",
    "a/b",
    "~/../x",
    "C:\\x",
    ".bear.part",
    "é" * 150,
]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", LEAVING)
@pytest.mark.parametrize(
    ("build", "listed"), [(davis2017, "ImageSets/2017/val.txt"), (sav, "sav_val/sav_val.txt")], ids=["davis", "sav"]
)
def test_names_in_lists_lead_nowhere_else(
    build: Callable[[Path], str], listed: str, name: str, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    split = build(root)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/thesis.txt").write_text("precious")
    (root / listed).write_text(name.replace("/victim", f"{tmp_path}/victim") if name == "/victim" else name)
    before = everything(tmp_path)
    command = [build.__name__, str(root), "--split", split, "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["evaluate", *command])
    assert done.exit_code == DatasetError.exit_code, done.output
    assert f"a sequence of {build.__name__} {split} is" in done.stderr
    assert everything(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_lists_of_files_of_davis_2016_lead_nowhere_else(tmp_path: Path) -> None:
    split = davis2016(tmp_path)
    (tmp_path / f"ImageSets/480p/{split}.txt").write_text("/JPEGImages/../x.jpg\n")
    with pytest.raises(DatasetError, match=r"a sequence of davis2016 train is '\.\.'"):
        open_dataset("davis2016", tmp_path, split)


@pytest.mark.parametrize("label", [*LEAVING, "", 1.5, True, -1, None])
def test_ids_of_masklets_lead_nowhere_else(label: object, tmp_path: Path) -> None:
    split = sav_train(tmp_path / "root")
    (annotated,) = (tmp_path / "root").rglob("*_manual.json")
    annotated.write_text(json.dumps(json.loads(annotated.read_text()) | {"masklet_id": [0, label]}))
    failed = evaluate(make_run("sav", tmp_path / "root", split, tmp_path / "out"))["failed"]
    assert "masklet_id.1 is" in failed["sav_000007"]["message"]
    assert not list(tmp_path.rglob("*.png"))


def test_names_of_parts_lead_nowhere_else(tmp_path: Path) -> None:
    endovis_challenge_2018(tmp_path / "root")
    table = tmp_path / "root/labels.json"
    table.write_text(table.read_text().replace("instrument-shaft", "instrument-../../../shaft"))
    failed = evaluate(make_run("endovis", tmp_path / "root", "valid-parts", tmp_path / "out"))["failed"]
    assert "an object of seq_1 is '../../../shaft'" in failed["seq_1"]["message"]
    assert not [path for path in tmp_path.rglob("*.png") if (tmp_path / "root") not in path.parents]


@pytest.mark.parametrize("label", LEAVING)
def test_a_data_set_of_another_package_is_held_to_the_same(label: str) -> None:
    with pytest.raises(DatasetError, match="an object of s is"):
        VideoSequence("s", ("0",), (), {}, {1: label}, {}, {}, ())


def test_masks_of_others_are_not_removed(davis: Path, tmp_path: Path) -> None:
    """Folders that merely have the names of predictions."""
    out = tmp_path / "out"
    evaluate(make_run("davis2016", davis, "val", out, limit=1))
    for name in ("cow", ".dog.part"):
        (out / "predictions" / name).mkdir()
        (out / "predictions" / name / "mine.txt").touch()
    results = evaluate(make_run("davis2016", davis, "val", out))
    assert list(results["sequences"]) == ["bear"]
    for name, failure in results["failed"].items():
        assert f"{name}" in failure["message"]
        assert "was not written by this evaluation: move it away" in failure["message"]
    assert len(list(out.rglob("mine.txt"))) == 2


def test_a_refused_evaluation_leaves_no_folder(davis: Path, tmp_path: Path) -> None:
    def attempt(**options: object) -> None:
        evaluate(make_run("davis2016", davis, "val", tmp_path / "new/out", **options))  # type: ignore[arg-type]

    def fail() -> RepeatTracker:
        raise ConfigError("no such model")

    def interrupt(frame: Frame) -> None:
        raise KeyboardInterrupt

    with pytest.raises(ConfigError, match="no such model"):
        attempt(make=fail)
    with pytest.raises(SamVideoError, match="protocol"):
        attempt(protocol="nonsense")
    with pytest.raises(KeyboardInterrupt):
        attempt(make=lambda: RepeatTracker(interrupt))
    assert not (tmp_path / "new").exists()
    attempt(objects=(7,))  # every sequence fails: a result, which makes way for a better one
    attempt(objects=(1,))
    with pytest.raises(ConfigError, match="holds another evaluation: its objects is"):
        attempt(objects=(7,))


def test_the_folder_of_a_run_of_track_is_not_taken(davis: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"format": "samvideo-run-1"}))
    before = everything(tmp_path)
    with pytest.raises(ConfigError, match="lie in one another"):
        evaluate(make_run("davis2016", davis, "val", tmp_path / "sub/.."))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/run.json").write_text(json.dumps({"format": "samvideo-run-1"}))
    with pytest.raises(ConfigError, match="is not the record of an evaluation"):
        evaluate(make_run("davis2016", davis, "val", tmp_path / "out"))
    (tmp_path / "out/run.json").unlink()
    assert everything(tmp_path) == before


def test_two_evaluations_do_not_share_a_folder(davis: Path, tmp_path: Path) -> None:
    out, tries = tmp_path / "out", []

    def again(frame: Frame) -> None:
        with pytest.raises(ConfigError, match="another samvideo process writes into"):
            evaluate(make_run("davis2016", davis, "val", out))
        tries.append(frame)

    results = evaluate(make_run("davis2016", davis, "val", out, make=lambda: RepeatTracker(again)))
    assert len(tries) == 15
    calm = evaluate(make_run("davis2016", davis, "val", tmp_path / "calm"))
    assert numbers(results) == numbers(calm)
    assert files(out) == files(tmp_path / "calm")
    with folder_lock(out):
        command = [sys.executable, "-m", "samvideo", "evaluate", "davis2016", str(davis), "-o", str(out)]
        second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == ConfigError.exit_code
    assert second.stderr.startswith("error: another samvideo process writes into")


def test_quiet_commands_say_what_failed(davis: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    command = ["score", "davis2016", str(davis), str(tmp_path / "empty"), "-o", str(tmp_path / "s.json"), "-q"]
    done = subprocess.run([sys.executable, "-m", "samvideo", *command], capture_output=True, text=True)
    assert done.returncode == DatasetError.exit_code
    assert done.stderr.count("failed: ") == 3
    assert f"bear failed: {tmp_path}" in done.stderr
    (davis / "Annotations/480p/cow/00002.png").write_bytes(b"no picture")
    evaluate(make_run("davis2016", davis, "val", tmp_path / "out"))
    assert [record.getMessage()[:10] for record in caplog.records] == ["cow failed"]


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_masks_to_score_are_an_error(count: int, tmp_path: Path) -> None:
    write_frames(tmp_path / "root/JPEGImages/s", number(2))
    write_masks(tmp_path / "root/Annotations/s", number(count), {1: (2, 2)})
    write_masks(tmp_path / "pred/s", number(2), {1: (2, 2)})
    expected = f"s has no frame to score: {count} annotated, of which the first and the last do not count; annotate"
    failed = evaluate(make_run("folder", tmp_path / "root", "all", tmp_path / "out"))["failed"]
    assert failed["s"]["message"].startswith(expected)
    failed = score("folder", tmp_path / "root", tmp_path / "pred")["failed"]
    assert failed["s"]["message"].startswith(expected)
    assert "--ends" in failed["s"]["message"]
    assert score("folder", tmp_path / "root", tmp_path / "pred", ends=True)["scores"]["objects"] == 1


def test_results_replace_nothing_but_results(davis: Path, tmp_path: Path) -> None:
    evaluate(make_run("davis2016", davis, "val", tmp_path / "out"))
    mine = [tmp_path / name for name in ("a.csv", "b.json", "c.md", "d.html", "e.tex")]
    for path in mine:
        path.write_text("mine")
    scoring = ["score", "davis2016", str(davis), str(tmp_path / "out/predictions"), "-q"]
    report = ["report", str(tmp_path / "out")]
    for command, target in (
        *((scoring, name) for name in ("a.json", "a.csv", "b.json", ".")),
        *((report, name) for name in ("c.html", "c.md", "d.html", "e.html", ".")),
    ):
        done = CliRunner().invoke(app, [*command, "-o", str(tmp_path / target)])
        assert done.exit_code == ConfigError.exit_code, (target, done.output)
    assert [path.read_text() for path in mine] == ["mine"] * len(mine)
    for command, target in ((scoring, "f.json"), (report, "g.html")):
        for _ in range(2):
            assert CliRunner().invoke(app, [*command, "-o", str(tmp_path / target)]).exit_code == 0


def test_other_weights_are_another_evaluation(davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("samvideo.evaluation.evaluate.evaluate", lambda evaluation, *more: seen.append(evaluation))
    for weights in ([], ["--weights", "a.pt"]):
        CliRunner().invoke(app, ["evaluate", "davis2016", str(davis), "-o", str(tmp_path / "out"), *weights])
    assert [evaluation.options for evaluation in seen] == [{}, {"weights": "a.pt"}]


def test_other_weights_in_the_same_file_are_another_evaluation(davis: Path, tmp_path: Path) -> None:
    weights, out = tmp_path / "w.pt", tmp_path / "out"
    record = {"format": FORMAT, "model": "nano", "options": {"weights": str(weights)}}
    weights.write_bytes(b"one")
    with claimed(out, davis, record):
        (out / "sequences").mkdir()
        (out / "sequences" / "a.json").write_text("{}")
    with claimed(out, davis, record):
        pass
    weights.write_bytes(b"two")
    with pytest.raises(ConfigError, match="its digest of the weights is"), claimed(out, davis, record):
        pass


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("samvideo.evaluation.evaluate.score", lambda *_, **__: pytest.fail("scored"))
    scored = ["score", "folder", str(FIXTURES / "gt"), str(FIXTURES / "pred")]
    for command in (
        [*scored, "-o", f"{tmp_path}/file/s.json"],
        ["report", "none", "-o", f"{tmp_path}/file/r.html"],
    ):
        done = CliRunner().invoke(app, command)
        assert (done.exit_code, "is not a folder; choose another folder" in done.stderr) == (5, True), done.stderr


def test_paths_that_the_system_refuses(davis: Path, tmp_path: Path) -> None:
    long = "n" * 300
    for command in (
        ["evaluate", "folder", long, "-o", str(tmp_path / "out")],
        ["evaluate", "davis2016", str(davis), "-o", str(tmp_path / long)],
        ["score", "folder", str(FIXTURES / "gt"), long, "-o", str(tmp_path / "s.json")],
        ["score", "folder", str(FIXTURES / "gt"), str(FIXTURES / "pred"), "-o", f"{tmp_path}/{long}.json"],
        ["report", long, "-o", str(tmp_path / "r.html")],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code in (ConfigError.exit_code, OutputError.exit_code), done.output
        assert done.stderr.startswith("error: ")
        assert done.stderr.removesuffix("; choose another folder\n").rstrip().endswith("File name too long")
    assert not list(tmp_path.glob("[!d]*"))


def test_names_at_the_limit_work(tmp_path: Path) -> None:
    name = "n" * LONGEST_NAME
    write_frames(tmp_path / "root/JPEGImages" / name, number(4))
    write_masks(tmp_path / "root/Annotations" / name, number(4), {1: (2, 2)})
    results = evaluate(make_run("folder", tmp_path / "root", "all", tmp_path / "out"))
    assert results["failed"] == {}
    assert list(results["sequences"]) == [name]
