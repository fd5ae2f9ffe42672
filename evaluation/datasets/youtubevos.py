"""YouTube-VOS 2018 and 2019 (Xu et al., arXiv 1809.03327): objects that come later, masks on every fifth frame."""

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

NAME = "youtubevos"
SPLITS = ("valid", "train", "test")
TREE = """
YouTubeVOS/
├── train/
│   ├── JPEGImages/<video>/00000.jpg 00005.jpg ...
│   ├── Annotations/<video>/00000.png 00005.png ...
│   └── meta.json                                  names the categories that count as seen
└── valid/                                         or these three directly in the folder given
    ├── JPEGImages/<video>/00000.jpg 00005.jpg ... (valid_all_frames/JPEGImages, beside it, is taken if there)
    ├── Annotations/<video>/00000.png ...          where an object first appears
    └── meta.json                                  which objects, and which frames to save for each
"""


def recognises(root: Path) -> bool:
    """Whether a folder looks like this data set."""
    if any((root / split / "meta.json").is_file() for split in SPLITS):
        return True
    masks = sorted(root.glob("Annotations/*/*.png"))[:2]
    return [path.stem for path in masks] == ["00000", "00005"]


class YouTubeVOS(MaskFolders):
    """An object is prompted where it first appears, and counts on the annotated frames after that."""

    name = NAME
    archive = "Annotations"
    every_frame = False
    rule = ScoringRule(
        "YouTube-VOS: for each object the annotated frames after the one where it first appears; G is the mean of "
        "J and F over objects of seen and unseen categories (the server's own code is not public)",
        overall="G",
    )

    def __init__(
        self, split: str, images: Path | None, annotations: Path, meta: dict[str, Any], seen: set[str] | None
    ) -> None:
        super().__init__(split, images, annotations, subfolders(annotations))
        self._meta, self._seen = meta, seen

    def sequence(self, name: str) -> VideoSequence:
        """Look at one sequence's files; see `Dataset.sequence`."""
        sequence = super().sequence(name)
        objects = self._meta.get(name, {}).get("objects", {})
        wanted = {frame for entry in objects.values() for frame in entry.get("frames", ())}
        saved = tuple(k for k, frame in enumerate(sequence.frames) if frame in wanted)
        groups = {}
        if self._seen is not None:
            categories = {int(number): entry.get("category", "") for number, entry in objects.items()}
            groups = {k: "seen" if categories.get(k) in self._seen else "unseen" for k in sequence.labels}
        only_first = not any(sequence.scored.values())
        return replace(
            sequence, saved=saved or sequence.saved, groups=groups, scored={} if only_first else sequence.scored
        )

    def scored(self, annotated: list[int], number: int, first: Mapping[int, int]) -> tuple[int, ...]:
        """What comes after the first appearance; nothing where only first appearances are annotated."""
        if set(annotated) <= set(first.values()):
            return ()
        return tuple(index for index in annotated if index > first[number])


def load(root: Path, split: str) -> YouTubeVOS:
    """Open one split, or a folder that is one.

    Raises:
        DatasetError: not this data set's folders.
    """
    top = root / split if (root / split).is_dir() else root
    images = first_existing(root, f"{split}_all_frames/JPEGImages") or first_existing(top, "JPEGImages")
    annotations = first_existing(top, "Annotations")
    if images is None or annotations is None:
        raise wrong_root(NAME, root, [top / "JPEGImages", top / "Annotations"], TREE)
    train = root / "train" / "meta.json"
    seen = None
    if train.is_file():
        videos = _videos(train).values()
        seen = {entry["category"] for video in videos for entry in video["objects"].values()}
    meta = top / "meta.json"
    return YouTubeVOS(split, images, annotations, _videos(meta) if meta.is_file() else {}, seen)


def _videos(path: Path) -> dict[str, Any]:
    try:
        videos = json.loads(path.read_text())["videos"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): restore it from the data set's archive") from error
    if not isinstance(videos, dict):
        raise DatasetError(f'{path} must hold {{"videos": {{name: ...}}}}: restore it from the archive')
    return videos


VARIANTS = {NAME: DatasetSpec(SPLITS, TREE, recognises, load)}
