"""Pictures without labels: found, decoded in workers, brought to the frame of a model, drawn in a fixed order."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from samvideo.errors import DatasetError
from samvideo.geometry import resize_rgb
from samvideo.interrupt import SIGNALS
from samvideo.io.images import find_images, read_still
from samvideo.picture_sizes import fitted_wh
from samvideo.specs import ModelSpec
from samvideo.training import effects
from samvideo.training.clips import colours
from samvideo.training.distil_split import Divided, by_name, by_scene, scene
from samvideo.training.files import sha256
from samvideo.types import UInt8Array

Example: TypeAlias = tuple[Tensor, ...]
"""A picture, uint8 (3, S, S), or clip; its `covered` share; what a teacher makes of it, if that is cached."""


LABELS = frozenset({"masks", "Annotations"})
"""Names of folders whose pictures are labels."""


@dataclass(frozen=True)
class Picture:
    """A picture file.

    Attributes:
        path: of the file.
        digest: SHA-256 of its content.
    """

    path: Path
    digest: str


@dataclass(frozen=True)
class Augmentation:
    """How often pictures are changed as cameras and files change them, as probabilities; colours always are.

    Attributes:
        grey, gamma, blur, noise, compression: of a picture; see `samvideo.training.effects`.
        plain: none of it happens, nor to colours.
    """

    grey: float = 0.06
    gamma: float = 0.3
    blur: float = 0.2
    noise: float = 0.25
    compression: float = 0.3
    plain: float = 0.2


def find_pictures(folder: Path, named: bool = False) -> Divided[Picture]:
    """The pictures in a folder and all below it, but folders of labels, in order.

    Args:
        folder: of pictures.
        named: divide them by `by_name`, instead of `by_scene`.

    Raises:
        DatasetError: there is no such folder, or no picture to learn from.
    """
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}: check the spelling and the folder you are in")
    inner = [path for path in folder.rglob("*") if not LABELS & {*path.relative_to(folder).parts[:-1]}]
    paths = find_images(inner)
    if named:
        found = by_name(paths, [path.stem for path in paths])
    else:
        found = by_scene(paths, [scene(path, folder) for path in paths])
    if not found.train:
        raise DatasetError(f"{folder} has no picture to learn from: JPEG or PNG files expected, in it or below it")
    train, validation = ([Picture(path, sha256(path)) for path in side] for side in (found.train, found.validation))
    return Divided(train, validation, found.why)


class Squares(Dataset[Example]):
    """Pictures as squares in the frame of a model, uint8 (3, S, S).

    Args:
        pictures: to be read.
        spec: of the model; its picture rule stretches pictures, or pads them with the mean colour.
        side: S, in pixels.
    """

    def __init__(self, pictures: Sequence[Picture], spec: ModelSpec, side: int) -> None:
        self.pictures, self.spec, self.side = pictures, spec, side

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> Example:
        """Decode a picture; VideoError if it is damaged."""
        rgb = read_still(self.pictures[row].path)
        return torch.from_numpy(square(rgb, self.spec, self.side)), covered(rgb, self.spec, self.side)


def covered(rgb: UInt8Array, spec: ModelSpec, side: int) -> Tensor:
    """(2,), the share of a `square`'s width and height that a picture (H, W, 3) takes; the rest is padding."""
    return torch.tensor(_fitted_wh(rgb, spec, side)) / side


def padded(pictures: Tensor, covered_b2: Tensor, mean: Sequence[float]) -> Tensor:
    """Pictures (B, 3, S, S) with a colour in 0..1, the mean, in all that is padding; (B, 2) `covered` of each."""
    places = torch.arange(pictures.shape[-1], device=pictures.device)
    inside_x, inside_y = (places < (covered_b2 * len(places)).round()[..., None]).unbind(1)
    inside = (inside_y[:, :, None] & inside_x[:, None])[:, None]
    return torch.where(inside, pictures, torch.tensor(mean, device=pictures.device)[:, None, None])


def _fitted_wh(rgb: UInt8Array, spec: ModelSpec, side: int) -> tuple[int, int]:
    size_wh = (rgb.shape[1], rgb.shape[0])
    return fitted_wh(size_wh, side, spec.picture) if spec.picture.fit == "pad" else (side, side)


def square(rgb: UInt8Array, spec: ModelSpec, side: int) -> UInt8Array:
    """A picture (H, W, 3) as (3, S, S): stretched or, under "pad", with the mean colour right or below."""
    width, height = _fitted_wh(rgb, spec, side)
    out = np.empty((side, side, 3), np.uint8)
    out[:] = np.round(255 * np.array(spec.mean))
    out[:height, :width] = resize_rgb(rgb, (width, height))
    return np.ascontiguousarray(out.transpose(2, 0, 1))


def order(count: int, batch: int, seed: int, first: int, steps: int) -> Iterator[list[int]]:
    """Yield the rows of `count` pictures of each step from `first` on: all of them before any comes again."""
    epoch, rows = -1, np.arange(count)
    for step in range(first, steps):
        chosen = []
        for place in range(step * batch, (step + 1) * batch):
            if place // count != epoch:
                epoch = place // count
                rows = np.random.default_rng((seed, epoch)).permutation(count)
            chosen.append(int(rows[place % count]))
        yield chosen


def augmented(clips: Tensor, augmentation: Augmentation, seeds: Sequence[tuple[int, ...]]) -> Tensor:
    """Clips (B, T, 3, S, S) in 0..1, changed as cameras and files do; where things are stays the same.

    Args:
        clips: to be changed; T is 1 for pictures.
        augmentation: how often.
        seeds: of each clip, so that what happens to it does not depend on the others.
    """
    return torch.cat([_augmented(clip[None], augmentation, seed) for clip, seed in zip(clips, seeds, strict=True)])


def _augmented(frames: Tensor, augmentation: Augmentation, seed: tuple[int, ...]) -> Tensor:
    """One clip, (1, T, 3, S, S)."""
    rng, finer = np.random.default_rng(seed), frames.shape[-1] / 320
    draw = rng.random(5)
    if draw[0] < augmentation.plain:
        return frames
    frames = effects.colour(frames, *colours(rng, 1, frames.shape[1], augmentation.grey))
    if draw[1] < augmentation.gamma:
        frames = effects.gamma(frames, np.exp(rng.normal(0, 0.25, 1)))
    if draw[2] < augmentation.blur:
        frames = effects.blur(frames, rng.uniform(0.4, 1.6, 1) * finer)
    if draw[3] < augmentation.noise:
        frames = effects.noise(frames, rng.uniform(0.005, 0.04, 1), int(rng.integers(2**31)))
    if draw[4] < augmentation.compression and frames.shape[-1] % effects.BLOCK == 0:
        frames = effects.compress(frames, np.exp(rng.uniform(-2, 1, 1)))
    return frames


def start_worker(_: int) -> None:
    """What a worker process does first: it has one thread, and is ended by the training, not by Ctrl-C."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
