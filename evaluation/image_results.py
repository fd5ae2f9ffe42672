"""`results.json` of an evaluation on images, and its table: their content, and how they are read and written.

::

    format      "samvideo-image-results-1"
    dataset     name, split, description, fingerprint (SHA-256 of the pictures and masks that were scored)
    protocol    name, description, prompter (null where the ground truth prompts), measures in order: "box",
                "click1", ..., or of proposals "recall@10", ..., "AR@10", ..., "J@10", ...
    model       name, options, licence (of the weights)
    scores      images, objects, measures -> iou, error (standard error), oracle (the best candidate): fractions,
                means over objects; calibration_error of the predicted IoU
    sets, sizes the same by set, and by size of the object (`SIZES`)
    left_out    objects that do not count (crowds)
    proposals   how many there are in all images, or null
    images      name -> set, width, height, sha256, left_out, proposals, objects -> id -> area in pixels; iou,
                oracle and predicted (IoU) by measure; of proposals, iou is the measure itself
    failed      name -> message, exit_code
    timing      images, embed_seconds (or those of proposing), median_seconds (the same, of an image),
                prompt_seconds (of all prompts), prompts
    versions, machine
"""

import csv
import hashlib
import io
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, model_validator

from samvideo.errors import DatasetError
from samvideo.evaluation.confidence import CALIBRATION, calibration_error
from samvideo.evaluation.results import Amount, Count, FailureEntry, Machine, StrictModel, results_file, write_json
from samvideo.io.files import write_atomically
from samvideo.io.schema import read_json

FORMAT = "samvideo-image-results-1"
SIZES = {"small": 32**2, "medium": 96**2, "large": math.inf}
"""Upper bounds of an object's area in pixels, as in COCO."""

MAIN = ("box", "click1", "recall@50", "AR@100")
"""Measures of the smaller tables and charts."""

Fraction = Annotated[float, Field(ge=0, le=1)]


class _Object(StrictModel):
    area: Annotated[int, Field(ge=1)]
    iou: dict[str, Fraction]
    oracle: dict[str, Fraction]
    predicted: dict[str, Fraction] | None = None

    @model_validator(mode="after")
    def _complete(self) -> "_Object":
        if not self.iou.keys() == self.oracle.keys() == (self.predicted or self.iou).keys():
            raise ValueError("iou, oracle and predicted must have the same measures")
        return self


class _Image(StrictModel):
    set: str
    width: Count
    height: Count
    sha256: str
    left_out: Count
    proposals: Count | None = None
    objects: dict[str, _Object]

    def check(self, measures: Collection[str]) -> None:
        """Raise ValueError unless every object has exactly these measures."""
        for key, found in self.objects.items():
            if found.iou.keys() != set(measures):
                raise ValueError(f"object {key} has scores of {list(found.iou)}, not of {list(measures)}")


class _Timing(StrictModel):
    embed_seconds: Amount
    prompt_seconds: Amount
    prompts: Count


class _TotalTiming(_Timing):
    images: Count
    median_seconds: Amount | None = None


class _Entry(StrictModel):
    result: _Image
    masks: dict[str, dict[str, dict[str, Any]]]
    timing: _Timing


class _Measure(StrictModel):
    iou: Fraction
    error: Amount | None
    oracle: Fraction
    calibration_error: Fraction | None = None


class _Part(StrictModel):
    images: Count
    objects: Count
    measures: dict[str, _Measure]


class _Dataset(StrictModel):
    name: str
    split: str
    description: str
    fingerprint: str


class _Protocol(StrictModel):
    name: str
    description: str
    measures: Annotated[list[str], Field(min_length=1)]
    prompter: str | None = None


class _Segmenter(StrictModel):
    name: str
    options: dict[str, Any]
    licence: str


class _Results(StrictModel):
    format: Literal["samvideo-image-results-1"]
    dataset: _Dataset
    protocol: _Protocol
    model: _Segmenter
    scores: _Part
    sets: dict[str, _Part]
    sizes: dict[str, _Part]
    left_out: Count
    proposals: Count | None = None
    images: dict[str, _Image]
    failed: dict[str, FailureEntry]
    timing: _TotalTiming
    versions: dict[str, str]
    machine: Machine

    @model_validator(mode="after")
    def _complete(self) -> "_Results":
        for image in self.images.values():
            image.check(self.protocol.measures)
        for part in (self.scores, *self.sets.values(), *self.sizes.values()):
            if part.objects and part.measures.keys() != set(self.protocol.measures):
                raise ValueError(f"scores of {self.protocol.measures} expected, not of {list(part.measures)}")
        return self


class _Kind(BaseModel):
    format: str


_RESULTS, _ENTRY, _KIND = TypeAdapter(_Results), TypeAdapter(_Entry), TypeAdapter(_Kind)


def is_image_results(path: Path) -> bool:
    """Whether a file, or `results.json` in a folder, is that of an evaluation on images.

    Raises:
        DatasetError: it is missing, or no results file.
    """
    expected = "a results.json of samvideo evaluate or score"
    return read_json(results_file(path), _KIND, expected, DatasetError).format == FORMAT


