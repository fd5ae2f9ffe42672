"""Write what `samvideo.training.splits` keeps for validation, as folders for `samvideo evaluate`.

    python demos/validation_data.py OUT --objects OBJECTS --videos DAVIS VIDEO-MASKS --terms open unstated

OUT/stills/<set>/{images,masks}: still images, and first frames of clips. OUT/absences: generated clips, in which
objects leave, are covered, or give way to another scene. OUT/cuts: clips with twelve frames of another one after
their first twelve.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch

from samvideo.io.masks import write_index_png
from samvideo.training.clips import ClipSampler
from samvideo.training.compose import ClipConfig
from samvideo.training.library import Library, Shot
from samvideo.types import UInt8Array

BEFORE, AWAY, AFTER = 12, 12, 16  # frames
ABSENCES = ClipConfig(length=10, batch=1, leaves=0.4, elsewhere=0.2, occluder=0.4)


def write_frames(images: Path, masks: Path, frames: Iterable[tuple[str, UInt8Array]]) -> None:
    """Write named frames, uint8 (4, H, W): red, green, blue, object numbers."""
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    for name, (red, green, blue, ids) in frames:
        cv2.imwrite(str(images / f"{name}.jpg"), cv2.merge([blue, green, red]), [cv2.IMWRITE_JPEG_QUALITY, 95])
        write_index_png(masks / f"{name}.png", ids)


def write_clip(root: Path, name: str, frames: Iterable[UInt8Array]) -> None:
    """Write a clip in the layout of DAVIS."""
    numbered = ((f"{number:05d}", frame) for number, frame in enumerate(frames))
    write_frames(root / "JPEGImages" / name, root / "Annotations" / name, numbered)


def generated(sampler: ClipSampler) -> UInt8Array:
    """A clip of `sampler`, (T, 4, H, W)."""
    clip = sampler.next()
    numbers = torch.arange(1, clip.masks.shape[1] + 1)[:, None, None, None]
    ids = (clip.masks[0] * numbers).amax(0)[:, None]
    return torch.cat([(clip.frames[0] * 255).round(), ids], 1).byte().numpy()


def with_gap(shot: Shot, other: Shot) -> UInt8Array:
    """The first frames of a clip, with some of another in between, whose objects are not annotated."""
    away = other.pixels[:AWAY].numpy().transpose(0, 2, 3, 1)
    shown = np.stack([cv2.resize(frame, shot.size_wh) for frame in away]).transpose(0, 3, 1, 2)
    shown[:, 3] = 0
    own = shot.pixels[: BEFORE + AFTER].numpy()
    return np.concatenate([own[:BEFORE], shown, own[BEFORE:]])


def main() -> None:
    """Write the three folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--objects", type=Path, nargs="*", default=[])
    parser.add_argument("--videos", type=Path, nargs="*", default=[])
    parser.add_argument("--terms", nargs="*", default=["open"])
    parser.add_argument("--clips", type=int, default=200, help="generated ones")
    options = parser.parse_args()
    library = Library.read(options.objects, options.videos, terms=options.terms, side="validation")
    for group, shots in library.groups.items():  # of clips their first frames
        folder = options.out / "stills" / group
        write_frames(folder / "images", folder / "masks", ((shot.name, shot.pixels[0].numpy()) for shot in shots))
    sampler = ClipSampler(library, ABSENCES, torch.Generator().manual_seed(1))
    for number in range(options.clips):
        write_clip(options.out / "absences", f"{number:04d}", generated(sampler))
    clips = [shot for shots in library.clips.values() for shot in shots if len(shot) >= BEFORE + AFTER]
    for number, shot in enumerate(clips):
        other = clips[(number + len(clips) // 2) % len(clips)]
        write_clip(options.out / "cuts", shot.name, with_gap(shot, other))


if __name__ == "__main__":
    main()
