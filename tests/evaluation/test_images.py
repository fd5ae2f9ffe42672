"""Evaluations on images: scores of masks with known overlap, data sets in all their forms, resuming, the report."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_helpers import write_frames, write_masks
from fill_segmenter import Filler, FillSegmenter
from PIL import Image
from test_broken_files import check
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.coco_images import CocoImages
from samvideo.evaluation.image_evaluation import ImageEvaluation, ImageTask, evaluate_images, open_images
from samvideo.evaluation.image_protocols import find_image_protocol, iou, prompt_all
from samvideo.evaluation.image_report import ObjectGallery
from samvideo.evaluation.image_results import read_image_results, summarise_images
from samvideo.evaluation.image_sets import choose_pictures
from samvideo.evaluation.published import published_images
from samvideo.evaluation.report import write_report
from samvideo.evaluation.shard import LocalPool
from samvideo.io.masks import encode_rle, write_index_png
from samvideo.types import BoolArray

WIDTH, HEIGHT = 40, 30


def block(left: int, right: int) -> BoolArray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:15, left:right] = True
    return mask


def evaluation(root: Path, out: Path, protocol: str = "box,click3", **options: Any) -> ImageEvaluation:
    limit = options.pop("limit", None)
    task = ImageTask(root, options.pop("split", None), protocol, out)
    return ImageEvaluation(task, "fill", FillSegmenter, choose_pictures(task.open(), limit))


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Two sets: objects of 12 columns, and of the 12 columns but two in the middle; one image without objects."""
    root = tmp_path / "data"
    for group, columns in (("a", range(12)), ("deep/b", [*range(5), *range(7, 12)])):
        for folder in ("images", "masks"):
            (root / group / folder).mkdir(parents=True)
        for k in range(3):
            index = np.zeros((HEIGHT, WIDTH), np.uint8)
            index[5:15, [4 + column for column in columns]] = 1 + k
            if k == 2:
                index[20:22, 30:32] = 9
            write_index_png(root / group / f"masks/{k}.png", index if (group, k) != ("a", 0) else 0 * index)
            Image.fromarray(np.full((HEIGHT, WIDTH, 3), 9 * k, np.uint8)).save(root / group / f"images/{k}.jpg")
    return root


def test_known_overlaps() -> None:
    assert iou(block(4, 16), block(4, 10)) == 0.5
    assert iou(block(0, 4), block(8, 12)) == 0
    image, masks = Filler(np.zeros((HEIGHT, WIDTH, 3), np.uint8)), {"x": block(4, 16), "y": block(20, 25)}
    found = prompt_all(image, masks, find_image_protocol("box,click4"))
    assert [found["x"][measure].iou for measure in found["x"]] == [1, 5 / 12, 10 / 12, 12 / 14, 11 / 12]
    assert found["x"]["click1"].oracle == 1
    # all objects at once, with the answers before; without error there are no more clicks, and the answer stays
    assert image.calls == [([0, 0], []), ([1, 1], []), ([2], [1]), ([3], [1]), ([4], [1])]
    assert [found["y"][measure].iou for measure in found["y"]] == [1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "name", ["", "mask", "click0", "click21", "clicks5", "box,box", "click1,click2", "box;click1"]
)
def test_unknown_protocols(name: str) -> None:
    with pytest.raises(ConfigError, match="box, click1 to click20, or both"):
        find_image_protocol(name)


def test_folders_of_masks(sets: Path, tmp_path: Path) -> None:
    results = evaluate_images(evaluation(sets, tmp_path / "run"))
    assert results["dataset"]["name"] == "data"
    assert list(results["sets"]) == ["a", "deep/b"]
    assert results["scores"]["objects"] == 7
    assert results["scores"]["images"] == 5
    perfect = results["sets"]["a"]["measures"]["box"]
    assert perfect.pop("calibration_error") == pytest.approx(0.1, abs=1e-6)  # it predicts 0.9
    assert perfect == {"iou": 1.0, "error": 0.0, "oracle": 1.0}
    entry = results["images"]["deep/b/images/1.jpg"]["objects"]
    assert entry["2"]["iou"]["box"] == pytest.approx(100 / 120)
    assert entry["2"]["area"] == 100
    assert results["sizes"]["small"]["objects"] == 7
    assert results["sizes"]["large"] == {"images": 0, "objects": 0, "measures": {}}
    table = (tmp_path / "run/results.csv").read_text().splitlines()
    assert len(table) == 8
    assert table[0].startswith("image,set,object,area,size,box,click1,click2,click3,box best candidate")
    assert evaluate_images(evaluation(sets, tmp_path / "b", split="deep"))["scores"]["objects"] == 4


