"""Evaluations of proposals: measures as pycocotools computes them, and a run from images to the report."""

import json
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_builders import BUILDERS, folder_of_masks
from evaluation_helpers import SIZE_WH, index_map, number, write_frames, write_masks
from fill_segmenter import FillSegmenter
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from typer.testing import CliRunner

from samvideo.cli.image_summary import image_summary
from samvideo.cli.main import app
from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.datasets import open_dataset
from samvideo.evaluation.image_evaluation import (
    AnnotatedImage,
    ImageEvaluation,
    ImageTask,
    evaluate_images,
    open_pictures,
)
from samvideo.evaluation.image_results import read_image_results
from samvideo.evaluation.proposals import ProposalTask, Propose, make_propose, measure, overlaps, ranked
from samvideo.evaluation.report import write_report
from samvideo.io.masks import encode_rle, write_index_png
from samvideo.io.sink import VideoWriter
from samvideo.prompters import factory
from samvideo.prompters.base import MaskProposal
from samvideo.search_settings import SearchSettings
from samvideo.segmenters.factory import load_segmenter
from samvideo.types import BoolArray, UInt8Array, image_wh

SIZE_HW = 30, 40
CROP = (0.0, 0.0, 40.0, 30.0)


def proposal(mask: BoolArray, quality: float, score: float | None = None) -> MaskProposal:
    return MaskProposal(mask, quality, float("nan"), None, CROP, score=score)


def blocks(rng: np.random.Generator, count: int) -> list[BoolArray]:
    """Rectangles that overlap much, some equal to others, so that proposals compete for them."""
    masks = []
    for _ in range(count):
        y, x = rng.integers(0, 6, 2)
        mask = np.zeros(SIZE_HW, bool)
        mask[y : y + rng.integers(12, 20), x : x + rng.integers(15, 25)] = True
        masks.append(mask)
    return masks


def by_pycocotools(truth: list[list[BoolArray]], found: list[list[MaskProposal]], counts: list[int]) -> list[float]:
    """AR at each number of proposals."""
    pairs = [(image, mask) for image, masks in enumerate(truth, 1) for mask in masks]
    annotations = [
        {"id": k, "image_id": image, "category_id": 1 + k % 2, "iscrowd": 0, "area": int(mask.sum())}
        | {"segmentation": encode_rle(mask)}
        for k, (image, mask) in enumerate(pairs, 1)
    ]
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": k, "width": SIZE_HW[1], "height": SIZE_HW[0]} for k in range(1, len(truth) + 1)],
        "categories": [{"id": 1}, {"id": 2}],
        "annotations": annotations,
    }
    coco.createIndex()
    results = [
        {"image_id": image, "category_id": 1, "score": one.quality, "segmentation": encode_rle(one.mask)}
        for image, proposals in enumerate(found, 1)
        for one in proposals
    ]
    evaluation = COCOeval(coco, coco.loadRes(results), "segm")
    evaluation.params.useCats, evaluation.params.maxDets = 0, counts
    evaluation.evaluate()
    evaluation.accumulate()
    recall = evaluation.eval["recall"]  # thresholds, classes, areas, counts
    return [float(recall[:, 0, 0, place].mean()) for place in range(len(counts))]


