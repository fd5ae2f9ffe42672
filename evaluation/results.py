"""`results.json` and its tables: what they hold, and writing them whole or not at all.

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
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from samvideo.errors import DatasetError, OutputError

FORMAT = "samvideo-results-1"
COLUMNS = ("J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay", "Dice_mean")
_PACKAGES = ("samvideo", "numpy", "opencv-python", "opencv-python-headless", "scipy", "torch", "timm", "ray")


def unfinished(path: Path) -> Path:
    """Where a file is written before it is whole; left there by who is killed meanwhile."""
    return path.with_name(f".{path.name}.part")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file under another name and rename it, so that it is never seen in part.

    Raises:
        OutputError: it cannot be written.
    """
    part = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error}") from error


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write JSON; floats as they are, to the last digit."""
    write_atomically(path, json.dumps(tree, indent=1, allow_nan=False) + "\n")


def read_results(path: Path) -> dict[str, Any]:
    """Read a `results.json`, or the one in a folder.

    Raises:
        DatasetError: not one of ours.
    """
    path = path / "results.json" if path.is_dir() else path
    try:
        tree: dict[str, Any] = json.loads(path.read_text())
        if tree.get("format") != FORMAT:
            raise ValueError(f'"format" is {tree.get("format")!r}, not {FORMAT!r}')
    except (OSError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path} is no results.json of samvideo evaluate or score: {error}") from error
    return tree


def table(results: Mapping[str, Any]) -> str:
    """A row per object, one per sequence, and one for all, as CSV."""
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
    """Write the JSON and, beside it, the CSV."""
    write_json(folder / name, results)
    write_atomically((folder / name).with_suffix(".csv"), table(results))


def environment() -> dict[str, Any]:
    """Versions and machine, without anything that tells whose."""
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
    """The name of the CPU model, as far as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write_archive(path: Path, predictions: Path, top: str, names: list[str]) -> None:
    """Pack predictions as the benchmark's server wants them: `<top>/<sequence>/...png`, always the same bytes.

    Raises:
        OutputError: it cannot be written.
    """
    part = unfinished(path)
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
            for name in names:
                for file in sorted((predictions / name).rglob("*.png")):
                    inner = Path(top) / file.relative_to(predictions)
                    archive.writestr(zipfile.ZipInfo(inner.as_posix()), file.read_bytes())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error}") from error
