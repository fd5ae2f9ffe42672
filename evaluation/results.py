"""`results.json` and its tables: their content, and how they are read and written.

::

    format      "samvideo-results-1"
    dataset     name, split, rule (which frames count), objects (those chosen, or null for all)
    protocol    name, description
    model       name, options
    scores      J&F, J_mean, J_recall, J_decay, F_mean, F_recall, F_decay, Dice_mean: fractions, means over all
                objects; objects (how many); G, J_seen, ... and challenge_iou, ... where the benchmark has them;
                absent_reported, present_missed, found_again where objects are absent, and calibration_error where
                the tracker predicts J: see `samvideo.evaluation.confidence`
    sequences   name -> frames, objects -> id -> J_mean, J_recall, J_decay, F_mean, F_recall, F_decay, Dice_mean,
                first_frame, group; per-frame lists frames (names), J, F, Dice, area and mask_area (pixels of the
                truth and of the mask), predicted (J by the tracker, not for masks made elsewhere)
    failed      name -> message, exit_code
    timing      frames, track_seconds, seconds, fps; sequences -> name -> the same; shared_seconds: of
                track_seconds, spent once for several policies that were evaluated together
    versions, machine
"""

import csv
import io
import json
import os
import platform
import zipfile
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from samvideo.errors import ConfigError, DatasetError, OutputError
from samvideo.io.files import check_writable, replacing, write_atomically
from samvideo.io.schema import read_json

FORMAT = "samvideo-results-1"
COLUMNS = ("J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay", "Dice_mean")
_PACKAGES = ("samvideo", "numpy", "opencv-python", "opencv-python-headless", "scipy", "torch", "timm", "ray")


Fraction = Annotated[float, Field(ge=-1, le=1)]
Amount = Annotated[float, Field(ge=0, le=1e9)]
Count = Annotated[int, Field(ge=0)]


class StrictModel(BaseModel):
    """A part of a results file: no type is converted, and fields that are not known are kept."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Means(StrictModel):
    J_mean: Fraction | None
    J_recall: Fraction | None
    J_decay: Fraction | None
    F_mean: Fraction | None
    F_recall: Fraction | None
    F_decay: Fraction | None
    Dice_mean: Fraction | None


class _Object(_Means):
    group: str = ""
    frames: list[str]
    J: list[Fraction]
    F: list[Fraction]
    Dice: list[Fraction]
    area: list[Count] | None = None
    mask_area: list[Count] | None = None
    predicted: list[Fraction] | None = None

    @model_validator(mode="after")
    def _complete(self) -> "_Object":
        known = [values for values in (self.area, self.mask_area, self.predicted) if values is not None]
        if {len(values) for values in (self.J, self.F, self.Dice, *known)} != {len(self.frames)}:
            raise ValueError("all lists of an object must be as long as frames")
        if (self.area is None) != (self.mask_area is None) or (self.predicted and not self.area):
            raise ValueError("area and mask_area are given together, and with predicted")
        if self.J and None in (self.J_mean, self.F_mean):
            raise ValueError("an object with scores must have their means")
        return self


class _Classes(BaseModel):
    challenge: list[Fraction]
    present: list[Fraction]
    classes: dict[str, Annotated[list[Fraction], Field(min_length=1)]]


class _Sequence(StrictModel):
    frames: Count
    objects: dict[str, _Object]


class _ClassedSequence(_Sequence):
    classes: _Classes


class _Timing(StrictModel):
    frames: Count
    track_seconds: Amount
    seconds: Amount
    shared_seconds: Amount | None = None


class _TotalTiming(_Timing):
    fps: Amount | None


class _Entry(StrictModel):
    result: _Sequence
    timing: _Timing


class _ClassedEntry(_Entry):
    result: _ClassedSequence


class _Dataset(StrictModel):
    name: str
    split: str
    rule: str
    overall: str
    objects: list[int] | None


class _Protocol(StrictModel):
    name: str
    description: str


class _Tracker(StrictModel):
    name: str
    options: dict[str, Any]


class _Scores(_Means):
    __pydantic_extra__: dict[str, Fraction | None]
    J_and_F: Annotated[Fraction | None, Field(alias="J&F")]
    objects: Count


class FailureEntry(StrictModel):
    """What went wrong with a video or image."""

    message: str
    exit_code: int


class Machine(StrictModel):
    """What `environment` says of the machine."""

    system: str
    processor: str
    cores: int | None


class _Results(StrictModel):
    format: Literal["samvideo-results-1"]
    dataset: _Dataset
    protocol: _Protocol
    model: _Tracker
    scores: _Scores
    sequences: dict[str, _Sequence]
    failed: dict[str, FailureEntry]
    timing: _TotalTiming | None
    versions: dict[str, str]
    machine: Machine

    @model_validator(mode="after")
    def _ranked(self) -> "_Results":
        if self.dataset.overall not in ("J&F", *self.scores.__pydantic_extra__):
            raise ValueError(f"scores lack {self.dataset.overall!r}, the overall score of dataset")
        return self


_RESULTS = TypeAdapter(_Results)
_ENTRY: TypeAdapter[_Entry] = TypeAdapter(_Entry)
_CLASSED_ENTRY: TypeAdapter[_Entry] = TypeAdapter(_ClassedEntry)


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write JSON with floats at full precision."""
    write_atomically(path, json.dumps(tree, indent=1, allow_nan=False) + "\n")


