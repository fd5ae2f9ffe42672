"""Ground truth and predictions in the forms that people have them: black and white, void, soft edges, colours."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from samvideo.errors import DatasetError
from samvideo.evaluation.datasets import open_dataset
from samvideo.evaluation.evaluate import score
from samvideo.evaluation.files import read_binary_png
from samvideo.io.mask_pictures import MaskRule, davis_palette
from samvideo.types import UInt8Array

COUNT = 5


def shown(index: int) -> UInt8Array:
    """Two objects that move."""
    ids = np.zeros((40, 60), np.uint8)
    ids[5:17, 5 + index : 19 + index] = 1
    ids[22:36, 30 + index : 46 + index] = 2
    return ids


def with_void(ids: UInt8Array) -> UInt8Array:
    around = cv2.dilate(ids, np.ones((5, 5), np.uint8)) > 0
    return np.where(around & (ids == 0), np.uint8(255), ids)


FORMS: dict[str, Callable[[UInt8Array], np.ndarray]] = {
    "numbers": lambda ids: ids,
    "void": with_void,
    "colours": lambda ids: davis_palette()[ids],
    "16 bit": lambda ids: ids.astype(np.uint16),
    "0 and 1": lambda ids: (ids == 1).astype(np.uint8),
    "0 and 255": lambda ids: (ids == 1).astype(np.uint8) * 255,
    "1 bit": lambda ids: ids == 1,
    "16 bit white": lambda ids: (ids == 1).astype(np.uint16) * 65535,
    "soft": lambda ids: cv2.GaussianBlur((ids == 1).astype(np.uint8) * 255, (0, 0), 1),
    "alpha": lambda ids: np.dstack([np.full((*ids.shape, 3), 255, np.uint8), (ids == 1).astype(np.uint8) * 255]),
    "0 and 1, void": lambda ids: with_void((ids == 1).astype(np.uint8)),
}


def write(folder: Path, form: str) -> Path:
    (folder / "s").mkdir(parents=True, exist_ok=True)
    for index in range(COUNT):
        Image.fromarray(FORMS[form](shown(index))).save(folder / f"s/{index:05d}.png")
    return folder


SEVERAL, ONE = list(FORMS)[:4], list(FORMS)[4:]


@pytest.mark.parametrize(
    ("truth", "prediction"),
    [(t, p) for forms in (SEVERAL, ONE) for t in forms for p in forms if t == forms[0] or p in forms[:2]],
)
def test_every_form_is_scored_against_every_other(truth: str, prediction: str, tmp_path: Path) -> None:
    results = score("folder", write(tmp_path / "gt", truth), write(tmp_path / "pred", prediction))
    assert not results["failed"]
    assert results["scores"]["objects"] == (2 if truth in SEVERAL else 1)
    assert results["scores"]["J_mean"] > (0.95 if "soft" in (truth, prediction) else 0.999)


def test_void_without_objects_in_a_frame_is_void(tmp_path: Path) -> None:
    truth, predictions = write(tmp_path / "gt", "void"), write(tmp_path / "pred", "numbers")
    ring = with_void(shown(2))
    Image.fromarray(np.where(ring == 255, ring, 0).astype(np.uint8)).save(truth / "s/00002.png")
    Image.fromarray(ring * 0).save(predictions / "s/00002.png")
    assert score("folder", truth, predictions)["scores"]["J&F"] == 1.0


@pytest.mark.parametrize("name", ["davis2016", "davis2017"])
@pytest.mark.parametrize("form", ["0 and 1", "0 and 255", "soft"])
def test_one_object_in_published_layouts(name: str, form: str, tmp_path: Path) -> None:
    for folder in ("JPEGImages", "Annotations"):
        write(tmp_path / "davis" / folder / "480p", form)
    (tmp_path / "davis/ImageSets/2017").mkdir(parents=True)
    for file in ("val.txt", "2017/val.txt"):
        (tmp_path / "davis/ImageSets" / file).write_text("s\n")
    for prediction in ("0 and 1", "0 and 255"):
        results = score(name, tmp_path / "davis", write(tmp_path / prediction, prediction))
        assert not results["failed"]
        assert results["scores"]["J_mean"] > 0.95


def test_options_decide(tmp_path: Path) -> None:
    truth, predictions = write(tmp_path / "gt", "numbers"), write(tmp_path / "pred", "numbers")
    for index in range(COUNT):
        for folder, factor in ((truth, 100), (predictions, 50)):
            Image.fromarray(shown(index) * np.uint8(factor)).save(folder / f"s/{index:05d}.png")
    results = score("folder", truth, predictions, reading=MaskRule(threshold=30))
    assert (results["scores"]["objects"], results["scores"]["J&F"]) == (1, 1.0)
    first_only = open_dataset("folder", truth, reading=MaskRule(void=200)).sequence("s")
    assert list(first_only.labels) == [100]


def test_numbers_above_255_are_refused(tmp_path: Path) -> None:
    truth = write(tmp_path / "gt", "numbers")
    Image.fromarray(shown(0).astype(np.uint16) * 300).save(truth / "s/00000.png")
    with pytest.raises(DatasetError, match=r"00000\.png has object 600: numbers up to 255"):
        open_dataset("folder", truth).sequence("s")


def test_the_mask_of_one_object(tmp_path: Path) -> None:
    for form in ONE:
        path = write(tmp_path / form, form) / "s/00000.png"
        assert abs(int(read_binary_png(path).sum()) - 12 * 14) < 12
    assert (
        int(read_binary_png(write(tmp_path / "void", "void") / "s/00000.png", joined=True).sum())
        == 12 * 14 + 14 * 16
    )
    with pytest.raises(DatasetError, match="several objects"):
        read_binary_png(write(tmp_path / "two", "numbers") / "s/00000.png")
