"""Short clips with known masks, single objects and whole pictures, generated in batches on the training device."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samvideo.errors import ConfigError
from samvideo.training import effects
from samvideo.training.compose import Chooser, ClipConfig, Composer, Target
from samvideo.training.library import Floats, Library
from samvideo.training.render import Layer, Placement, draw

MIN_SHARE = 3e-4  # of the first frame that an object in a slot fills, 31 pixels at a side of 320
WINDOW = (1.2, 2.0)  # side of a window, in longer sides of its object's box
SQUEEZED = 1.6  # a window that does not fit its picture is squeezed at most by this
Effect = Callable[[Tensor, Floats], Tensor]


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """B clips of T frames with masks of O object slots.

    Attributes:
        frames: (B, T, 3, S, S), RGB, 0 to 1.
        masks: (B, O, T, S, S), 0 or 1; all 0 on a frame where the object is absent.
        known: bool (B, O), the slot holds an object, which the first frame shows; slot 0 always does (another clip
            of the batch stands for one whose target is hidden or too small).
    """

    frames: Tensor
    masks: Tensor
    known: Tensor


class ClipSampler:
    """Generates batches without end; the same seed gives the same ones.

    Args:
        library: what they are made of, and the device that they are made on.
        config: sizes and probabilities.
        generator: of all random numbers, on the CPU; its state is all that a resumed training has to restore.
    """

    def __init__(self, library: Library, config: ClipConfig, generator: torch.Generator) -> None:
        self.library, self.config, self.generator = library, config, generator
        self.device = library.device

    def next(self, side: int | None = None, length: int | None = None, batch: int | None = None) -> ClipBatch:
        """Generate a batch of clips, of the config's sizes unless others are given."""
        side, length = _checked(side or self.config.side), length or self.config.length
        rng = self._rng()
        composer = Composer(Chooser(self.library, rng), self.config, side, length)
        layers = [composer.clip() for _ in range(batch or self.config.batch)]
        frames, masks = draw(layers, side, self.config.objects, self.device)
        known = masks[:, :, 0].mean((-1, -2)) >= MIN_SHARE
        rows = _seen(known[:, 0])
        frames, masks, known = frames[rows], masks[rows], known[rows]
        frames = self._affected(frames, [clip[0] for clip in layers], rng)
        return ClipBatch(frames, masks * known[:, :, None, None, None], known)

    def windows(self, count: int, side: int | None = None) -> tuple[Tensor, Tensor]:
        """Generate crops around single objects, as prompts of boxes see them.

        A window is a square of `WINDOW` times the longer side of the object's box, its centre off by up to a tenth;
        it lies in the picture as far as it can, squeezed by at most `SQUEEZED`. Returns frames (n, 3, S, S) in 0..1
        and masks (n, S, S), 0 or 1.
        """
        frames, masks = self._pictures(count, side, self._window)
        return frames, masks[:, 0]

    def pictures(self, count: int, side: int | None = None) -> tuple[Tensor, Tensor]:
        """Generate whole pictures, squeezed to a square or cropped a little, with one object of any size.

        Returns frames (n, 3, S, S) in 0..1 and masks (n, S, S), 0 or 1.
        """
        frames, masks = self._pictures(count, side, self._whole)
        return frames, masks[:, 0]

    def scenes(self, count: int, side: int | None = None) -> tuple[Tensor, Tensor]:
        """Generate whole pictures as `pictures`, with all annotated objects of each.

        Returns frames (n, 3, S, S) in 0..1 and masks (n, O, S, S), 0 or 1, where O is the largest number of objects
        of a picture; other pictures have empty masks after theirs.
        """
        return self._pictures(count, side, self._whole, every=True)

    def _pictures(
        self, count: int, side: int | None, view: Callable[[Composer, Target], Placement], *, every: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Generate views of single objects, or of `every` one of a picture; the chosen one is the first."""
        side, rng = _checked(side or self.config.side), self._rng()
        config = replace(self.config, fast=0.0)
        composer = Composer(Chooser(self.library, rng), config, side, 1)
        layers = []
        for _ in range(count):
            target = composer.choose.target(1, config.still)
            others = (k for k in range(1, target.shot.boxes.shape[1] + 1) if every and k != target.number)
            slots = {number: slot for slot, number in enumerate([target.number, *others])}
            layers.append([Layer(target.shot, target.frames, view(composer, target), slots)])
        frames, masks = draw(layers, side, max(len(clip[0].slots) for clip in layers), self.device)
        rows = _seen(masks[:, 0, 0].mean((-1, -2)) >= MIN_SHARE)
        frames = self._affected(frames[rows], [clip[0] for clip in layers], rng)
        return frames[:, 0], masks[rows, :, 0]

    def _window(self, composer: Composer, target: Target) -> Placement:
        rng, (x1, y1, x2, y2) = composer.choose.rng, target.box
        longest = float(max(x2 - x1, y2 - y1))
        across = np.minimum(longest * rng.uniform(*WINDOW), target.shot.size_wh)
        across = np.maximum(across, across.max() / SQUEEZED)
        squeeze = np.exp(rng.normal(0, 0.05, 2))
        centre = composer.side * (0.5 + rng.uniform(-0.1, 0.1, 2))
        return composer.placed(target, centre, composer.side / across * squeeze)

    def _whole(self, composer: Composer, target: Target) -> Placement:
        rng, size_wh = composer.choose.rng, np.array(target.shot.size_wh, np.float64)
        shape = size_wh ** rng.uniform(0, 1)  # from the shorter side in full, to all of it squeezed
        zoom = composer.side / size_wh.min() * (shape.min() / shape) * rng.uniform(1.0, 1.3)
        return composer.placed(target, rng.uniform(0, composer.side, 2), zoom)

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(int(torch.randint(2**62, (), generator=self.generator)))

    def _affected(self, frames: Tensor, layers: list[Layer], rng: np.random.Generator) -> Tensor:
        """Change colours, and blur or damage some of the clips."""
        count, length, _, side, _ = frames.shape
        config, finer = self.config, side / 320
        frames = effects.colour(frames, *colours(rng, count, length, config.grey))

        def some(probability: float, effect: Effect, values: Floats) -> None:
            rows = np.flatnonzero(rng.random(count) < probability)
            if len(rows):
                index = torch.from_numpy(rows).to(self.device)
                frames[index] = effect(frames[index], values[rows])

        some(config.gamma, effects.gamma, np.exp(rng.normal(0, 0.25, count)))
        some(config.blur, effects.blur, rng.uniform(0.4, 1.6, count) * finer)
        speed = rng.normal(0, 1, (count, 1, 2)) * 0.015 * side + np.stack([_speed(layer.place) for layer in layers])
        some(config.motion_blur, effects.motion_blur, np.clip(speed, -0.06 * side, 0.06 * side))
        seed = int(rng.integers(2**31))
        some(config.noise, lambda part, values: effects.noise(part, values, seed), rng.uniform(0.005, 0.04, count))
        some(config.compression, effects.compress, np.exp(rng.uniform(-2, 1, count)))
        return frames


def _seen(good: Tensor) -> Tensor:
    """Return the rows of a batch (B,), where another one stands for each that is not `good`."""
    return torch.where(good, torch.arange(len(good), device=good.device), good.float().argmax())


def colours(rng: np.random.Generator, count: int, length: int, grey: float) -> tuple[Floats, Floats]:
    """Return colour matrices (n, T, 3, 3) and offsets (n, T, 3): of a clip, with a small change over time."""
    both: list[Any] = []
    for _ in range(count):
        contrast, brightness = np.exp(rng.normal(0, 0.15)), rng.normal(0, 0.08)
        saturation = 0.0 if rng.random() < grey else rng.uniform(0.5, 1.4)
        gain, drift = np.exp(rng.normal(0, 0.08, 3)), rng.normal(0, 0.03)
        shares = np.linspace(0, 1, length)
        both += [effects.colour_matrix(contrast, brightness + drift * share, saturation, gain) for share in shares]
    stacked = np.stack(both).reshape(count, length, 3, 4)
    return stacked[..., :3], stacked[..., 3]


def _speed(place: Placement) -> Floats:
    """Return half the shift of a layer from frame to frame (T, 2), in pixels."""
    return np.asarray(np.gradient(place.centre, axis=0) / 2) if len(place.centre) > 1 else np.zeros((1, 2))


def _checked(side: int) -> int:
    if side < effects.BLOCK or side % effects.BLOCK:
        raise ConfigError(f"side {side}: a multiple of {effects.BLOCK} pixels expected, for example 320")
    return side
