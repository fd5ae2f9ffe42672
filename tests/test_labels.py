"""Labels of objects go from prompts to every result, and back from there."""

import csv
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
import pytest
from exports_made import COUNT, plate, ring
from page_helpers import command, request, wait_until
from runs_made import box, results, write_run
from typer.testing import CliRunner

from samvideo.analysis.saved_run import analyse_run
from samvideo.analysis.settings import AnalysisSettings
from samvideo.cli.main import app
from samvideo.errors import ConfigError, PromptError, VideoError
from samvideo.exports import export_run
from samvideo.exports.detections import to_supervision
from samvideo.io.tracks import open_masks
from samvideo.io.tracks_table import open_run
from samvideo.object_prompts import number_prompts
from samvideo.prompt_syntax import load_prompts, parse_prompts
from samvideo.prompters.base import MaskProposal
from samvideo.render import overlay
from samvideo.resume import prompts_digest
from samvideo.run_base import recorded
from samvideo.segment_coco import CocoInstances
from samvideo.segmenters.base import Segmentation
from samvideo.trackers.discovery import DiscoveringTracker
from samvideo.trackers.flow import FlowTracker
from samvideo.trackers.loop import track
from samvideo.types import MAX_LABEL, Box, FrameResult, Points
from samvideo.web.annotations import AnnotationStore

LABELS = MappingProxyType({1: "needle driver, left"})  # with a comma, for tables; object 2 has none
BAD = ("", "  ", "x" * (MAX_LABEL + 1), "a\nb", "\x1b[2J", "a\ud800", 5, True)


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, " ".join(done.output.split())


