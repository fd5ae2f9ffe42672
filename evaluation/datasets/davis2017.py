"""DAVIS 2017, semi-supervised (Pont-Tuset et al., arXiv 1704.00675): several objects, a mask on every frame."""

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

NAME = "davis2017"
SPLITS = ("val", "train", "test-dev", "test-challenge")
TREE = """
DAVIS/
├── JPEGImages/480p/<sequence>/00000.jpg ...
├── Annotations/480p/<sequence>/00000.png ...     palette PNGs; test-dev: the first frame only
└── ImageSets/2017/{train,val,test-dev}.txt
"""


def recognises(root: Path) -> bool:
    """Whether a folder looks like this data set."""
    return (root / "JPEGImages" / "480p").is_dir() and (root / "ImageSets" / "2017").is_dir()


class Davis2017(MaskFolders):
    """Objects are those of the first frame, 1 to N; the first and the last frame do not count."""

    name = NAME
    rule = ScoringRule("DAVIS 2017 semi-supervised: every frame but the first and the last")

    def read(self, path: Path) -> MaskSet:
        """255 is background, as in the published evaluation."""
        index = read_index_png(path)
        return MaskSet(index=np.where(index == 255, np.uint8(0), index))

    def objects(self, name: str, masks: Mapping[int, Path]) -> dict[int, int]:
        """Those of the first frame, as numbers from 1 without gap, as in the published evaluation."""
        first = min(masks)
        return dict.fromkeys(range(1, max(self.read(masks[first]).numbers, default=0) + 1), first)


def load(root: Path, split: str) -> Davis2017:
    """Open one split.

    Raises:
        DatasetError: not this data set's folders.
    """
    images, annotations = first_existing(root, "JPEGImages/480p"), first_existing(root, "Annotations/480p")
    listed = root / "ImageSets" / "2017" / f"{split}.txt"
    if images is None or annotations is None or not listed.is_file():
        raise wrong_root(NAME, root, [root / "JPEGImages/480p", root / "Annotations/480p", listed], TREE)
    dataset = Davis2017(split, images, annotations, read_list(listed))
    if split.startswith("test"):
        dataset.archive = ""
    return dataset


VARIANTS = {NAME: DatasetSpec(SPLITS, TREE, recognises, load)}