def test_standard_error_of_clusters() -> None:
    def image(*scores: float) -> dict[str, Any]:
        objects = {str(k): {"area": 2000, "iou": {"box": s}, "oracle": {"box": s}} for k, s in enumerate(scores)}
        return {"set": "a", "left_out": 1, "objects": objects}

    alone = summarise_images({"x": image(0.2), "y": image(0.4), "z": image(0.9)})
    expected = np.std([0.2, 0.4, 0.9], ddof=1) / math.sqrt(3)
    assert alone["scores"]["measures"]["box"]["error"] == pytest.approx(expected)
    assert alone["left_out"] == 3
    twice = summarise_images({"x": image(0.2, 0.2), "y": image(0.4, 0.4), "z": image(0.9, 0.9)})
    assert twice["scores"]["measures"]["box"]["error"] == pytest.approx(expected)  # copies tell nothing new
    assert summarise_images({"x": image(0.2, 0.9)})["scores"]["measures"]["box"]["error"] is None
    assert summarise_images({})["scores"] == {"images": 0, "objects": 0, "measures": {}}


def test_interrupted_evaluations_go_on(sets: Path, tmp_path: Path) -> None:
    whole = evaluate_images(evaluation(sets, tmp_path / "whole"))
    evaluate_images(evaluation(sets, tmp_path / "parts", limit=2))
    seen: list[tuple[str, int, int]] = []
    parts = evaluate_images(evaluation(sets, tmp_path / "parts"), LocalPool(1), lambda *done: seen.append(done))
    assert [done for _, done, _ in seen] == [1, 2, 3, 4, 5, 6]
    for key in ("dataset", "protocol", "model", "scores", "sets", "sizes", "images"):
        assert parts[key] == whole[key]
    assert read_image_results(tmp_path / "parts") == parts
    with pytest.raises(ConfigError, match="another evaluation: its protocol"):
        evaluate_images(evaluation(sets, tmp_path / "parts", "box"))
    with pytest.raises(ConfigError, match="lie in one another"):
        evaluate_images(evaluation(sets, sets / "run"))
    Image.new("RGB", (WIDTH, HEIGHT), "red").save(sets / "a/images/1.jpg")
    assert (
        evaluate_images(evaluation(sets, tmp_path / "new"))["dataset"]["fingerprint"]
        != (whole["dataset"]["fingerprint"])
    )


