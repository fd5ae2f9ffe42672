"""CholecSeg8k (Hong et al., arXiv 2012.12453): gall bladder operations, clips of eighty frames."""

from pathlib import Path

import numpy as np

from samvideo.errors import DatasetError
from samvideo.evaluation.datasets import base
from samvideo.evaluation.files import AS_STORED, MaskSet, read_index_png

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


class Cholec(base.MaskFolders):
    """Every class is an object, prompted where it first appears."""

    name = "cholecseg8k"
    every_frame = True
    rule = base.ScoringRule(
        "CholecSeg8k: annotated frames but the first and the last, an object from when it was first seen",
        until_seen=True,
    )


class CholecPublished(Cholec):
    """The published folders: images and masks side by side, classes as grey values."""

    def __init__(self, split: str, root: Path) -> None:
        super().__init__(split, None, root, [path.name for path in sorted(root.glob("video*/video*_*"))])

    def _files(self, name: str, ending: str) -> dict[str, Path]:
        folder = self.annotations / name.split("_")[0] / name
        files = base.list_files(folder, base.IMAGE_SUFFIXES)
        chosen = {stem.removesuffix(ending): path for stem, path in files.items() if stem.endswith(ending)}
        if not chosen:
            raise DatasetError(f"{folder} has no *{ending}.png: restore it")
        return dict(sorted(chosen.items(), key=lambda item: int(item[0].split("_")[1])))

    def frames(self, name: str) -> dict[str, Path]:
        """Images by frame name."""
        return self._files(name, "_endo")

    def masks(self, name: str) -> dict[str, Path]:
        """Masks by frame name."""
        return self._files(name, "_endo_watershed_mask")

    def read(self, path: Path) -> MaskSet:
        """Classes as object numbers; the colourless rest is background."""
        table = np.zeros(256, np.uint8)
        table[list(CLASSES)] = np.arange(1, len(CLASSES) + 1)
        return MaskSet(index=table[read_index_png(path, AS_STORED)])


def _recognises(root: Path) -> bool:
    return any(root.glob("video*/video*_*")) or "cholec" in root.name.lower()


def _load(root: Path, split: str) -> Cholec:
    if any(root.glob("video*/video*_*")):
        return CholecPublished(split, root)
    return Cholec(split, *base.image_and_mask_folders(root, others=[root / "video*/video*_*"]))


VARIANTS = {"cholecseg8k": base.DatasetSpec(("all",), TREE, _recognises, _load)}
