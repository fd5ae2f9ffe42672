"""Clips of annotated videos, as a model sees them: from any data set that `samvideo evaluate` reads."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.datasets.base import Dataset, VideoSequence
from samvideo.io.images import read_still
from samvideo.io.source import open_video
from samvideo.models import VideoModel
from samvideo.torch_runtime import resize_mask
from samvideo.training.files import sha256
from samvideo.types import UInt8Array

LEAST = 8
"""Pixels of an object's mask at stride 4 on the first frame of a clip, so that prompts can point at it."""
STRIDE = 4
TRIES = 50


@dataclass(frozen=True)
class ClipRule:
    """Which clips are drawn.

    Attributes:
        length: annotated frames of a clip; a shorter sequence is played to and fro.
        objects: at most so many of a clip, all of them visible on its first frame.
        step: at most so many annotated frames from one to the next.
        gain: standard deviation of the logarithm of contrast, and of brightness in deviations of the model's input.
    """

    length: int = 8
    objects: int = 3
    step: int = 2
    gain: float = 0.1


class ClipSampler:
    """Sequences of a data set.

    Args:
        dataset: opened by `open_dataset`.
        names: of its sequences.
        model: whose input the frames become.
        frames: first index, and the one after the last, of the frames that are used; None for all.

    Raises:
        ConfigError: no name.
        DatasetError: frames are missing, or not pictures.
    """

    def __init__(
        self, dataset: Dataset, names: Sequence[str], model: VideoModel, frames: tuple[int, int] | None = None
    ) -> None:
        self.dataset, self.model = dataset, model
        found = [dataset.sequence(name) for name in names]
        self.sequences = [(sequence, _annotated(sequence, frames)) for sequence in found]
        if not self.sequences:
            raise ConfigError("no sequence to train on: give other --sequences")

    def draw(self, rule: ClipRule, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A clip: normalised frames (T, 3, H, W) at the size of the input, and masks (O, T, H, W) of 0 and 1.

        It may be mirrored or reversed, is a little brighter or has more contrast. It begins at a prompted frame of
        its sequence, if that has some: there, the masks are as a person wants them.

        Raises:
            DatasetError: hardly any frame shows an object of some size.
        """
        for _ in range(TRIES):
            sequence, known = self.sequences[rng.integers(len(self.sequences))]
            indices = _walk(known, sequence.prompted, rule, rng)
            masks = self.masks(sequence, indices[:1])
            large = np.flatnonzero(masks[:, 0].sum((1, 2)).numpy() >= LEAST * STRIDE**2)
            if len(large):
                rows = rng.permutation(large)[: rule.objects].tolist()
                return self._varied(self.frames(sequence, indices), self.masks(sequence, indices)[rows], rule, rng)
        raise DatasetError(
            f"{TRIES} frames, such as of {self.sequences[0][0].name}, show no object of {LEAST * STRIDE**2} pixels "
            "at the size of the model's input: choose other sequences"
        )

    def frames(self, sequence: VideoSequence, indices: Sequence[int]) -> Tensor:
        """(T, 3, H, W) of some frames."""
        read = {index: self.model.preprocess(rgb) for index, rgb in _pictures(sequence, sorted(set(indices)))}
        return torch.cat([read[index] for index in indices])

    def masks(self, sequence: VideoSequence, indices: Sequence[int]) -> Tensor:
        """(O, T, H, W) of all objects of a sequence, on the CPU; empty where one is not there."""
        read = {index: self.dataset.truth(sequence, index) for index in set(indices)}
        shape = next((found.shape_hw for found in read.values() if found.shape_hw), (1, 1))
        size = self.model.spec_for(shape[::-1]).input_wh
        planes = []
        for number in sequence.labels:
            masks = [read[index].mask(number) for index in indices]
            planes.append([torch.zeros(1, *size[::-1]) if m is None else resize_mask(m, size)[0] for m in masks])
        return (torch.stack([torch.cat(plane) for plane in planes]) > 0.5).float()

    def _varied(
        self, frames: Tensor, masks: Tensor, rule: ClipRule, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        masks = masks.to(frames.device)
        if rng.random() < 0.5:
            frames, masks = frames.flip(-1), masks.flip(-1)
        contrast, brightness = rng.normal(0, rule.gain, 2).tolist()
        return frames * float(np.exp(contrast)) + brightness, masks


def data_digest(dataset: Dataset, names: Iterable[str]) -> str:
    """SHA-256 of all that is learned from sequences, wherever they lie: masks, and annotated pictures or videos.

    Raises:
        DatasetError: a file is missing, or cannot be read.
    """
    digest = hashlib.sha256()
    for sequence in map(dataset.sequence, names):
        known = sorted(sequence.masks)
        masks = dict.fromkeys(file for index in known for file in dataset.truth_files(sequence, index))
        pictures = [sequence.images[index] for index in known] if sequence.images else []
        videos = [sequence.video] if sequence.video else []
        placed = [f"{file.parent.name}/{file.name}" for file in masks]
        listed = [sequence.name, known, [*sequence.labels.items()], sequence.prompted, placed]
        digest.update(json.dumps(listed).encode())
        for file in (*masks, *pictures, *videos):
            try:
                digest.update(sha256(file).encode())
            except OSError as error:
                raise DatasetError(f"{file} cannot be read ({error.strerror}): restore it") from error
    return digest.hexdigest()


def _annotated(sequence: VideoSequence, frames: tuple[int, int] | None) -> list[int]:
    """Indices of the annotated frames; DatasetError if they are fewer than two, or there are masks only."""
    first, end = frames or (0, len(sequence.frames))
    known = sorted(index for index in sequence.masks if first <= index < end)
    if not (sequence.images or sequence.video):
        raise DatasetError(f"sequence {sequence.name} has masks only: add its pictures, or its video")
    if len(known) < 2:
        among = f" from {first} to {end - 1}" if frames else ""
        raise DatasetError(
            f"sequence {sequence.name} has {len(known)} annotated frames{among}: two expected, leave it out or "
            "choose other frames"
        )
    return known


def _pictures(sequence: VideoSequence, indices: Sequence[int]) -> Iterator[tuple[int, UInt8Array]]:
    """Some frames, in ascending order, with their index; DatasetError if the video ends before the last one."""
    if sequence.video is None:
        yield from ((index, read_still(sequence.images[index])) for index in indices)
        return
    with open_video(sequence.video) as video:
        video.seek(indices[0])
        wanted = list(indices)
        for frame in video:
            if frame.index == wanted[0]:
                yield wanted.pop(0), frame.rgb
            if not wanted:
                return
    raise DatasetError(f"{sequence.video} has no frame {wanted[0]}, which has a mask: restore the video")


def _walk(known: Sequence[int], prompted: Sequence[int], rule: ClipRule, rng: np.random.Generator) -> list[int]:
    """Indices of the frames of a clip, forward or backward, to and fro at the ends, from a prompted one if any."""
    begins = sorted({*known} & {*prompted}) or known
    begin, last = known.index(begins[int(rng.integers(len(begins)))]), len(known) - 1
    step = int(rng.integers(1, rule.step + 1)) * (1 if rng.random() < 0.5 else -1)
    there_and_back = (begin + step * np.arange(rule.length)) % (2 * last)
    return [known[place] for place in np.minimum(there_and_back, 2 * last - there_and_back)]