def test_failures_of_one_image_do_not_stop_the_rest(sets: Path, tmp_path: Path) -> None:
    (sets / "a/images/1.jpg").write_bytes(b"no image")
    Image.new("L", (5, 5)).save(sets / "deep/b/masks/0.png")
    write_index_png(sets / "deep/b/masks/0.png", np.ones((5, 5), np.uint8))
    results = evaluate_images(evaluation(sets, tmp_path / "run"))
    assert sorted(results["failed"]) == ["a/images/1.jpg", "deep/b/images/0.jpg"]
    assert "is 5x5, its picture 40x30" in results["failed"]["deep/b/images/0.jpg"]["message"]
    assert results["scores"]["objects"] == 5
    (sets / "a/masks/7.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"7\.png has no picture"):
        open_images(sets)


def test_first_frames(tmp_path: Path) -> None:
    for depth in ("", "480p"):
        root = tmp_path / f"d{depth}"
        for name in ("bear", "cow"):
            write_frames(root / "JPEGImages" / depth / name, ["00000", "00001"])
            write_masks(root / "Annotations" / depth / name, ["00000", "00001"], {1: (4, 6), 2: (20, 6)})
        (root / "ImageSets").mkdir()
        (root / "ImageSets/val.txt").write_text("cow\n")
        part = f"JPEGImages/{depth}/" if depth else "JPEGImages/"
        assert list(open_images(root).pictures) == [f"{part}bear/00000.jpg", f"{part}cow/00000.jpg"]
        images = open_images(root, "val")
        assert list(images.pictures) == [f"{part}cow/00000.jpg"]
        assert sorted(images.masks(f"{part}cow/00000.jpg", (48, 32))) == ["1", "2"]
        with pytest.raises(ConfigError, match="no split 'test'"):
            open_images(root, "test")


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        open_images(tmp_path / "none")
    with pytest.raises(DatasetError, match="has no images with masks"):
        open_images(tmp_path)
    with pytest.raises(ConfigError, match="--split"):
        open_images(tmp_path, "../x")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """COCO's layout: a compressed RLE, one that is not, polygons, a crowd, and an image with a crowd only."""
    root = tmp_path / "coco"
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    images = []
    for number in (1, 2, 3):
        name = f"{number:012d}.jpg"
        Image.new("RGB", (WIDTH, HEIGHT), (0, 80 * number, 0)).save(root / "val2017" / name)
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT, "license": 1})
    runs = [4 * HEIGHT + 5, *([10, 20] * 12)[:-1], 20 - 5 + 24 * HEIGHT - 10]
    runs[-1] += WIDTH * HEIGHT - sum(runs)
    square = [[4, 5, 16, 5, 16, 15, 4, 15]]
    two = [[4, 5, 8, 5, 8, 15, 4, 15], [12, 5, 16, 5, 16, 15, 12, 15]]
    forms: list[Any] = [encode_rle(block(4, 16)), {"size": [HEIGHT, WIDTH], "counts": runs}, square, two]
    annotations = [
        {"id": 10 + k, "image_id": 1 + k // 2, "category_id": 1, "iscrowd": 0, "segmentation": form}
        for k, form in enumerate(forms)
    ]
    crowd = {"id": 20, "category_id": 1, "iscrowd": 1, "segmentation": forms[1]}
    annotations += [crowd | {"image_id": 1}, crowd | {"id": 21, "image_id": 3}]
    tree = {"info": {}, "images": images, "annotations": annotations, "categories": []}
    (root / "annotations/instances_val2017.json").write_text(json.dumps(tree))
    return root


def test_forms_of_coco(coco: Path, tmp_path: Path) -> None:
    images = open_images(coco, "val2017")
    assert [images.left_out(name) for name in images.pictures] == [1, 0, 1]
    names = list(images.pictures)
    masks = {key: mask for name in names for key, mask in images.masks(name, (WIDTH, HEIGHT)).items()}
    for key in ("10", "11", "12"):
        assert np.array_equal(masks[key], block(4, 16)), key
    assert np.array_equal(masks["13"], block(4, 8) | block(12, 16))
    results = evaluate_images(evaluation(coco, tmp_path / "run", "box"))
    assert results["left_out"] == 2
    assert results["scores"]["objects"] == 4
    assert results["scores"]["measures"]["box"]["iou"] == pytest.approx((3 + 80 / 120) / 4)
    assert results["dataset"]["split"] == "val2017"
    same = evaluate_images(evaluation(coco / "annotations/instances_val2017.json", tmp_path / "file", "box"))
    assert same["images"] == results["images"]


def test_names_as_in_lvis(coco: Path) -> None:
    file = coco / "annotations/instances_val2017.json"
    tree = json.loads(file.read_text())
    for image in tree["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{image.pop('file_name')}"
    file.write_text(json.dumps(tree))
    assert next(iter(open_images(coco).pictures)) == "val2017/000000000001.jpg"


def set_in(tree: Any, path: str, value: Any) -> None:
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for key in parents:
        tree = tree[key]
    tree[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("annotations.1.image_id", 99, "annotations.1.image_id is 99: the id of one of its images"),
        ("annotations.1.id", 10, "annotations.1.id is 10, as of another"),
        ("annotations.1.iscrowd", 5, "annotations.1.iscrowd is 5"),
        ("annotations.1.segmentation", 5, "annotations.1.segmentation"),
        ("images.1.id", 1, "images.1.id is 1, as of another image"),
        ("images.1.width", 0, "images.1.width is 0"),
        ("images.0.file_name", "../x.jpg", "relative path below"),
        ("annotations", [], "annotates no image"),
    ],
)
def test_broken_annotations(coco: Path, path: str, value: Any, message: str) -> None:
    file = coco / "annotations/instances_val2017.json"
    tree = json.loads(file.read_text())
    set_in(tree, path, value)
    file.write_text(json.dumps(tree))
    with pytest.raises(DatasetError, match=message) as caught:
        open_images(coco)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5]],
        [[1, 2, 3, 4, 5, "6"]],
        [[1, 2, 3, 4, 5, 1e9]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [5],
        {},
        {"size": [HEIGHT, WIDTH], "counts": [5]},
        {"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]},
        {"size": [HEIGHT, WIDTH], "counts": "zz~"},
    ],
)
def test_broken_masks_fail_their_image_only(coco: Path, tmp_path: Path, value: Any) -> None:
    file = coco / "annotations/instances_val2017.json"
    tree = json.loads(file.read_text())
    set_in(tree, "annotations.2.segmentation", value)
    file.write_text(json.dumps(tree))
    results = evaluate_images(evaluation(coco, tmp_path / "run", "box"))
    assert list(results["failed"]) == ["000000000002.jpg"]
    message = results["failed"]["000000000002.jpg"]["message"]
    assert message.startswith(f"{file}: annotations.2.segmentation: "), message
    assert results["failed"]["000000000002.jpg"]["exit_code"] == 3
    assert results["scores"]["objects"] == 2


