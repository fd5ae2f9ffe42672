"""Clips without labels: found in folders, decoded in workers, brought to the frame of a model."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch.utils.data import Dataset

from samvideo.errors import DatasetError
from samvideo.io.images import find_images
from samvideo.io.source import open_video
from samvideo.specs import ModelSpec
from samvideo.training.distil_split import Divided, by_name, by_scene
from samvideo.training.files import sha256
from samvideo.training.images import LABELS, Example, covered, square

SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm"})


@dataclass(frozen=True)
class Clip:
    """Some frames of a video, which follow each other.

    Attributes:
        source: a video file, or a folder of its frames.
        first: index of the first frame.
        digest: what tells the video from others.
    """

    source: Path
    first: int
    digest: str


def find_clips(folder: Path, length: int, stride: int, named: bool = False) -> Divided[Clip]:
    """Clips of all videos in a folder and all below it, one after the other, in order.

    A video is a file, or a folder of frames; folders of labels are left out.

    Args:
        folder: of videos.
        length: frames of a clip.
        stride: of its frames; clips of one video have none in common.
        named: divide videos by `by_name`, instead of `by_scene`.

    Raises:
        DatasetError: there is no such folder, or no video with so many frames.
        VideoError: a video cannot be read.
    """
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}: check the spelling and the folder you are in")
    places = sorted(path for path in folder.rglob("*") if not LABELS & {*path.relative_to(folder).parts})
    clips: list[Clip] = []
    for place in [folder, *places]:
        images = find_images(place.iterdir()) if place.is_dir() else []
        if not images and place.suffix.lower() not in SUFFIXES:
            continue
        digest = _digest(images) if images else sha256(place)
        with open_video(place) as video:
            count = video.length() or 0
        clips += [Clip(place, k, digest) for k in range(0, count - (length - 1) * stride, length * stride)]
    if named:
        found = by_name(clips, [clip.source.stem for clip in clips])
    else:
        found = by_scene(clips, [clip.source.relative_to(folder).as_posix() for clip in clips])
    if not found.train:
        raise DatasetError(
            f"{folder} has no video of {1 + (length - 1) * stride} frames to learn from: video files or folders of "
            "frames expected, in it or below it"
        )
    return found


def _digest(images: Sequence[Path]) -> str:
    """What tells a folder of frames from others: names and sizes of all, and the content of the first."""
    names = "".join(f"{path.name} {path.stat().st_size}\n" for path in images)
    return hashlib.sha256(f"{sha256(images[0])}\n{names}".encode()).hexdigest()


class Clips(Dataset[Example]):
    """Clips as squares in the frame of a model, uint8 (T, 3, S, S).

    Args:
        clips: to be read.
        spec: of the model.
        side: S, in pixels.
        length: T.
        stride: of the frames.
    """

    def __init__(self, clips: Sequence[Clip], spec: ModelSpec, side: int, length: int, stride: int) -> None:
        self.clips, self.spec, self.side, self.length, self.stride = clips, spec, side, length, stride

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, row: int) -> Example:
        """Decode a clip; VideoError if it is damaged."""
        clip = self.clips[row]
        with open_video(clip.source) as video:
            video.seek(clip.first)
            frames = islice(video, 0, 1 + (self.length - 1) * self.stride, self.stride)
            rgb = [frame.rgb for frame in frames]
        if len(rgb) < self.length:
            raise DatasetError(f"{clip.source} ends {self.length - len(rgb)} frames before its stated length")
        found = [torch.from_numpy(square(frame, self.spec, self.side)) for frame in rgb]
        return torch.stack(found), covered(rgb[0], self.spec, self.side)
