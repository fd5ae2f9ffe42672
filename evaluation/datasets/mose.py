"""MOSE (Ding et al., ICCV 2023): crowded scenes; the ground truth of valid and test is on a server."""

from pathlib import Path

from samvideo.evaluation.datasets.base import (
    DatasetSpec,
    MaskFolders,
    ScoringRule,
    first_existing,
    subfolders,
    wrong_root,
)

NAME = "mose"
SPLITS = ("valid", "train", "test")
TREE = """
MOSE/
├── train/
│   ├── JPEGImages/<video>/00000.jpg ...
│   └── Annotations/<video>/00000.png ...
└── valid/
    ├── JPEGImages/<video>/00000.jpg ...
    └── Annotations/<video>/00000.png             the first frame only
"""


def recognises(root: Path) -> bool:
    """Whether a folder looks like this data set."""
    return any((root / split / "JPEGImages").is_dir() for split in SPLITS) and not any(root.glob("*/meta.json"))


class Mose(MaskFolders):
    """Scored as DAVIS 2017; an object that comes later is prompted on its first annotated frame."""

    name = NAME
    archive = ""
    every_frame = False
    rule = ScoringRule("MOSE: annotated frames but the first and the last, as DAVIS 2017")


def load(root: Path, split: str) -> Mose:
    """Open one split.

    Raises:
        DatasetError: not this data set's folders.
    """
    top = root / split
    images, annotations = first_existing(top, "JPEGImages"), first_existing(top, "Annotations")
    if images is None or annotations is None:
        raise wrong_root(NAME, root, [top / "JPEGImages", top / "Annotations"], TREE)
    return Mose(split, images, annotations, subfolders(annotations))


VARIANTS = {NAME: DatasetSpec(SPLITS, TREE, recognises, load)}