def results_file(path: Path) -> Path:
    """Return the path of the `results.json` in a folder, or the path itself."""
    return path / "results.json" if path.is_dir() else path


def read_results(path: Path) -> dict[str, Any]:
    """Read a `results.json`, or the one in a folder.

    Raises:
        DatasetError: it is missing or not a results file of this package.
    """
    expected = "a results.json of samvideo evaluate or score"
    return read_json(results_file(path), _RESULTS, expected, DatasetError).model_dump(
        by_alias=True, exclude_unset=True
    )


def read_entry(path: Path, by_class: bool) -> dict[str, Any]:
    """Read the file of one finished sequence: its `result` and `timing`, as in `results.json`.

    Args:
        by_class: whether the result must have the scores of classes, see `ScoringRule`.

    Raises:
        DatasetError: it is missing or broken.
    """
    expected = "the scores of a finished sequence (delete the file and run again)"
    schema = _CLASSED_ENTRY if by_class else _ENTRY
    return read_json(path, schema, expected, DatasetError).model_dump(by_alias=True, exclude_unset=True)


def table(results: Mapping[str, Any]) -> str:
    """Return CSV with a row for each object of each sequence, and one for all objects."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("sequence", "object", "group", "frames", *COLUMNS))
    for name, sequence in results["sequences"].items():
        for number, entry in sequence["objects"].items():
            row = [entry[column] for column in COLUMNS]
            rows.writerow((name, number, entry.get("group", ""), len(entry["J"]), *row))
    scores = results["scores"]
    rows.writerow(("all", "", "", "", *(scores[column] for column in COLUMNS)))
    return text.getvalue()


def write_results(folder: Path, results: Mapping[str, Any], name: str = "results.json") -> None:
    """Write the JSON and a CSV of the same name."""
    write_json(folder / name, results)
    write_atomically((folder / name).with_suffix(".csv"), table(results))


def check_target(path: Path) -> None:
    """Check that `write_results` replaces nothing but results.

    Raises:
        ConfigError: there is another file, or its table would have the same path.
    """
    table_path = path.with_suffix(".csv") if path.name else path
    if path == table_path or path.is_dir():
        raise ConfigError(
            f"{path} is not a valid path for results: a JSON file expected; its table is written beside it as CSV"
        )
    if path.exists():
        try:
            read_results(path)
        except DatasetError as error:
            raise ConfigError(
                f"{path} exists, and would be replaced: choose another path with -o ({error})"
            ) from error
    elif table_path.exists():
        raise ConfigError(f"{table_path} exists, and would be replaced: choose another path with -o")
    check_writable(path.parent)


def environment() -> dict[str, Any]:
    """Return versions and machine, without anything personal."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "machine": {"system": platform.platform(), "processor": processor(), "cores": os.cpu_count()},
    }


def processor() -> str:
    """Return the name of the CPU model, as far as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write_archive(path: Path, predictions: Path, top: str, names: Iterable[str]) -> None:
    """Pack predictions as the server of the benchmark expects them: `<top>/<sequence>/...png`, reproducibly.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for name in names:  # PNGs are compressed already
                files = sorted((predictions / name).rglob("*.png"))
                if not files:
                    raise OutputError(
                        f"{predictions / name} has no masks for {path.name}: delete its file in "
                        f"{predictions.with_name('sequences')} and run again"
                    )
                for file in files:
                    inner = Path(top) / file.relative_to(predictions)
                    archive.writestr(zipfile.ZipInfo(inner.as_posix()), file.read_bytes())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}") from error
