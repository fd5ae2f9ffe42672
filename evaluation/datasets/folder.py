"""Any sequences of your own: images or videos beside masks, or masks alone (for scoring)."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from samvideo.errors import DatasetError
from samvideo.evaluation.datasets import base

TREE = """
ROOT/
├── JPEGImages/<sequence>/00000.jpg ...            or videos/<sequence>.mp4
└── Annotations/<sequence>/00000.png ...           of any frames; object numbers per pixel; a video's masks are
                                                   named by frame number
or, to score masks only:
ROOT/<sequence>/00000.png ...
"""
LAST_FRAME = 9_999_999
"""Highest frame number that a mask of a video can have; names above are not frame numbers, but times or ids."""
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")


class Folder(base.MaskFolders):
    """Objects are prompted where they first appear; annotated frames from there, less the very first and last."""

    name = "folder"
    on_server = False
    rule = base.ScoringRule(
        "folder: annotated frames from an object's first on, but the sequence's first and last, as SA-V and DAVIS",
        until_seen=True,
    )

    def __init__(self, split: str, images: Path | None, videos: Path | None, annotations: Path) -> None:
        super().__init__(split, images, annotations)
        self._videos = videos

    def sequence(self, name: str) -> base.VideoSequence:
        """List the files of one sequence; see `Dataset.sequence`."""
        sequence = super().sequence(name)
        if self._videos is not None:
            return self._with_video(sequence, self._videos)
        if not sequence.images:
            self._check_gaps(sequence)
        return sequence

    def _with_video(self, sequence: base.VideoSequence, videos: Path) -> base.VideoSequence:
        found = [
            path
            for path in base.visible(videos)
            if path.stem == sequence.name and path.suffix.lower() in VIDEO_SUFFIXES
        ]
        if len(found) != 1:
            there = ", ".join(path.name for path in base.visible(videos)[:3]) or "nothing"
            raise DatasetError(
                f"{videos} holds {len(found)} videos named {sequence.name}, as its masks "
                f"{self.annotations / sequence.name}: exactly one expected; there is {there}"
            )
        strange = [frame for frame in sequence.frames if not frame.isdecimal()]
        if strange:
            raise DatasetError(
                f"{self.annotations / sequence.name / strange[0]}.png: name the masks of a video by frame number"
            )
        numbers = {index: int(frame) for index, frame in enumerate(sequence.frames)}
        folder, highest = self.annotations / sequence.name, max(numbers.values())
        if highest > LAST_FRAME:
            raise DatasetError(
                f"{folder} has a mask of frame {highest}: name the masks of a video by frame number, at most "
                f"{LAST_FRAME}"
            )
        if len(set(numbers.values())) < len(numbers):
            raise DatasetError(f"{folder} has two masks of one frame number: remove one")
        width = len(sequence.frames[0])
        return replace(
            sequence,
            video=found[0],
            frames=tuple(f"{k:0{width}d}" for k in range(highest + 1)),
            masks={numbers[index]: path for index, path in sequence.masks.items()},
            first_seen={k: numbers[index] for k, index in sequence.first_seen.items()},
            scored={k: tuple(numbers[index] for index in indices) for k, indices in sequence.scored.items()},
            saved=tuple(range(highest + 1)),
        )

    def _check_gaps(self, sequence: base.VideoSequence) -> None:
        """Masks alone do not tell which frames there are, but a hole in an even row is a missing file."""
        if not all(frame.isdecimal() for frame in sequence.frames):
            return
        numbers = [int(frame) for frame in sequence.frames]
        steps = [after - before for before, after in pairwise(numbers)]
        holes = [k for k, step in enumerate(steps) if step != min(steps)]
        if 0 < len(holes) <= len(steps) // 4:
            missing = numbers[holes[0]] + min(steps)
            width = len(sequence.frames[0])
            raise DatasetError(
                f"{self.annotations / sequence.name / f'{missing:0{width}d}.png'} is missing: its neighbours are "
                f"{min(steps)} frame(s) apart; restore it"
            )


def _recognises(root: Path) -> bool:
    return (root / "Annotations").is_dir() or any(root.glob("*/*.png"))


def load(root: Path, split: str) -> Folder:
    """Open a folder; see `DatasetSpec`."""
    images, videos, annotations = (root / name for name in ("JPEGImages", "videos", "Annotations"))
    if annotations.is_dir():
        return Folder(split, images if images.is_dir() else None, videos if videos.is_dir() else None, annotations)
    if any(root.glob("*/*.png")):
        return Folder(split, None, None, root)
    raise base.WrongRoot(annotations, root / "<sequence>/*.png")


VARIANTS = {"folder": base.DatasetSpec(("all",), TREE, _recognises, load)}
