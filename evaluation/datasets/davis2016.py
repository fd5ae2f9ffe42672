"""DAVIS 2016 (Perazzi et al., CVPR 2016): one object a sequence, a mask on every frame."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from samvideo.evaluation.datasets.base import (
    DatasetSpec,
    MaskFolders,
    ScoringRule,
    first_existing,
    read_list,
    wrong_root,
)
from samvideo.evaluation.files import MaskSet, read_index_png

NAME = "davis2016"
SPLITS = ("val", "train")
TREE = """
DAVIS/
├── JPEGImages/480p/<sequence>/00000.jpg ...
├── Annotations/480p/<sequence>/00000.png ...     0 and 255, or 0 and 1
└── ImageSets/480p/{train,val}.txt                or ImageSets/{train,val}.txt
"""


def recognises(root: Path) -> bool:
    """Whether a folder looks like this data set."""
    return (root / "JPEGImages" / "480p").is_dir() and not (root / "ImageSets" / "2017").is_dir()


class Davis2016(MaskFolders):
    """All that is not background is the object; the first and the last frame do not count."""

    name = NAME
    rule = ScoringRule("DAVIS 2016: one object, every frame but the first and the last")

    def read(self, path: Path) -> MaskSet:
        """Any value above zero is object 1."""
        return MaskSet(index=(read_index_png(path) > 0).astype(np.uint8))

    def objects(self, name: str, masks: Mapping[int, Path]) -> dict[int, int]:
        """One object, prompted on the first frame."""
        return {1: min(masks)}


def load(root: Path, split: str) -> Davis2016:
    """Open one split.

    Raises:
        DatasetError: not this data set's folders.
    """
    images, annotations = first_existing(root, "JPEGImages/480p"), first_existing(root, "Annotations/480p")
    if images is None or annotations is None:
        raise wrong_root(NAME, root, [root / "JPEGImages/480p", root / "Annotations/480p"], TREE)
    lists = [root / "ImageSets" / place / f"{split}.txt" for place in ("2016", "480p", ".")]
    found = next((path for path in lists if path.is_file()), None)
    if found is None:
        raise wrong_root(NAME, root, lists, TREE)
    # The published lists name files, "/JPEGImages/480p/bear/00000.jpg /Annotations/..."; others sequences.
    named = [Path(line).parent.name if "/" in line else line for line in read_list(found)]
    return Davis2016(split, images, annotations, sorted(set(named)))


VARIANTS = {NAME: DatasetSpec(SPLITS, TREE, recognises, load)}