@pytest.mark.parametrize("seed", range(4))
def test_average_recall_is_that_of_pycocotools(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    rng, counts = np.random.default_rng(seed), [1, 3, 10, 100]
    truth = [blocks(rng, count) for count in (6, 1, 4, 9)]
    found = [[proposal(mask, float(rng.integers(5)) / 4) for mask in blocks(rng, 30)] for _ in truth]
    expected = by_pycocotools(truth, found, counts)
    scored = [measure(overlaps(ranked(f), t), counts) for t, f in zip(truth, found, strict=True)]
    for count, value in zip(counts, expected, strict=True):
        assert np.concatenate([one[f"AR@{count}"] for one in scored]).mean() == pytest.approx(value, abs=1e-12)


def test_measures_of_a_made_image() -> None:
    overlap = np.array([[0.6, 0.7, 0.0], [0.9, 0.8, 0.0], [0.5, 0.0, 0.0]])
    found = measure(overlap, [1, 2, 50])
    assert found["recall@1"].tolist() == [1, 1, 0]  # one proposal covers both
    assert found["AR@1"] == pytest.approx([0, 0.5, 0])  # but finds the second, at IoU 0.5 to 0.7
    assert found["J@2"].tolist() == [0.9, 0.8, 0]
    assert found["AR@2"] == pytest.approx([0.9, 0.5, 0])  # the second finds the first
    assert found["AR@50"].tolist() == found["AR@2"].tolist()
    nothing = measure(np.zeros((0, 2)), [10])
    assert {name: values.tolist() for name, values in nothing.items()} == {name: [0.0, 0.0] for name in nothing}
    assert measure(np.zeros((3, 0)), [10])["AR@10"].shape == (0,)


def test_the_score_of_a_detector_comes_before_quality() -> None:
    mask = np.ones(SIZE_HW, bool)
    rated = [proposal(mask, quality) for quality in (0.2, float("nan"), 0.9)]
    assert [one.quality for one in ranked(rated)][:2] == [0.9, 0.2]
    detected = [proposal(mask, 0.2, 0.3), proposal(mask, 0.1, 0.8)]
    assert [one.score for one in ranked(detected)] == [0.8, 0.3]
    assert overlaps([proposal(~mask, 1.0)], [mask]).tolist() == [[0.0]]  # an empty proposal


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three images of two objects, the last one without any."""
    root = tmp_path / "data"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for k in range(3):
        index = np.zeros(SIZE_HW, np.uint8)
        index[5:15, 4:14], index[5:15, 20:30] = 1, 2
        write_index_png(root / f"masks/{k}.png", index * (k < 2))
        Image.fromarray(np.full((*SIZE_HW, 3), 9 * k, np.uint8)).save(root / f"images/{k}.jpg")
    return root


def propose(shown: AnnotatedImage) -> list[MaskProposal]:
    """Half of the second object, then the first one."""
    masks = np.zeros((2, *SIZE_HW), bool)
    masks[0, 5:15, 20:25], masks[1, 5:15, 4:14] = True, True
    return ranked([proposal(masks[1], 0.5), proposal(masks[0], 0.9)])


def make() -> Propose:
    return propose


def evaluation(root: Path, out: Path, most: int = 1000) -> ImageEvaluation:
    task = ProposalTask(root, None, "everything", out, search=SearchSettings("halves", most=most))
    return ImageEvaluation(task, "made", make, tuple(task.open().pictures))


def test_from_images_to_the_report(pictures: Path, tmp_path: Path) -> None:
    results = evaluate_images(evaluation(pictures, tmp_path / "run"))
    assert read_image_results(tmp_path / "run") == results
    scores = results["scores"]["measures"]
    assert list(scores) == results["protocol"]["measures"]
    assert (results["scores"]["objects"], results["proposals"]) == (4, 6)
    assert [scores[name]["iou"] for name in ("recall@10", "J@50")] == [1.0, 0.75]
    assert scores["AR@1000"]["iou"] == pytest.approx((1 + 0.1) / 2)
    first = evaluate_images(evaluation(pictures, tmp_path / "first", most=1))["scores"]["measures"]
    assert {name: found["iou"] for name, found in first.items()} == {"recall@1": 0.5, "AR@1": 0.05, "J@1": 0.25}
    (tmp_path / "run/images/images/1.jpg.json").unlink()
    assert evaluate_images(evaluation(pictures, tmp_path / "run"))["scores"] == results["scores"]
    with pytest.raises(ConfigError, match="another evaluation: its search"):
        evaluate_images(evaluation(pictures, tmp_path / "run", most=5))
    summary = image_summary(results, tmp_path)
    assert "2.0 proposals per image" in summary
    assert "recall@50        AR@100        J@1000" in summary
    task = ImageTask(pictures, None, "box", tmp_path / "box")
    evaluate_images(ImageEvaluation(task, "fill", FillSegmenter, tuple(task.open().pictures)))
    page, markdown, _ = (
        path.read_text() for path in write_report([tmp_path / "run", tmp_path / "box"], tmp_path / "r.html")
    )
    for text in (page, markdown):
        assert "Proposals: data all" in text
        assert "Images: data all" in text
        assert "made, halves" in text
        assert "proposals per image" in text
    assert "Worst objects: J@1000" in page


def evaluate(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_boxes_of_the_ground_truth(pictures: Path, tmp_path: Path) -> None:
    given = ("--prompter", "boxes", "--detector", "truth", "--proposals", 50, "--limit", 1)
    found = evaluate("images", pictures, "-o", tmp_path / "truth", *given)
    assert found.exit_code == 0, found.output
    results = json.loads((tmp_path / "truth/results.json").read_text())
    assert results["proposals"] == 2
    assert results["protocol"]["prompter"] == "boxes"
    assert results["timing"]["median_seconds"] > 0
    assert "the prompter boxes with the boxes of the ground truth" in found.output
    assert "s (median) and 2.0 proposals per image" in found.output


def test_boxes_of_a_file_by_picture(pictures: Path) -> None:
    boxes = pictures / "boxes.json"
    boxes.write_text(json.dumps({"images": {"images/0.jpg": [[4, 5, 14, 15]]}}))
    propose = make_propose(partial(load_segmenter, "nano"), SearchSettings("boxes", detector=str(boxes)))
    rgb = np.zeros((*SIZE_HW, 3), np.uint8)
    found = [len(propose(AnnotatedImage(name, rgb, {}))) for name in ("images/0.jpg", "images/1.jpg")]
    assert found == [1, 0]


@pytest.mark.parametrize(("name", "build"), BUILDERS)
def test_first_frames_of_every_data_set(name: str, build: Callable[[Path], str], tmp_path: Path) -> None:
    split = build(tmp_path)
    if build is folder_of_masks:
        with pytest.raises(DatasetError, match="no pictures"):
            open_pictures(tmp_path, split, dataset=name)
        return
    images = open_pictures(tmp_path, split, dataset=name)
    for file in (picture.path for picture in images.pictures.values() if not picture.path.exists()):
        with VideoWriter(file, SIZE_WH, Fraction(24)) as writer:
            for index in range(30):
                writer.write(np.zeros((*SIZE_WH[::-1], 3), np.uint8), index / 24)
    counts = {name: len(images.masks(name, image_wh(images.read(name)))) for name in images.pictures}
    videos = open_dataset(name, tmp_path, split)
    assert sum(counts.values()) == sum(len(videos.sequence(each).first_seen) for each in videos.sequences())
    assert min(counts.values()) > 0


def test_frames_of_videos_where_objects_first_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "videos"
    for name, objects in (("a", {1: (2, 3), 2: (20, 8)}), ("b", {1: (4, 4)})):
        write_frames(root / "JPEGImages" / name, number(3))
        write_masks(root / "Annotations" / name, number(3), objects, late=1)

    class Squares:
        def propose(self, rgb: UInt8Array) -> list[MaskProposal]:
            return [proposal(index_map({1: place}) > 0, 1.0) for place in ((2, 3), (21, 8), (4, 4))]

    monkeypatch.setattr(factory, "load_prompter", lambda *arguments, **options: Squares())
    found = evaluate("folder", root, "--prompt", "everything", "-o", tmp_path / "run")
    assert found.exit_code == 0, found.output
    results = read_image_results(tmp_path / "run")
    assert results["dataset"]["description"] == "the frames where objects first appear, each with its new objects"
    assert {name: list(image["objects"]) for name, image in results["images"].items()} == {
        "a/00000": ["1"],
        "a/00001": ["2"],
        "b/00000": ["1"],
    }
    assert {name: part["measures"]["J@1000"]["iou"] for name, part in results["sets"].items()} == {"a": 1, "b": 1}
    assert results["scores"]["measures"]["J@1"]["iou"] == pytest.approx(0.6, abs=0.2)
    chosen = ("--sequences", "a", "--objects", 2, "-o", tmp_path / "chosen")
    assert evaluate("folder", root, "--prompter", "learned", *chosen).exit_code == 0
    assert list(read_image_results(tmp_path / "chosen")["images"]) == ["a/00001"]
    page, *_ = write_report([tmp_path / "run"], tmp_path / "r.html")
    assert "Worst objects: J@1000" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--protocol", "box", "--prompter", "grid"), "--protocol box is not a search"),
        (("--prompter", "nosuch"), "no prompter 'nosuch'"),
        (("--prompt", "everything", "--sequences", "a"), "--sequences is for videos"),
        (("--prompt", "box=1,2,3,4"), "--prompt 'box=1,2,3,4': everything expected"),
        (("--prompt", "everything", "--text", "a cat"), "there are 2 searches"),
        (("--prompter", "grid", "--text", "a cat"), "leave --prompter grid out"),
        (("--detector", "truth"), "boxes, text, instances, not for learned"),
        (("--prompter", "instances", "--detector", "truth"), "for --prompter boxes, not for instances"),
        (("--prompter", "boxes"), "needs a detector"),
        (("--prompter", "boxes", "--detector", "nosuch"), "no detector 'nosuch'"),
    ],
)
def test_what_is_refused(pictures: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    found = evaluate("images", pictures, "-o", tmp_path / "out", *arguments)
    assert found.exit_code == 2, found.output
    assert message in " ".join(found.output.split())


def test_a_segmenter_without_a_model() -> None:
    with pytest.raises(ConfigError, match="model of the SAM family"):
        make_propose(FillSegmenter, SearchSettings("grid"))
