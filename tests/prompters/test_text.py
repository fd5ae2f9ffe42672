"""Texts to labelled masks, with small untrained detectors of transformers."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samvideo import load_segmenter
from samvideo.errors import ConfigError, WeightsError
from samvideo.prompters.base import Candidate, MaskFilter
from samvideo.prompters.boxes import Detections
from samvideo.prompters.detectors import load_detector
from samvideo.prompters.factory import load_prompter
from samvideo.prompters.text import TextPrompter, best_of_each
from samvideo.segmenters.base import Segmenter
from samvideo.types import BoolArray

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from hub_server import serve_hub  # noqa: E402
from tiny_detectors import BUILDERS, save  # noqa: E402

RGB = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("detectors")
    return {kind: save(kind, root / kind) for kind in BUILDERS}


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter("nano", device="cpu")


def loaded(folder: Path, *texts: str) -> Any:
    return load_detector(str(folder), device="cpu", threshold=0.0, texts=texts or None)


@pytest.fixture(scope="module")
def detectors(folders: dict[str, Path]) -> dict[str, Any]:
    """Of boxes of any score."""
    kinds = ("grounding-dino", "owlv2", "rt-detr")
    return {kind: loaded(folders[kind], "person", "ball") for kind in kinds}


@pytest.mark.parametrize("kind", ["grounding-dino", "owlv2"])
def test_text_to_masks(segmenter: Segmenter, detectors: dict[str, Any], kind: str) -> None:
    """From texts to masks with their labels, through the bundled segmenter."""
    prompter = load_prompter("text", segmenter, detector=detectors[kind])
    proposals = prompter.propose(RGB)
    assert proposals
    assert {one.label for one in proposals} <= {"person", "ball"}
    scores = [one.score or 0 for one in proposals]
    assert scores == sorted(scores, reverse=True)
    assert all(one.mask.shape == (48, 64) for one in proposals)


def test_grounded_boxes_are_the_published_ones(folders: dict[str, Path]) -> None:
    """But their names are whole texts, and their scores those of tokens of texts."""
    detector = loaded(folders["grounding-dino"], "person", "Red ball")
    found = detector(RGB)
    model, processor = detector.model, detector.processor
    inputs = processor(images=RGB, text="person. red ball.", return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)
    published = processor.post_process_grounded_object_detection(
        outputs, inputs["input_ids"], threshold=0.0, text_threshold=0.0, target_sizes=[(48, 64)]
    )[0]
    np.testing.assert_allclose(found.boxes, published["boxes"].numpy(), atol=1e-4)
    tokens = outputs.logits[0].sigmoid().numpy()  # [CLS] person . red ball . [SEP]
    texts = np.stack([tokens[:, 1], tokens[:, 3:5].max(1)], 1)
    assert found.scores is not None
    np.testing.assert_allclose(found.scores, texts.max(1), atol=1e-6)
    assert found.labels == tuple(("person", "Red ball")[best] for best in texts.argmax(1))


def test_own_classes(folders: dict[str, Path]) -> None:
    every = loaded(folders["rt-detr"])(RGB)
    assert every.labels
    assert set(every.labels) <= {"person", "ball"}
    only = loaded(folders["rt-detr"], "person")(RGB)
    assert only.labels == ("person",) * every.labels.count("person")
    with pytest.raises(ConfigError, match="knows no 'grasper', but person, ball"):
        loaded(folders["rt-detr"], "grasper")


def test_threshold(detectors: dict[str, Any]) -> None:
    for detector in detectors.values():
        scores = detector(RGB).scores
        middle = float(np.median(scores))
        assert len(replace(detector, threshold=middle)(RGB).scores) == (scores > middle).sum()
        assert len(replace(detector, threshold=None)(RGB).scores) < len(scores)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_odd_images(detectors: dict[str, Any], size: tuple[int, int]) -> None:
    for detector in detectors.values():
        assert np.isfinite(detector(np.zeros((*size, 3), np.uint8)).boxes).all()


def test_refused_texts(folders: dict[str, Path]) -> None:
    for kind in ("grounding-dino", "owlv2"):
        with pytest.raises(ConfigError, match="give texts"):
            loaded(folders[kind])
        with pytest.raises(ConfigError, match="reads at most"):
            loaded(folders[kind], *["ball " * 15, "person " * 14])
    with pytest.raises(ConfigError, match="full stop as the end"):
        loaded(folders["grounding-dino"], "red. ball")
    with pytest.raises(ConfigError, match=r"clip: an object detector expected"):
        loaded(folders["clip"], "ball")


def test_incomplete_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folders["rt-detr"], tmp_path / "copy")
    weights = tmp_path / "copy" / "model.safetensors"
    kept = {name: value for name, value in load_file(weights).items() if "enc_score_head" not in name}
    save_file(kept, weights, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"has no weights for .*enc_score_head"):
        loaded(tmp_path / "copy")
    weights.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        loaded(tmp_path / "copy")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        loaded(tmp_path)


def test_clip(folders: dict[str, Path]) -> None:
    from samvideo.prompters.huggingface import ClipSimilarity

    similarity = ClipSimilarity(str(folders["clip"]), "cpu")
    scores = similarity([RGB, RGB[:9, :5], RGB], "red ball")
    assert scores.shape == (3,)
    assert (np.abs(scores) <= 1).all()
    assert scores[0] == pytest.approx(scores[2])
    assert similarity([], "red ball").shape == (0,)


SCRIPT = """
import json, sys
import numpy as np
from samvideo.errors import WeightsError
from samvideo.prompters.detectors import load_detector