def read_image_results(path: Path) -> dict[str, Any]:
    """Read a `results.json`, or the one in a folder; DatasetError if it is broken."""
    expected = "a results.json of samvideo evaluate images"
    return read_json(results_file(path), _RESULTS, expected, DatasetError).model_dump()


def read_image_entry(path: Path, measures: Collection[str] | None = None) -> dict[str, Any]:
    """Read the file of a finished image: its `result`, `masks` as COCO RLE and `timing`.

    Args:
        measures: what each object must have scores of; None: anything.

    Raises:
        DatasetError: it is missing or broken.
    """
    expected = "the scores of a finished image (delete the file and run again)"
    entry = read_json(path, _ENTRY, expected, DatasetError)
    if measures is not None:
        try:
            entry.result.check(measures)
        except ValueError as error:
            raise DatasetError(f"{path}: {error}; {expected} expected") from error
    return entry.model_dump()


class _Row(NamedTuple):
    """One object: its picture, its set, and its entry in the results."""

    image: str
    group: str
    key: str
    entry: Mapping[str, Any]


def size_of(area: int) -> str:
    """The name of the size of an object of this area."""
    return next(name for name, limit in SIZES.items() if area < limit)


def main_measures(measures: Sequence[str]) -> list[str]:
    """Those that are shown where there is not room for all: they and the last."""
    return [m for m in dict.fromkeys((*MAIN, measures[-1])) if m in measures]


def _rows(images: Mapping[str, Any]) -> list[_Row]:
    return [
        _Row(name, image["set"], key, entry)
        for name, image in images.items()
        for key, entry in image["objects"].items()
    ]


def summarise_images(images: Mapping[str, Any]) -> dict[str, Any]:
    """The parts `scores`, `sets`, `sizes`, `left_out`, `proposals` of the results."""
    rows = _rows(images)
    proposals = [image["proposals"] for image in images.values() if image.get("proposals") is not None]
    return {
        "scores": _part(rows),
        "sets": _parts(rows, lambda row: row.group, dict.fromkeys(row.group for row in rows)),
        "sizes": _parts(rows, lambda row: size_of(row.entry["area"]), SIZES),
        "left_out": sum(image["left_out"] for image in images.values()),
        "proposals": sum(proposals) if proposals else None,
    }


def _parts(rows: list[_Row], key: Callable[[_Row], str], names: Iterable[str]) -> dict[str, Any]:
    return {name: _part([row for row in rows if key(row) == name]) for name in names}


def _part(rows: list[_Row]) -> dict[str, Any]:
    """Means over objects. The standard error takes the objects of one image as dependent (clusters)."""
    _, cluster = np.unique([row.image for row in rows], return_inverse=True)
    measures = {}
    for measure in rows[0].entry["iou"] if rows else ():
        scores = np.array([row.entry["iou"][measure] for row in rows])
        oracle = float(np.mean([row.entry["oracle"][measure] for row in rows]))
        measures[measure] = {
            "iou": float(scores.mean()),
            "error": _standard_error(scores, cluster),
            "oracle": oracle,
            CALIBRATION: calibration_error(*image_predictions((row.entry for row in rows), measure)),
        }
    return {"images": len(set(cluster.tolist())), "objects": len(rows), "measures": measures}


def image_predictions(objects: Iterable[Mapping[str, Any]], measure: str) -> tuple[list[float], list[float]]:
    """Predicted and reached IoU of the objects of images; empty where the run has no predictions."""
    found = [(one["predicted"][measure], one["iou"][measure]) for one in objects if one.get("predicted")]
    return [predicted for predicted, _ in found], [reached for _, reached in found]


def _standard_error(scores: np.ndarray[Any, Any], cluster: np.ndarray[Any, Any]) -> float | None:
    """Of the mean of scores in clusters; None where there is one cluster only."""
    sums = np.bincount(cluster, scores - scores.mean())
    count = len(sums)
    return float(np.sqrt((sums**2).sum() * count / (count - 1)) / len(scores)) if count > 1 else None


def fingerprint(images: Mapping[str, Any]) -> str:
    """SHA-256 of the names and contents of all pictures and masks, whatever their order."""
    lines = sorted(f"{name} {image['sha256']}\n" for name, image in images.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def image_table(results: Mapping[str, Any]) -> str:
    """Return CSV with a row for each object."""
    measures = results["protocol"]["measures"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    kinds = {"iou": "", "oracle": " best candidate"}
    if results["protocol"]["prompter"] is not None:
        del kinds["oracle"]
    columns = [measure + suffix for suffix in kinds.values() for measure in measures]
    writer.writerow(("image", "set", "object", "area", "size", *columns))
    for row in _rows(results["images"]):
        scores = [row.entry[kind][measure] for kind in kinds for measure in measures]
        area = row.entry["area"]
        writer.writerow((row.image, row.group, row.key, area, size_of(area), *scores))
    return text.getvalue()


def write_image_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write `results.json`, and `results.csv` with a row for each object."""
    write_json(folder / "results.json", results)
    write_atomically(folder / "results.csv", image_table(results))
