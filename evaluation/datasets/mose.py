"""MOSE (Ding et al., ICCV 2023): crowded scenes; the ground truth of valid and test is on a server."""

from pathlib import Path

from samvideo.evaluation.datasets import base

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


class Mose(base.MaskFolders):
    """Scored as DAVIS 2017; an object that comes later is prompted on its first annotated frame."""

    name = "mose"
    archive = ""
    rule = base.ScoringRule("MOSE: annotated frames but the first and the last, as DAVIS 2017")


def _recognises(root: Path) -> bool:
    return any((root / split / "JPEGImages").is_dir() for split in SPLITS) and not any(root.glob("*/meta.json"))


def _load(root: Path, split: str) -> Mose:
    return Mose(split, *base.image_and_mask_folders(root / split))


VARIANTS = {"mose": base.DatasetSpec(SPLITS, TREE, _recognises, _load)}