def test_damaged_files(coco: Path, tmp_path: Path) -> None:
    file = coco / "annotations/instances_val2017.json"

    def read() -> None:
        images = CocoImages(file, "val2017")
        for name in images.pictures:
            images.masks(name, (WIDTH, HEIGHT))

    assert check(file, read, 200) > 60
    run = tmp_path / "run"
    results = evaluate_images(evaluation(coco, run, "box"))
    assert read_image_results(run) == results
    assert check(run / "results.json", partial(write_report, [run], tmp_path / "page.html"), 40) > 20
    entry = run / "images/000000000001.jpg.json"
    assert check(entry, lambda: evaluate_images(evaluation(coco, run, "box")), 60) > 20
    gallery = ObjectGallery(run)
    assert gallery.thumbnail("../x", "10", "box") is None
    assert gallery.thumbnail("000000000001.jpg", "99", "box") is None


def test_pictures_that_are_not_there(coco: Path, tmp_path: Path) -> None:
    (coco / "val2017/000000000002.jpg").unlink()
    assert list(evaluate_images(evaluation(coco, tmp_path / "run"))["failed"]) == ["000000000002.jpg"]
    (coco / "val2017").rename(coco / "elsewhere")
    with pytest.raises(DatasetError, match=r"such as 000000000001\.jpg, are not there"):
        open_images(coco)
    (coco / "annotations/instances_train2017.json").write_text("{}")
    with pytest.raises(ConfigError, match="several splits: choose one with --split: train2017, val2017"):
        open_images(coco)


def test_limits_reach_every_set(sets: Path) -> None:
    assert len(choose_pictures(open_images(sets))) == 6
    assert choose_pictures(open_images(sets), 2) == ("a/images/0.jpg", "deep/b/images/0.jpg")
    assert len(choose_pictures(open_images(sets), 5)) == 5


def test_report(sets: Path, coco: Path, tmp_path: Path) -> None:
    evaluate_images(evaluation(sets, tmp_path / "one"))
    evaluate_images(evaluation(sets, tmp_path / "two", limit=3))
    evaluate_images(evaluation(coco, tmp_path / "three", "box"))
    folders = [tmp_path / name for name in ("one", "two", "three")]
    page, markdown, latex = (path.read_text() for path in write_report(folders, tmp_path / "r.html"))
    for text in (page, markdown):
        assert "Images: data all" in text
        assert "fill (one)" in text
        assert "EfficientViT-SAM XL1" in text
        assert "box, best candidate" not in text or "click1, best candidate" in text
    assert "have not scored the same images" in page
    assert page.count("data:image/jpeg;base64") >= 12
    assert "deep/b" in page
    assert "\\begin{tabular}" in latex
    assert markdown.count("compare rows of one source only") == 1


def test_published_numbers_are_those_of_the_sources() -> None:
    columns, rows = published_images()
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    of_survey = {row["method"]: row for row in table if row["source"].startswith("survey")}
    assert of_survey["TinySAM"]["COCO box mIoU"] == "73.7"
    assert of_survey["EfficientViT-SAM XL1"]["COCO AP"] == "47.8"
    assert all(row["source"] and row["method"] for row in table)
    assert len({(row["method"], row["source"]) for row in table}) == len(table)


def test_command(sets: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["evaluate", "images", str(sets), *arguments])

    out = str(tmp_path / "run")
    found = run("--model", "grabcut", "-o", out, "--protocol", "box", "--limit", "4")
    assert found.exit_code == 0, found.output
    assert "objects in 3 images, 0 left out (crowds)" in found.output
    assert run("-o", out, "--model", "nosuch").exit_code == 2
    assert run("-o", out, "--sequences", "a").exit_code == 2
    assert run("-o", out, "--protocol", "mask").exit_code == 2
    assert run("-o", str(tmp_path / "new"), "--split", "c").exit_code == 2
