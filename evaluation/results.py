"""`results.json` and its tables: their content, and how they are read and written.

::

    format      "samvideo-results-1"
    dataset     name, split, rule (which frames count), objects (those chosen, or null for all)
    protocol    name, description
    model       name, options
    scores      J&F, J_mean, J_recall, J_decay, F_mean, F_recall, F_decay, Dice_mean: fractions, means over all
                objects; objects (how many); G, J_seen, ... and challenge_iou, ... where the benchmark has them
    sequences   name -> frames, objects -> id -> J_mean, J_recall, J_decay, F_mean, F_recall, F_decay, Dice_mean,
                first_frame, group; per-frame lists frames (names), J, F, Dice
    failed      name -> message, exit_code
    timing      frames, track_seconds, seconds, fps; sequences -> name -> the same
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
from typing import Any

from samvideo.errors import DatasetError, OutputError
from samvideo.io.files import replacing, write_atomically

FORMAT = "samvideo-results-1"
COLUMNS = ("J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay", "Dice_mean")
_PACKAGES = ("samvideo", "numpy", "opencv-python", "opencv-python-headless", "scipy", "torch", "timm", "ray")


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write JSON with floats at full precision."""
    write_atomically(path, json.dumps(tree, indent=1, allow_nan=False) + "\n")


def read_results(path: Path) -> dict[str, Any]:
    """Read a `results.json`, or the one in a folder.

    Raises:
        DatasetError: it is missing or not a results file of this package.
    """
    path = path / "results.json" if path.is_dir() else path
    try:
        tree: dict[str, Any] = json.loads(path.read_text())
        if tree.get("format") != FORMAT:
            raise ValueError(f'"format" is {tree.get("format")!r}, not {FORMAT!r}')
    except (OSError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path} is not a results.json of samvideo evaluate or score: {error}") from error
    return tree


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
        lines = Path("/proc/cpuinfo").read_text().splitlines()
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
                for file in sorted((predictions / name).rglob("*.png")):
                    inner = Path(top) / file.relative_to(predictions)
                    archive.writestr(zipfile.ZipInfo(inner.as_posix()), file.read_bytes())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}") from error
