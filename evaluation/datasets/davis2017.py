"""DAVIS 2017 (Pont-Tuset et al., arXiv 1704.00675): several objects, a mask on every frame.

The unsupervised task (Caelles et al., arXiv 1905.00737) has masks of its own, and gives no prompts.
"""

from collections.abc import Mapping
from pathlib import Path

from samvideo.evaluation.datasets import base
from samvideo.io.mask_pictures import WHITE, void_of

TREE = """
DAVIS/
├── JPEGImages/480p/<sequence>/00000.jpg ...
├── Annotations/480p/<sequence>/00000.png ...     palette PNGs; test-dev: the first frame only
└── ImageSets/2017/{train,val,test-dev}.txt
"""
UNSUPERVISED_TREE = """
DAVIS/
├── JPEGImages/480p/<sequence>/00000.jpg ...
├── Annotations_unsupervised/480p/<sequence>/00000.png ...     palette PNGs
└── ImageSets/2017/{train,val}.txt
"""
UNSUPERVISED = "Annotations_unsupervised"


class Davis2017(base.MaskFolders):
    """Objects are those of the first frame, 1 to N; the first and the last frame do not count."""

    name = "davis2017"
    every_frame = True
    rule = base.ScoringRule("DAVIS 2017 semi-supervised: every frame but the first and the last")

    def objects(self, masks: Mapping[int, Path]) -> dict[int, int]:
        """Those of the first frame, as numbers from 1 without gap, as in the published evaluation; 255 is none."""
        first = min(masks)
        found = self.read(masks[first]).numbers
        if found == {WHITE}:
            return {WHITE: first}
        highest = max(found - {void_of(found, self.reading)}, default=0)
        return dict.fromkeys(range(1, highest + 1), first)


class Unsupervised(Davis2017):
    """Tracks are scored on every frame; they are made elsewhere, since there are no prompts."""

    name = "davis2017-unsupervised"
    rule = base.ScoringRule(f"DAVIS 2017 unsupervised: every frame; {base.MATCHED}", matched=True)


def _recognises(root: Path) -> bool:
    return (root / "JPEGImages" / "480p").is_dir() and (root / "ImageSets" / "2017").is_dir()


def _recognises_unsupervised(root: Path) -> bool:
    return (root / UNSUPERVISED).is_dir()


def _load(root: Path, split: str) -> Davis2017:
    dataset = _open(root, split, Davis2017, "Annotations")
    if split.startswith("test"):
        dataset.archive = ""
    return dataset


def _load_unsupervised(root: Path, split: str) -> Davis2017:
    return _open(root, split, Unsupervised, UNSUPERVISED)


def _open(root: Path, split: str, kind: type[Davis2017], annotations: str) -> Davis2017:
    listed = root / "ImageSets" / "2017" / f"{split}.txt"
    folders = base.image_and_mask_folders(root, "480p", [listed], annotations)
    if not listed.is_file():
        raise base.WrongRoot(*folders, listed)
    return kind(split, *folders, base.read_list(listed))


SPLITS = ("val", "train", "test-dev", "test-challenge")
VARIANTS = {
    "davis2017": base.DatasetSpec(SPLITS, TREE, _recognises, _load),
    Unsupervised.name: base.DatasetSpec(
        SPLITS[:2], UNSUPERVISED_TREE, _recognises_unsupervised, _load_unsupervised
    ),
}