def named(results: Iterable[FrameResult]) -> Iterable[FrameResult]:
    return (replace(result, labels=LABELS) for result in results)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two objects, of which the first has a label."""
    folder = tmp_path_factory.mktemp("labelled")
    return write_run(folder / "run", named(results(COUNT, ring, plate)), labelled=True)


# --- prompts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number", "label"),
    [
        ("box=1,2,30,40#1:grasper", 1, "grasper"),
        ("box=1,2,30,40#:bowel grasper", None, "bowel grasper"),
        ("points=3,4#2: Nadelhalter/groß @0:01.5", 2, "Nadelhalter/groß"),
        ("box=1,2,30,40@12#3:grasper", 3, "grasper"),
        ("box=1,2,30,40#3", 3, None),
    ],
)
def test_text_prompts(text: str, number: int | None, label: str | None) -> None:
    (prompt,) = parse_prompts([text])
    assert (prompt.object_id, prompt.label) == (number, label)


def test_masks_and_files(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a#2.png"), np.full((4, 4), 255, np.uint8))
    (mask,) = parse_prompts([f"mask={tmp_path / 'a#2.png'}@3#7:liver"])
    assert (mask.frame, mask.object_id, mask.label) == (3, 7, "liver")
    entries = [{"box": [1, 2, 3, 4], "label": "a@#b"}, {"mask": "a#2.png", "label": None}]
    (tmp_path / "p.json").write_text(json.dumps(entries))
    assert [prompt.label for prompt in load_prompts(tmp_path / "p.json")] == ["a@#b", None]


@pytest.mark.parametrize("label", BAD)
def test_bad_labels(tmp_path: Path, label: object) -> None:
    with pytest.raises(PromptError, match="1 to 100 printable characters expected"):
        Box((1, 2, 3, 4), label=label)  # type: ignore[arg-type]
    (tmp_path / "p.json").write_text(json.dumps([{"box": [1, 2, 3, 4], "label": label}]))
    with pytest.raises(PromptError, match=r"p\.json"):
        load_prompts(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["box=1,2,30,40#1:"], "label is ''"),
        (["box=1,2,30,40#1:a#2:b"], "two label marks"),
        (["box=1,2,30,40#x:a"], "#2:LABEL, expected"),
        (["box=1,2,30,40#1:a", "points=3,4@2#1:b"], "object 1 has the labels 'a' and 'b'"),
    ],
)
def test_prompts_that_are_refused(texts: list[str], said: str) -> None:
    with pytest.raises(PromptError, match=said):
        number_prompts(parse_prompts(texts))


def test_one_prompt_labels_all_of_its_object() -> None:
    given = [Box((1, 2, 3, 4)), Box((1, 2, 3, 4), object_id=5), Points([(1, 2)], object_id=1, label="a", frame=3)]
    assert [(prompt.object_id, prompt.label) for prompt in number_prompts(given)] == [(1, "a"), (5, None), (1, "a")]
    assert prompts_digest(given[2:]) != prompts_digest([replace(given[2], label="b")])


def test_recorded_prompts_have_no_folders() -> None:
    texts = ["mask=/a=b/c.png@3#1:x=y", "/a=b/p.json", "box=1,2,3,4#1:/x=/y", "text=a/b"]
    expected = ["mask=c.png@3#1:x=y", "p.json", "box=1,2,3,4#1:/x=/y", "text=a/b"]
    assert recorded(texts, {})["prompts"] == expected


# --- results ------------------------------------------------------------------------------------------------


def test_results_of_a_tracker_carry_labels() -> None:
    frames = [np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)] * 3
    prompts = [
        Box((5, 5, 20, 20)),
        Box((30, 5, 50, 20), frame=1, label="b"),
        Points([(6, 6)], object_id=1, frame=2),
    ]
    found = track(frames, prompts, model=FlowTracker())
    assert [dict(result.labels) for result in found] == [{}, {2: "b"}, {2: "b"}]


def test_a_run_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("demo-clip", "c.mp4", "--frames", 4, "--width", 160, "--height", 96)[0] == 0
    more = ["--direction", "both", "--model", "flow", "--save", "rle,csv", "-q"]
    code, output = call("track", "c.mp4", "-p", "box=10,20,60,70#2:grasper", "-p", "box=80,20,120,60@1", *more)
    assert code == 0, output
    objects = json.loads(Path("c_tracked/run.json").read_text())["objects"]
    assert [(entry["id"], entry.get("label", "none")) for entry in objects] == [(1, "none"), (2, "grasper")]
    assert open_masks(Path("c_tracked")).labels() == {2: "grasper"}
    rows = list(csv.DictReader(Path("c_tracked/tracks.csv").read_text().splitlines()))
    assert {(row["object"], row["label"]) for row in rows} == {("1", ""), ("2", "grasper")}
    code, output = call("track", "c.mp4", "-p", "box=10,20,60,70#1:a", "-p", "box=80,20,120,60@1#1:b", *more)
    assert (code, "one label per object" in output) == (2, True)


def test_labels_that_a_tracker_finds() -> None:
    class Named:
        def propose(self, rgb: np.ndarray) -> list[MaskProposal]:
            mask = np.zeros(rgb.shape[:2], bool)
            mask[5:20, 5:20] = True
            return [MaskProposal(mask, 1.0, 1.0, None, (0, 0, 60, 40), label="ball")]

    frames = [np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)] * 2
    found = track(
        frames, [Box((30, 5, 50, 20), object_id=9, label="b")], model=DiscoveringTracker(FlowTracker(), Named())
    )
    assert [dict(result.labels) for result in found] == [{10: "ball", 9: "b"}] * 2


def test_coco_instances_have_categories(tmp_path: Path) -> None:
    instances = CocoInstances()
    found = [Segmentation(i, np.ones((1, 4, 4), bool), np.ones(1, np.float32)) for i in (1, 2, 3)]
    instances.add("a.png", (4, 4), found, {1: "cat", 3: "cat"})
    instances.write(tmp_path / "coco.json")
    written = json.loads((tmp_path / "coco.json").read_text())
    assert [entry["name"] for entry in written["categories"]] == ["cat", "object"]
    assert [entry["category_id"] for entry in written["annotations"]] == [1, 2, 1]


def test_images_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        cv2.imwrite(name, np.full((40, 60, 3), 90, np.uint8))
    box = [5, 5, 30, 30]
    images = {"a.png": [{"box": box, "label": "cat"}], "b.png": [{"box": box, "label": "dog"}, {"box": box}]}
    Path("p.json").write_text(json.dumps({"images": images}))
    code, output = call("segment", "a.png", "b.png", "-p", "p.json", "--model", "grabcut", "-o", "out", "-q")
    assert code == 0, output
    found = json.loads(Path("out/segments.json").read_text())["images"]
    names = [[entry.get("label", "none") for entry in image["objects"]] for image in found]
    assert names == [["cat"], ["dog", "none"]]
    rows = list(csv.DictReader(Path("out/segments.csv").read_text().splitlines()))
    assert [row["label"] for row in rows] == ["cat", "dog", ""]


def test_files_of_runs_without_labels_are_as_before(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", results(3, ring, plate))
    assert "label" not in "".join(
        (run / name).read_text() for name in ("tracks.jsonl", "tracks.csv", "tracks.json")
    )
    assert open_run(run).labels() == {}
    assert "labels.npy" not in {path.name for path in export_run(run, "numpy", tmp_path / "n").iterdir()}


def test_tables_are_read_back(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", named(results(COUNT, ring, plate)), ("csv",), labelled=True)
    assert open_run(folder).labels() == LABELS
    findings = analyse_run(folder, AnalysisSettings())
    assert [entry.label for entry in findings.objects] == [LABELS[1], "object 2"]


def test_two_labels_of_an_object_in_a_file(run: Path, tmp_path: Path) -> None:
    first, second, *rest = (run / "tracks.jsonl").read_text().splitlines(keepends=True)
    for label, said in (("x", "one label per object"), ("a\\u0000", "printable characters")):
        other = rest[0].replace(LABELS[1], label)
        (tmp_path / "tracks.jsonl").write_text("".join([first, second, other]))
        with pytest.raises(VideoError, match=said):
            open_masks(tmp_path).labels()


def test_overlay_shows_names() -> None:
    rgb, mask = np.zeros((100, 200, 3), np.uint8), box(20, 60, 60, 90)
    result = FrameResult(0, 0.0, (1,), mask[None], np.ones(1, np.float32), np.ones(1, bool))
    plain = overlay(rgb, result)

    def drawn(label: str) -> np.ndarray:
        return overlay(rgb, replace(result, labels={1: label}))

    assert (drawn("grasper") != plain).any()
    assert (drawn("Zangé") == drawn("Zange")).all()
    assert (drawn("把持器") == plain).all()


# --- what is made of results --------------------------------------------------------------------------------


def test_exports_have_classes(run: Path, tmp_path: Path) -> None:
    coco = json.loads(export_run(run, "coco", tmp_path / "c.json").read_text())
    assert [entry["name"] for entry in coco["categories"]] == [LABELS[1], "object 2"]
    assert "needle driver, left" in export_run(run, "cvat", tmp_path / "c.xml").read_text()
    assert "needle driver, left" in export_run(run, "label-studio", tmp_path / "l.json").read_text()
    assert np.load(export_run(run, "numpy", tmp_path / "n") / "labels.npy").tolist() == [LABELS[1], "object 2"]
    given = export_run(run, "coco", tmp_path / "given.json", labels={1: "liver", 2: "liver"})
    assert [entry["name"] for entry in json.loads(given.read_text())["categories"]] == ["liver"]
    tracks = export_run(run, "tracks", tmp_path / "t.json", labels={2: "liver"})
    assert open_masks(tracks).labels() == {**LABELS, 2: "liver"}
    with pytest.raises(ConfigError, match="printable"):
        export_run(run, "coco", tmp_path / "bad.json", labels={1: "a\nb"})


def test_analysis_has_labels(run: Path, tmp_path: Path) -> None:
    code, output = call("analyze", run, "-o", tmp_path / "report", "--label", "2=liver")
    assert (code, "needle driver, left" in output) == (0, True)
    assert "1 needle driver, left" in (tmp_path / "report" / "report.html").read_text()
    tree = json.loads((tmp_path / "report" / "analysis.json").read_text())
    assert tree["settings"]["labels"] == {"1": LABELS[1], "2": "liver"}
    assert [entry["label"] for entry in tree["usage"]] == ["liver", LABELS[1]]


def test_supervision() -> None:
    pytest.importorskip("supervision")
    (result,) = results(1, plate, plate, plate)
    found = to_supervision(replace(result, labels={1: "b", 3: "a"}))
    assert found.class_id.tolist() == [0, 2, 1]
    assert found.data["class_name"].tolist() == ["b", "object 2", "a"]


# --- the page -----------------------------------------------------------------------------------------------


def test_names_on_the_page_are_labels() -> None:
    store = AnnotationStore((160, 96), 4)
    store.load([(0, Box((1, 2, 30, 40), label="x" * MAX_LABEL)), (1, Box((1, 2, 30, 40)))])
    assert store.current.names == {1: "x" * MAX_LABEL, 2: "Object 2"}
    assert store.current.labels == {1: "x" * MAX_LABEL}


def test_renaming_on_the_page_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("demo-clip", "c.mp4", "--frames", 3, "--width", 160, "--height", 96)[0] == 0
    prompts = "-p", "box", "-p", "box=10,20,60,70#1:grasper", "-p", "box=80,20,120,60#2:old"
    with command(tmp_path, "track", "c.mp4", *prompts, "--save", "rle,csv") as run:
        _, headers, _ = request(run.base, "/?" + run.address.split("?")[1])
        usual = {"Cookie": headers["set-cookie"].split(";")[0], "Origin": run.base.rstrip("/")}

        def post(path: str, **value: object) -> object:
            body = json.dumps(value).encode()
            status, _, answer = request(run.base, path, "POST", body, Content_Type="application/json", **usual)
            assert status == 200, answer
            return json.loads(answer)

        def saved() -> dict[int, str] | None:
            path = Path("c_tracked/run.json")
            record = json.loads(path.read_text()) if path.exists() else {"status": ""}
            found = {entry["id"]: entry.get("label") for entry in record.get("objects", ())}
            return found if record["status"] == "complete" else None

        post("/api/command", kind="track", direction="forward")
        assert wait_until(saved) == {1: "grasper", 2: "old"}
        post("/api/edit", do="rename", object=2, name="scissors")
        wait_until(lambda: saved() == {1: "grasper", 2: "scissors"})
        post("/api/edit", do="rename", object=1, name="")
        post("/api/command", kind="finish")
        assert run.ended() == 0
    assert open_masks(Path("c_tracked")).labels() == {2: "scissors"}
