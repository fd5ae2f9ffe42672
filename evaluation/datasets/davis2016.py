"""DAVIS 2016 (Perazzi et al., CVPR 2016): one object a sequence, a mask on every frame."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from samvideo.evaluation.datasets import base
from samvideo.evaluation.files import MaskSet, read_binary_png

TREE = """
DAVIS/
├── JPEGImages/480p/<sequence>/00000.jpg ...
├── Annotations/480p/<sequence>/00000.png ...     0 and 255, or 0 and 1
└── ImageSets/480p/{train,val}.txt                or ImageSets/{train,val}.txt
"""


class Davis2016(base.MaskFolders):
    """All that is not background is the object; the first and the last frame do not count."""

    name = "davis2016"
    every_frame = True
    rule = base.ScoringRule("DAVIS 2016: one object, every frame but the first and the last")

    def read(self, path: Path) -> MaskSet:
        """Any value above zero is object 1; 255 beside another is none."""
        return MaskSet(index=read_binary_png(path, self.reading, joined=True).astype(np.uint8))

    def objects(self, masks: Mapping[int, Path]) -> dict[int, int]:
        """One object, prompted on the first frame."""
        return {1: min(masks)}


def _recognises(root: Path) -> bool:
    return (root / "JPEGImages" / "480p").is_dir() and not (root / "ImageSets" / "2017").is_dir()


def _load(root: Path, split: str) -> Davis2016:
    images, annotations = base.image_and_mask_folders(root, "480p")
    lists = [root / "ImageSets" / place / f"{split}.txt" for place in ("2016", "480p", ".")]
    found = next((path for path in lists if path.is_file()), None)
    if found is None:
        raise base.WrongRoot(*lists)
    # The published lists name files, "/JPEGImages/480p/bear/00000.jpg /Annotations/..."; others sequences.
    named = {Path(line).parent.name if "/" in line else line for line in base.read_list(found)}
    return Davis2016(split, images, annotations, sorted(named))


VARIANTS = {"davis2016": base.DatasetSpec(("val", "train"), TREE, _recognises, _load)}
