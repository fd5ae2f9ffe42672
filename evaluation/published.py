"""Published scores, for comparison; none of them was measured with this package. They are in published.csv
and published_images.csv.

EdgeTAM's SAM 2 rows ("full mix") are of weights trained on more data than the released ones.
"""

import csv
from pathlib import Path
from typing import NamedTuple

_SPLITS = {
    "MOSE val": ("mose", "valid"),
    "DAVIS17 val": ("davis2017", "val"),
    "SA-V val": ("sav", "val"),
    "SA-V test": ("sav", "test"),
    "YTVOS19 val": ("youtubevos", "valid"),
    "LVOS v1 val": ("lvos", "valid"),
    "LVOS v2 val": ("lvos", "valid"),
    "EndoVis17": ("endovis", "valid"),
    "EndoVis18": ("endovis", "valid"),
}
"""Column of the file -> data set and split here."""


class Published(NamedTuple):
    """A method on a split: J&F (G for YouTube-VOS) in percent, and its speed if the source gives it."""

    method: str
    percent: float
    fps: float | None
    hardware: str
    source: str


def published(dataset: str, split: str) -> list[Published]:
    """Return the published scores for a split, best first; methods name the column if the split has several."""
    columns = [column for column, of in _SPLITS.items() if of == (dataset, split)]
    rows = []
    with Path(__file__).with_name("published.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for column in columns:
                if row[column]:
                    label = f" [{column.removesuffix(' val')}]" if len(columns) > 1 else ""
                    fps = float(row["fps"]) if row["fps"] else None
                    method, percent = row["method"] + label, float(row[column])
                    rows.append(Published(method, percent, fps, row["hardware"], row["source"]))
    return sorted(rows, key=lambda row: -row.percent)


def published_images() -> tuple[list[str], list[list[str]]]:
    """The published scores of image models in percent: columns and rows, the method first and the source last."""
    with Path(__file__).with_name("published_images.csv").open(newline="", encoding="utf-8") as file:
        (source, *columns), *rows = csv.reader(file)
    return [*columns, source], [[*(cell or "–" for cell in row[1:]), row[0]] for row in rows]
