"""Detectors from files and functions, and what is wrong with them. Those of transformers: `test_text.py`."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samvideo.errors import ConfigError, PromptError
from samvideo.prompters.boxes import Detections
from samvideo.prompters.detectors import BoxesFile, load_detector, parse_texts

RGB = np.zeros((30, 40, 3), np.uint8)
BALL = {"box": [1, 2, 9, 12], "label": "ball", "score": 0.8}
CAT = {"box": [3, 4, 20, 25.5], "label": "cat", "score": 0.3}


def written(folder: Path, content: Any) -> str:
    path = folder / "boxes.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_file_with_one_list(tmp_path: Path) -> None:
    found = load_detector(written(tmp_path, [[1, 2, 9, 12], [3, 4, 20, 25.5]]))(RGB)
    assert found.boxes.tolist() == [[1, 2, 9, 12], [3, 4, 20, 25.5]]
    assert found.scores is None
    assert found.labels is None


def test_file_by_image(tmp_path: Path) -> None:
    file = load_detector(written(tmp_path, {"images": {"a.jpg": [BALL, CAT], "b.jpg": []}}), texts=["ball"])
    assert isinstance(file, BoxesFile)
    found = file.of("a.jpg")(RGB)
    assert found.boxes.tolist() == [BALL["box"]]
    assert found.labels == ("ball",)
    assert len(file.of("b.jpg")(RGB).boxes) == len(file.of("unknown.jpg")(RGB).boxes) == 0
    with pytest.raises(ConfigError, match="by the name of the image"):
        file(RGB)


def test_threshold(tmp_path: Path) -> None:
    name = written(tmp_path, [BALL, CAT])
    assert load_detector(name, threshold=0.8)(RGB).labels == ("ball",)
    assert load_detector(name)(RGB).labels == ("ball", "cat")
    with pytest.raises(ConfigError, match="threshold of a detector is 80"):
        load_detector(name, threshold=80)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([[1, 2, 9]], r"boxes\.0\.box has length 3: 4 expected"),
        ([[1, 2, 9, "x"]], r"boxes\.0\.box\.3 is 'x'"),
        ([{"box": [1, 2, 9, 12], "name": "ball"}], r"boxes\.0\.name is not known"),
        ([{**BALL, "score": 80}], r"boxes\.0\.score is 80"),
        ([[9, 2, 1, 12]], r"boxes\.0 is \[9\.0, 2\.0, 1\.0, 12\.0\]: x1 < x2"),
        ([BALL, [1, 2, 9, 12]], "some boxes have a label and some have none"),
        ({}, "holds no boxes"),
        ({"boxes": [BALL], "images": {"a.jpg": [BALL]}}, "or boxes and images"),
        ("box", "expected"),
    ],
)
def test_malformed_files(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        load_detector(written(tmp_path, content))


def test_texts_need_labels(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no classes"):
        load_detector(written(tmp_path, [[1, 2, 9, 12]]), texts=["ball"])
    with pytest.raises(PromptError, match="cannot be read"):
        load_detector(str(tmp_path / "none.json"))


CODE = """
import numpy as np
from samvideo.prompters.boxes import Detections

def boxes(rgb):
    return [[0, 0, rgb.shape[1], rgb.shape[0]]]

def nothing(rgb):
    return []

def labelled(rgb):
    return Detections(np.ones((2, 4), np.float32), np.array([0.2, 0.9]), ("a", "b"))

def broken(rgb):
    return rgb.width

def shapeless(rgb):
    return np.zeros((2, 5))

def infinite(rgb):
    return [[0, 0, np.nan, 1]]

number = 3
"""


def test_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own_detector_of_a_test.py"
    path.write_text(CODE)
    assert load_detector(f"{path}:boxes")(RGB).boxes.tolist() == [[0, 0, 40, 30]]
    assert load_detector(f"{path}:nothing")(RGB).boxes.shape == (0, 4)
    assert load_detector(f"{path}:labelled", threshold=0.5)(RGB).labels == ("b",)
    for name, message in (
        ("broken", "failed with AttributeError"),
        ("shapeless", "shape"),
        ("infinite", "not finite"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_detector(f"{path}:{name}")(RGB)
    for name, message in (("number", "a function expected"), ("none", "cannot be imported")):
        with pytest.raises(ConfigError, match=message):
            load_detector(f"{path}:{name}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert len(load_detector("own_detector_of_a_test:boxes")(RGB).boxes) == 1
    sys.modules.pop("own_detector_of_a_test")


@pytest.mark.parametrize("name", ["yolo", "./nowhere/detector", "a/b/c", "no_such_module_here:function", ""])
def test_unknown_names(name: str) -> None:
    with pytest.raises(ConfigError, match="detector"):
        load_detector(name)


def test_texts() -> None:
    assert parse_texts(" person; a surgical grasper ;person;") == ("person", "a surgical grasper")
    for bad in ("", " ; ", "x" * 101, "a\nb"):
        with pytest.raises(ConfigError, match="text"):
            parse_texts(bad)


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'samvideo\[detect\]'"):
        load_detector("rt-detr")
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ConfigError, match=r"pip install 'samvideo\[detect\]'"):
        load_detector("mask-rcnn")


def test_torchvision() -> None:
    """A small network of the same kind, untrained: boxes, and masks of the image's size."""
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchvision.models.detection", reason="torchvision is not installed")
    from samvideo.prompters.rcnn import Rcnn

    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 16, stride=16))
    backbone.out_channels = 8
    options = {
        "rpn_anchor_generator": detection.anchor_utils.AnchorGenerator(((8, 16),), ((1.0,),)),
        "box_roi_pool": detection.mask_rcnn.MultiScaleRoIAlign(["0"], 7, 2),
        "min_size": 64,
        "max_size": 96,
        "box_score_thresh": 0.0,
        "box_detections_per_img": 5,
    }
    masks = detection.mask_rcnn.MultiScaleRoIAlign(["0"], 14, 2)
    network = detection.MaskRCNN(backbone, 3, mask_roi_pool=masks, **options).eval()
    rgb = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    rcnn = Rcnn(network, ("background", "ball", "cat"), threshold=0.01)
    found, proposals = rcnn(rgb), rcnn.propose(rgb)
    assert isinstance(found, Detections)
    assert 0 < len(found.boxes) == len(proposals)
    assert set(found.labels or ()) <= {"ball", "cat"}
    assert [(one.label, one.score) for one in proposals] == list(
        zip(found.labels or (), found.scores.tolist() if found.scores is not None else (), strict=True)
    )
    assert all(one.mask.shape == (48, 64) and one.mask.dtype == bool for one in proposals)
    only = Rcnn(network, ("background", "ball", "cat"), threshold=0.01, texts=("cat",))(rgb)
    assert set(only.labels or ()) <= {"cat"}
    boxes_only = detection.FasterRCNN(backbone, 3, **options).eval()
    with pytest.raises(ConfigError, match="finds boxes only"):
        Rcnn(boxes_only, ("background", "ball", "cat")).propose(rgb)


def test_classes_of_torchvision_are_checked_before_a_download() -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    with pytest.raises(ConfigError, match=r"mask-rcnn knows no 'grasper', but person, bicycle"):
        load_detector("mask-rcnn", texts=["grasper"])
