"""LVOS v1 and v2 (Hong et al., ICCV 2023 and arXiv 2404.19326): minutes long; objects come and go."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from samvideo.errors import DatasetError
from samvideo.evaluation.datasets.base import (
    DatasetSpec,
    MaskFolders,
    ScoringRule,
    VideoSequence,
    first_existing,
    subfolders,
    wrong_root,
)

NAME = "lvos"
SPLITS = ("valid", "train", "test", "val")
STEP = 5  # of the published evaluation: frame numbers count by five
TREE = """
LVOS/
└── valid/                                         or val/, or these directly in the folder given
    ├── JPEGImages/<video>/00000001.jpg 00000006.jpg ...
    ├── Annotations/<video>/00000001.png ...
    └── meta.json                                  (valid_meta.json) the frames that each object is in
"""


def recognises(root: Path) -> bool:
    """Whether a folder looks like this data set."""
    return any(any(root.glob(f"{top}JPEGImages/*/00000001.jpg")) for top in ("", "*/"))


class Lvos(MaskFolders):
    """An object counts on every fifth frame of the range its meta.json entry gives, its first frame included."""

    name = NAME
    every_frame = False
    rule = ScoringRule(
        "LVOS: for each object every fifth frame of its range in meta.json, as the published evaluation; without "
        "meta.json the annotated frames after the one where it first appears"
    )

    def __init__(self, split: str, images: Path, annotations: Path, meta: dict[str, Any]) -> None:
        super().__init__(split, images, annotations, subfolders(annotations))
        self._meta = meta

    def sequence(self, name: str) -> VideoSequence:
        """Look at one sequence's files; see `Dataset.sequence`."""
        sequence = super().sequence(name)
        ranges = {
            int(number): entry["frame_range"]
            for number, entry in self._meta.get(name, {}).get("objects", {}).items()
        }
        if not sequence.scored or not ranges:
            return sequence
        places = {int(frame): index for index, frame in enumerate(sequence.frames)}
        scored = {}
        for number in sequence.labels:
            extent = ranges.get(number, {"start": 0, "end": 0})
            wanted = [places.get(frame) for frame in range(int(extent["start"]), int(extent["end"]), STEP)]
            scored[number] = tuple(index for index in wanted if index is not None and index in sequence.masks)
        return replace(sequence, scored=scored)

    def scored(self, annotated: list[int], number: int, first: Mapping[int, int]) -> tuple[int, ...]:
        """What comes after the first appearance."""
        return tuple(index for index in annotated if index > first[number])


def load(root: Path, split: str) -> Lvos:
    """Open one split, or a folder that is one.

    Raises:
        DatasetError: not this data set's folders.
    """
    top = root / split if (root / split).is_dir() else root
    images, annotations = first_existing(top, "JPEGImages"), first_existing(top, "Annotations")
    if images is None or annotations is None:
        raise wrong_root(NAME, root, [top / "JPEGImages", top / "Annotations"], TREE)
    meta = next((path for name in ("meta.json", f"{split}_meta.json") if (path := top / name).is_file()), None)
    try:
        videos = json.loads(meta.read_text())["videos"] if meta else {}
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{meta} cannot be read ({error}): restore it from the data set's archive") from error
    return Lvos(split, images, annotations, videos)


VARIANTS = {NAME: DatasetSpec(SPLITS, TREE, recognises, load)}