detector = load_detector("someone/owlv2-tiny", device="cpu", threshold=0.0, texts=["ball"])
found = detector(np.zeros((32, 32, 3), np.uint8))
try:
    load_detector("someone/other", device="cpu")
except WeightsError as error:
    print(json.dumps([len(found.boxes), str(error)]))
"""


@pytest.mark.long
def test_download(folders: dict[str, Path], tmp_path: Path) -> None:
    """A process of its own, as transformers reads these variables when it is imported."""
    with serve_hub("someone/owlv2-tiny", folders["owlv2"]) as (address, asked):
        given = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env={**os.environ, **given}, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    count, message = json.loads(done.stdout)
    assert count == 16
    assert "GET /someone/owlv2-tiny/resolve/main/model.safetensors" in asked
    assert message.startswith("someone/other cannot be loaded")


class Blank:
    """A part of an image whose masks are the prompted boxes."""

    def masks(self, xy_bn2: np.ndarray, labels_bn: np.ndarray, keep: MaskFilter) -> list[Candidate]:
        found = []
        for (x1, y1), (x2, y2) in xy_bn2.round().astype(int).tolist():
            mask = np.zeros((48, 64), bool)
            mask[y1:y2, x1:x2] = True
            box = (x1, y1, x2 - 1, y2 - 1)
            found.append(Candidate(np.packbits(mask), (0, 0, 64, 48), box, 0.9, 0.9, ((x1, y1), (x2, y2))))
        return found

    def union(
        self, xy_bn2: np.ndarray, labels_bn: np.ndarray, keep: MaskFilter, above: float
    ) -> tuple[list[Candidate], BoolArray]:
        raise NotImplementedError


def test_boxes_are_suppressed_by_text() -> None:
    """Of the same text the better one stays; different texts do not see each other."""
    boxes = np.array([(0, 0, 20, 20), (1, 1, 20, 20), (0, 0, 20, 20), (30, 30, 40, 40)], np.float32)
    found = Detections(boxes, np.array([0.3, 0.8, 0.5, 0.6], np.float32), ("ball", "ball", "person", "ball"))
    proposals = TextPrompter(lambda rgb, part: Blank(), lambda rgb: found).propose(RGB)
    assert [(one.label, one.score) for one in proposals] == [
        ("ball", pytest.approx(0.8)),
        ("ball", pytest.approx(0.6)),
        ("person", pytest.approx(0.5)),
    ]
    assert TextPrompter(lambda rgb, part: Blank(), lambda rgb: Detections(boxes[:0])).propose(RGB) == []
    assert len(best_of_each(Detections(boxes), 0.5).boxes) == 2  # without names and scores: the first ones


def test_factory_wants_texts(segmenter: Segmenter) -> None:
    for name, options, message in (
        ("text", {}, "needs texts"),
        ("grid", {"texts": ["ball"]}, "no use for texts"),
        ("text", {"texts": ["ball"], "detector": lambda rgb: Detections(np.zeros((0, 4)))}, "no use for texts"),
        ("instances", {"detector": lambda rgb: Detections(np.zeros((0, 4)))}, "needs an instance segmenter"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_prompter(name, segmenter, **options)
