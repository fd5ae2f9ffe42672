"""`samvideo segment` as its users run it: results, prompts by name, and what goes wrong."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from page_helpers import command, request, wait_until
from PIL import Image
from tiny_sam import tiny_model
from typer.testing import CliRunner

from samvideo.cli import segment as segment_command
from samvideo.cli.main import app
from samvideo.io.masks import read_mask_objects
from samvideo.io.rle import decode_rle
from samvideo.prompters.base import MaskProposal
from samvideo.segmenters.base import Segmenter
from samvideo.segmenters.image_model import ImageModelSegmenter
from tests.scenes import BLUE, RED, SIZE, Shape, overlap, scene

BOX = "box=40,35,80,75"
FRAMES, TRUTH = scene(3, Shape(lambda index: (60, 55), 20, RED), Shape(lambda index: (125, 85), 15, BLUE))
DISC = TRUTH[0, 0]


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a.png, b.jpg and c.png; the current one is its parent."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pics"
    folder.mkdir()
    for frame, name in zip(FRAMES, ("a.png", "b.jpg", "c.png"), strict=True):
        Image.fromarray(frame.rgb).save(folder / name)
    return folder


@pytest.fixture
def three_candidates(monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    """A small SAM with random weights in the place of any model."""
    segmenter = ImageModelSegmenter(tiny_model())
    monkeypatch.setattr(segment_command, "image_segmenter", lambda *_, **__: segmenter)
    return segmenter


def call(*arguments: object) -> Result:
    model = [] if "--model" in arguments else ["--model", "grabcut"]
    return CliRunner().invoke(app, ["segment", *map(str, arguments), *model])


def table(folder: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(folder, "segments.csv").read_text().splitlines()))


def names(folder: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def test_every_image_of_a_folder_is_segmented_into_every_file() -> None:
    done = call("pics", "-p", BOX, "-p", "points=125,85#7", "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["status"], summary["images"], summary["objects"], summary["skipped"]) == ("complete", 3, 6, 0)
    images = {f"masks/{stem}.png" for stem in "abc"} | {f"overlay/{stem}.jpg" for stem in "abc"}
    assert names("pics_segmented") == images | {"segments.json", "segments.csv", "run.json"}
    found = read_mask_objects("pics_segmented/masks/b.png")
    assert set(found) == {1, 7}
    assert overlap(found[1], DISC) > 0.8
    assert overlap(found[7], TRUTH[0, 1]) > 0.8
    first, *_, last = table("pics_segmented")
    assert (first["image"], first["object"]) == ("a.png", "1")
    assert int(last["area"]) == read_mask_objects("pics_segmented/masks/c.png")[7].sum()
    document = json.loads(Path("pics_segmented/segments.json").read_text())
    entry = document["images"][1]["objects"][0]
    assert [image["image"] for image in document["images"]] == ["a.png", "b.jpg", "c.png"]
    assert np.array_equal(decode_rle(entry["candidates"][0]["segmentation"], SIZE), found[1])
    record = json.loads(Path("pics_segmented/run.json").read_text())
    assert {name for of_kind in record["files"].values() for name in of_kind} == names("pics_segmented") - {
        "run.json"
    }
    assert record["settings"]["prompts"] == [BOX, "points=125,85#7"]


def test_globs_and_files_each_image_once() -> None:
    done = call("pics/*.png", "pics/a.png", "pics/b.jpg", "-p", BOX, "--save", "csv", "-o", "out", "--json")
    assert done.exit_code == 0, done.output
    assert [row["image"] for row in table("out")] == ["a.png", "c.png", "b.jpg"]
    assert names("out") == {"segments.csv", "run.json"}


def test_prompts_by_name_and_what_does_not_match_is_said(caplog: pytest.LogCaptureFixture) -> None:
    prompts = {
        "images": {"a.png": [{"box": [40, 35, 80, 75], "object_id": 4}, {"points": [[125, 85]]}], "d.png": []}
    }
    Path("p.json").write_text(json.dumps(prompts))
    done = call("pics", "-p", "p.json", "--save", "csv")
    assert done.exit_code == 0, done.output
    assert [(row["image"], row["object"]) for row in table("pics_segmented")] == [("a.png", "1"), ("a.png", "4")]
    assert "no image is named d.png" in caplog.text
    assert "b.jpg, c.png: no prompt, left out" in caplog.text


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"images": {"a.png": [{"box": [1, 2, 3]}]}}, "images.a.png.0: a box of four finite numbers"),
        ({"images": {"a.png": [{"boxes": [1, 2, 3, 4]}]}}, "images.a.png.0.boxes is not known"),
        ({"images": {"a.png": [{"box": [1, 2, 30, 40], "frame": 3}]}}, "no frame or time"),
        ({"images": {"z.png": [{"box": [1, 2, 30, 40]}]}}, "no image has a prompt"),
        ({"images": {"c.png": [{"box": [400, 2, 430, 40]}]}}, "c.png: "),
        ({"images": {}}, "holds no prompt"),
        ({"images": []}, "images is []"),
    ],
)
def test_bad_prompts_by_name_are_refused(prompts: object, message: str) -> None:
    Path("p.json").write_text(json.dumps(prompts))
    done = call("pics", "-p", "p.json")
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split())
    assert not Path("pics_segmented").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.png", "-p", BOX], 3, "none.png does not exist"),
        (["pics/*.gif", "-p", BOX], 3, "no image matches"),
        (["pics"], 2, "there is no prompt"),
        (["pics", "-p", f"{BOX}@3"], 2, "no frame or time"),
        (["pics", "-p", "box=400,20,500,70"], 2, "a.png: "),
        (["pics", "-p", BOX, "--save", "gif"], 2, "cannot save 'gif'"),
        (["pics", "-p", BOX, "--model", "grabcutt"], 2, "did you mean 'grabcut'"),
        (["pics", "-p", f"{BOX}#300"], 2, "1 to 255"),
        (["pics", "twin", "-p", BOX], 2, "would have the same name, a"),
        (["pics", "number", "-p", BOX, "--multimask"], 2, "the name of a candidate of"),
        (["pics", "-p", BOX, "-o", "full"], 2, "--overwrite"),
        (["pics", "-p", BOX, "-o", "full", "--overwrite"], 2, "segments.csv would be replaced"),
        (["pics", "-p", BOX, "-o", "tracked", "--overwrite"], 2, "the record of `samvideo segment`"),
        (["out/masks", "-p", BOX, "-o", "out"], 2, "lies where the results are written"),
        (["pics", "-p", "box", "--multimask"], 2, "one mask per object"),
        (["pics", "-p", BOX, "-o", "candidate", "--overwrite"], 2, "a_2.png would be replaced"),
        (["scan.nii.gz", "-p", "points=9,9@1", "--model", "nano"], 2, "segmented by fastsam3d, not by nano"),
        (["scan.nii.gz", "pics", "-p", "points=9,9@1"], 2, "a volume is given alone"),
        (["scan.nii.gz", "-p", "points=9,9@1", "--dtype", "bf16"], 2, "in fp32"),
        (["pics", "large", "-p", "box"], 2, "images of one size: pics/a.png is 160x120, large/big.png is 200x150"),
    ],
)
def test_what_is_refused_leaves_nothing(pictures: Path, arguments: list[str], code: int, message: str) -> None:
    for place, size in (
        ("twin/a", SIZE),
        ("number/a_1", SIZE),
        ("out/masks/x", SIZE),
        ("candidate/masks/a_2", SIZE),
        ("large/big", (200, 150)),
    ):
        path = Path(f"{place}.png")
        path.parent.mkdir(parents=True)
        Image.new("RGB", size).save(path)
    Path("full").mkdir()
    Path("full/segments.csv").write_text("mine")
    Path("tracked").mkdir()
    Path("tracked/run.json").write_text('{"status": "complete", "files": {}, "mask_frames": []}')
    before = names(".")
    done = call(*arguments, "--no-browser")
    assert done.exit_code == code, done.output
    assert message in " ".join(done.output.split())
    assert names(".") == before


def test_overwrite_removes_what_run_json_lists_and_nothing_else() -> None:
    assert call("pics", "-p", BOX, "-o", "out").exit_code == 0
    Path("out/masks/mine.png").touch()
    assert call("pics/a.png", "-p", BOX, "-o", "out").exit_code == 2
    done = call("pics/a.png", "-p", BOX, "-o", "out", "--save", "masks", "--overwrite")
    assert done.exit_code == 0, done.output
    assert names("out") == {"masks/a.png", "masks/mine.png", "run.json"}


def test_the_journal_of_a_killed_command_tells_its_files() -> None:
    Path("out/masks").mkdir(parents=True)
    Path("out/masks/a.png").touch()
    Path("out/masks/b.png").touch()
    Path("out/run.json").write_text('{"command": "segment", "status": "running", "files": {}}')
    Path("out/.segmented.txt").write_text('"masks/a.png"\n"../pics/a.png"\n"masks/b')
    done = call("pics", "-p", BOX, "-o", "out", "--overwrite")
    assert done.exit_code == 2
    assert "b.png would be replaced" in done.output
    Path("out/masks/b.png").unlink()
    assert call("pics", "-p", BOX, "-o", "out", "--overwrite").exit_code == 0
    assert Path("pics/a.png").exists()


def test_a_broken_image_is_said_and_the_others_go_on(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    (pictures / "a.png").write_bytes(b"no image")
    done = call("pics", "-p", BOX, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["skipped"] == 1
    assert "a.png cannot be read as an image" in caplog.text
    assert [row["image"] for row in table("pics_segmented")] == ["b.jpg", "c.png"]
    alone = call("pics/a.png", "-p", BOX)
    assert alone.exit_code == 3, alone.output
    assert not Path("a_segmented").exists()


def test_images_of_every_kind(pictures: Path) -> None:
    """Of different sizes, with 16 bits, alpha, grey, turned by EXIF; masks have the size of the upright image."""
    rgb = FRAMES[0].rgb
    cv2.imwrite("deep.png", rgb[..., ::-1].astype(np.uint16) * 257)
    Image.fromarray(np.dstack([rgb, np.full(SIZE[::-1], 90, np.uint8)])).save("clear.png")
    Image.fromarray(rgb).convert("L").save("grey.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(rgb).save("turned.jpg", exif=turned)
    Image.fromarray(rgb).resize((300, 200)).save("large.png")
    done = call("*.png", "turned.jpg", "-p", BOX, "-o", "out")
    assert done.exit_code == 0, done.output
    assert read_mask_objects("out/masks/turned.png")[1].shape == SIZE
    assert read_mask_objects("out/masks/large.png")[1].shape == (200, 300)
    for stem in ("deep", "clear"):
        assert overlap(read_mask_objects(f"out/masks/{stem}.png")[1], DISC) > 0.8


def test_masks_are_their_own_answer() -> None:
    Image.fromarray(DISC).save("disc.png")
    done = call("pics/a.png", "-p", "mask=disc.png", "-o", "out", "--model", "nano")
    assert done.exit_code == 0, done.output
    assert np.array_equal(read_mask_objects("out/masks/a.png")[1], DISC)


def test_all_candidates(three_candidates: Segmenter) -> None:
    done = call("pics/a.png", "-p", "points=60,55", "-p", "box=10,10,60,60#9", "--multimask", "-o", "out")
    assert done.exit_code == 0, done.output
    masks = {f"masks/a{tail}.png" for tail in ("", "_0", "_1", "_2")}
    assert names("out") >= masks
    objects = json.loads(Path("out/segments.json").read_text())["images"][0]["objects"]
    assert [(entry["id"], len(entry["candidates"])) for entry in objects] == [(1, 3), (9, 3)]
    qualities = [candidate["quality"] for candidate in objects[0]["candidates"]]
    assert objects[0]["chosen"] == int(np.argmax(qualities))
    assert float(table("out")[0]["quality"]) == max(qualities)
    assert call("pics/b.jpg", "-p", "points=60,55", "-o", "out", "--overwrite").exit_code == 0
    assert {name for name in names("out") if name.startswith("masks")} == {"masks/b.png"}


def test_an_object_that_is_not_found_has_an_empty_mask() -> None:
    Path("p.json").write_text(json.dumps([{"points": [[5, 5]], "labels": [0]}]))
    done = call("pics/a.png", "-p", "p.json", "-o", "out", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["empty"] == 1
    assert table("out")[0] == dict(zip(table("out")[0], ["a.png", "1", "1.0000", "0", "", "", "", ""], strict=True))


def test_the_page_answers_each_image_and_writes_the_same_files(tmp_path: Path) -> None:
    assert call("pics", "-p", BOX, "-o", "out", "--save", "masks,csv").exit_code == 0
    plain = {name: Path("out", name).read_bytes() for name in names("out") if name != "run.json"}
    arguments = ("pics", "-p", "box", "-p", BOX, "-o", "out", "--overwrite", "--save", "masks,csv")
    with command(tmp_path, "segment", *arguments) as run:
        _, headers, _ = request(run.base, "/?" + run.address.split("?")[1])
        cookie, origin = headers["set-cookie"].split(";")[0], run.base.rstrip("/")

        def post(path: str, **value: object) -> dict[str, object]:
            body = json.dumps(value).encode()
            answer = request(
                run.base, path, "POST", body, Cookie=cookie, Origin=origin, Content_Type="application/json"
            )
            assert answer[0] == 200, answer
            found: dict[str, object] = json.loads(answer[2])
            return found

        assert len(post("/api/edit", do="rename", object=1, name="it")["annotations"]) == 3  # type: ignore[arg-type]
        post("/api/command", kind="track", direction="forward")
        wait_until(lambda: post("/api/edit", do="undo")["files"])
        post("/api/command", kind="finish")
        assert run.ended() == 0
    assert {name: Path("out", name).read_bytes() for name in names("out") if name != "run.json"} == plain
    record = json.loads(Path("out/run.json").read_text())
    assert record["settings"]["prompts"][1] == "b.jpg: box=40,35,80,75#1"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "the path of an image or folder expected"),
        ("-", "from files only"),
        ("https://example.com/a.jpg", "https://example.com/a.jpg: images are read from files only"),
        ("clip.mp4", "`samvideo track` takes it"),
    ],
)
def test_what_is_no_path_of_images_is_refused(source: str, expected: str) -> None:
    done = call(source, "-p", BOX)
    assert (done.exit_code, expected in " ".join(done.output.split())) == (3, True), done.output


def test_an_image_may_be_named_by_a_time(pictures: Path) -> None:
    (pictures / "a.png").rename("T:1.png")
    assert call("T:1.png", "-p", BOX, "-o", "out").exit_code == 0
    assert "masks/T:1.png" in names("out")
    assert call("T:1.png", "-p", BOX, "-o", "out", "--overwrite").exit_code == 0


def test_a_device_without_effect_is_said_and_an_unknown_one_refused(caplog: pytest.LogCaptureFixture) -> None:
    assert call("pics/a.png", "-p", BOX, "--device", "cuda").exit_code == 0
    assert "grabcut computes on the CPU: the device cuda has no effect" in caplog.text
    refused = call("pics/a.png", "-p", BOX, "--device", "tpu", "-o", "other")
    assert (refused.exit_code, "no device is called 'tpu'" in refused.output) == (2, True)


def test_a_mask_within_another_is_seen_in_the_mask_image() -> None:
    inner, outer = np.zeros((2, *SIZE[::-1]), np.uint8)
    inner[50:60, 50:60] = outer[40:80, 40:80] = 255
    Image.fromarray(inner).save("inner.png")
    Image.fromarray(outer).save("outer.png")
    assert call("pics/a.png", "-p", "mask=inner.png#1", "-p", "mask=outer.png#2", "-o", "out").exit_code == 0
    found = read_mask_objects("out/masks/a.png")
    assert np.array_equal(found[1], inner > 0)
    assert found[2].sum() == 40 * 40 - 10 * 10


class Discs:
    """Finds the discs of the scene, and nothing on pictures of another size."""

    def propose(self, rgb: np.ndarray) -> list[MaskProposal]:
        if rgb.shape != FRAMES[0].rgb.shape:
            return []
        whole = (0.0, 0.0, *map(float, SIZE))
        return [
            MaskProposal(mask, 0.9 - row / 10, 1.0, None, whole, label=label)
            for row, (mask, label) in enumerate(zip(TRUTH[0], ("disc", None), strict=True))
        ]


def test_everything_that_is_found_is_written_with_names_and_as_coco(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "b.jpg").unlink()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(pictures / "b.png")
    monkeypatch.setattr(segment_command, "make_prompter", lambda search: lambda segmenter: Discs())
    done = call("pics", "--everything", "--save", "masks,csv,coco,rle,overlay", "--max-objects", 2)
    assert done.exit_code == 0, done.output
    coco = json.loads(Path("pics_segmented/coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "b.png", "c.png"]
    assert {category["name"] for category in coco["categories"]} == {"disc", "object"}
    assert (decode_rle(coco["annotations"][0]["segmentation"]) == DISC).all()
    assert not read_mask_objects("pics_segmented/masks/b.png")
    assert set(read_mask_objects("pics_segmented/masks/a.png")) == {1, 2}
    assert [row["label"] for row in table("pics_segmented")[:2]] == ["disc", ""]
    search = json.loads(Path("pics_segmented/run.json").read_text())["settings"]["search"]
    assert search["max_objects"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--everything", "-p", BOX], "leave other prompts"),
        (["--everything", "--prompter", "none"], "no prompter 'none'"),
        (["-p", "text=", "--prompter", "grid"], "names nothing"),
        (["-p", "text=cat", "--prompter", "grid"], "leave --prompter grid out"),
        (["--everything", "--prompter", "text"], "needs texts"),
    ],
)
def test_searches_that_make_no_sense_are_refused(arguments: list[str], message: str) -> None:
    done = call("pics", *arguments)
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert not Path("pics_segmented").exists()
