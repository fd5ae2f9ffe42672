"""CholecSeg8k (Hong et al., arXiv 2012.12453): gall bladder operations, clips of eighty frames."""

from pathlib import Path

import numpy as np

from samvideo.errors import DatasetError
from samvideo.evaluation.datasets.base import (
    IMAGE_SUFFIXES,
    DatasetSpec,
    MaskFolders,
    ScoringRule,
    first_existing,
    pictures,
    subfolders,
    wrong_root,
)
from samvideo.evaluation.files import MaskSet, read_index_png

NAME = "cholecseg8k"
SPLITS = ("all",)
CLASSES = {
    31: "grasper", 32: "L-hook", 11: "abdominal wall", 21: "liver", 13: "gastrointestinal tract", 12: "fat",
    23: "connective tissue", 24: "blood", 25: "cystic duct", 22: "gallbladder", 33: "hepatic vein", 5: "ligament",
}  # fmt: skip
"""Values of the published watershed masks, in the order of the object numbers they get here, instruments first."""

TREE = """
CholecSeg8k/                                       as published
└── video01/video01_00080/
    ├── frame_80_endo.png ...
    └── frame_80_endo_watershed_mask.png ...
or CholecSeg8k/
├── JPEGImages/<sequence>/00000.jpg ...
└── Annotations/<sequence>/00000.png ...               object numbers per pixel, 1 the grasper
"""
PICTURE, MASK = "_endo", "_endo_watershed_mask"


def recognises(root: Path) -> bool:
    """Whether a folder looks like this data set."""
    return any(root.glob("video*/video*_*")) or "cholec" in root.name.lower()


class Cholec(MaskFolders):
    """Every class is an object, prompted where it first appears."""

    name = NAME
    rule = ScoringRule(
        "CholecSeg8k: annotated frames but the first and the last, an object from when it was first seen",
        until_seen=True,
    )


class CholecPublished(Cholec):
    """The published folders: pictures and masks side by side, classes as grey values."""

    def __init__(self, split: str, root: Path) -> None:
        super().__init__(split, None, root, [path.name for path in sorted(root.glob("video*/video*_*"))])

    def _files(self, name: str, ending: str) -> dict[str, Path]:
        files = pictures(self.annotations / name.split("_")[0] / name, IMAGE_SUFFIXES)
        chosen = {stem.removesuffix(ending): path for stem, path in files.items() if stem.endswith(ending)}
        if not chosen:
            raise DatasetError(f"{self.annotations / name.split('_')[0] / name} has no *{ending}.png: restore it")
        return dict(sorted(chosen.items(), key=lambda item: int(item[0].split("_")[1])))

    def frames(self, name: str) -> dict[str, Path]:
        """Pictures by frame name."""
        return self._files(name, PICTURE)

    def masks(self, name: str) -> dict[str, Path]:
        """Masks by frame name."""
        return self._files(name, MASK)

    def read(self, path: Path) -> MaskSet:
        """Classes as object numbers; the colourless rest is background."""
        table = np.zeros(256, np.uint8)
        table[list(CLASSES)] = np.arange(1, len(CLASSES) + 1)
        return MaskSet(index=table[read_index_png(path)])


def load(root: Path, split: str) -> Cholec:
    """Open the folder.

    Raises:
        DatasetError: not this data set's folders.
    """
    if any(root.glob("video*/video*_*")):
        return CholecPublished(split, root)
    images, annotations = first_existing(root, "JPEGImages"), first_existing(root, "Annotations")
    if images is None or annotations is None:
        raise wrong_root(NAME, root, [root / "video*/video*_*", root / "JPEGImages", root / "Annotations"], TREE)
    return Cholec(split, images, annotations, subfolders(annotations))


VARIANTS = {NAME: DatasetSpec(SPLITS, TREE, recognises, load)}
