"""FastSAM3D as an interactive segmenter of volumes, see `samvideo.networks.fast_sam3d`. Needs torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from samvideo.errors import PromptError, VideoError
from samvideo.networks.fast_sam3d import FastSam3d
from samvideo.torch_runtime import resolve_device
from samvideo.types import BoolArray, FloatArray


class Volume(Protocol):
    """What is segmented, such as `samvideo.io.volumes.VolumeFile`.

    Attributes:
        name: for messages.
        shape: voxels along the axes i, j, k.
        spacing: their distances in millimetres.
        orientation: for each axis, the axis of the body that it runs along (0 to the right, 1 to the front, 2 up)
            and its direction, 1 or -1.
    """

    name: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: tuple[tuple[int, int], ...]

    def slice(self, index: int) -> FloatArray:
        """Intensities (I, J) of slice k."""
        ...


@dataclass(frozen=True)
class VolumeConfig:
    """How a part of a volume becomes the network's input.

    Attributes:
        spacing: edge of the voxels in millimetres, as in the training of SAM-Med3D.
    """

    spacing: float = 1.5


@dataclass(frozen=True, eq=False)
class Cube:
    """Where the network's cube lies in a volume.

    Its axes are those of the body (right, front, up), whatever the order and direction of those of the volume.

    Attributes:
        axes: for each axis of the cube, the axis of the volume along it.
        start: for each axis of the volume, the voxel at the first one of the cube; may be a fraction or outside.
        step: and by how many voxels the next one is farther.
        side: of the cube, in voxels.
    """

    axes: tuple[int, ...]
    start: NDArray[np.float64]
    step: NDArray[np.float64]
    side: int

    @classmethod
    def around(cls, clicks: NDArray[np.float64], volume: Volume, side: int, spacing: float) -> "Cube":
        """The cube whose centre is that of the clicks, (N, 3) voxels; PromptError if it does not hold them all."""
        directions = np.array([direction for _, direction in volume.orientation])
        step = directions * spacing / np.asarray(volume.spacing)
        low, high = clicks.min(0), clicks.max(0)
        extent = (high - low) * volume.spacing
        if extent.max() > (side - 1) * spacing:
            raise PromptError(
                f"the clicks of an object are up to {extent.max():.0f} mm apart: at most "
                f"{(side - 1) * spacing:.0f} mm expected; give those of different objects different ids (#1, #2)"
            )
        axes = np.argsort([axis for axis, _ in volume.orientation])
        return cls(tuple(axes.tolist()), np.floor((low + high) / 2) - step * (side // 2), step, side)

    def place(self, voxels: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3) voxels of the volume in those of the cube."""
        return ((voxels - self.start) / self.step)[:, self.axes]

    def cut(self, volume: Volume) -> FloatArray:
        """(side, side, side) intensities, linear between voxels, 0 outside of the volume."""
        at = self.start + self.step * np.arange(self.side)[:, None]
        x, y, z = (_linear(at[:, axis], count) for axis, count in enumerate(volume.shape))
        slices = np.flatnonzero(z.any(0))
        planes = np.stack([x @ volume.slice(int(k)) @ y.T for k in slices])
        stored = np.tensordot(planes, z[:, slices], (0, 1))
        return np.ascontiguousarray(stored.transpose(self.axes))


def _linear(at: NDArray[np.float64], count: int) -> FloatArray:
    """(N, count) weights that interpolate N places from `count` samples; all 0 for places outside of them."""
    inside = (at >= -0.5) & (at <= count - 0.5)
    low = np.floor(np.clip(at, 0, count - 1)).astype(int)
    share = np.clip(at, 0, count - 1) - low
    weights, rows = np.zeros((len(at), count), np.float32), np.arange(len(at))
    weights[rows, low] = (1 - share) * inside
    weights[rows, np.minimum(low + 1, count - 1)] += share * inside
    return weights


class VolumeMask:
    """The mask of one object, at the voxels of its volume.

    Args:
        logits: (side, side, side) of the cube.
        cube: where it lies.
        shape: of the volume.
        quality: predicted IoU.
    """

    def __init__(self, logits: FloatArray, cube: Cube, shape: tuple[int, int, int], quality: float) -> None:
        self.quality = quality
        self._logits = logits.transpose(np.argsort(cube.axes))
        places = ((np.arange(count) - cube.start[axis]) / cube.step[axis] for axis, count in enumerate(shape))
        self._x, self._y, self._z = (_linear(place, cube.side) for place in places)

    def slice(self, index: int) -> BoolArray:
        """Bool (I, J) of slice k."""
        if not self._z[index].any():
            return np.zeros((len(self._x), len(self._y)), bool)
        mask: BoolArray = self._x @ (self._logits @ self._z[index]) @ self._y.T > 0
        return mask


class ClickAnswer(NamedTuple):
    """The network's masks after a click.

    Attributes:
        logits: (4, 32, 32, 32); the first is the answer.
        quality: (4,) predicted IoU.
    """

    logits: Tensor
    quality: Tensor


class VolumeSegmenter:
    """Segments objects of a volume from clicks, as FastSAM3D publishes it.

    The network sees a cube of 128³ voxels of 1.5 mm around the object's clicks; what lies outside of the volume is
    0, and what lies outside of the cube is not segmented. Every click corrects the answer to the ones before.

    Args:
        network: is moved and put in evaluation mode, in place; computes in float32.
        device: see `samvideo.torch_runtime.resolve_device`.
        config: how a volume becomes the network's input.
    """

    def __init__(
        self, network: FastSam3d, *, device: str | torch.device = "cpu", config: VolumeConfig | None = None
    ) -> None:
        self._device, _ = resolve_device(device, "fp32")
        self._network = network.eval().to(self._device)
        self._config = config or VolumeConfig()

    def segment(self, volume: Volume, clicks: NDArray[np.float64], labels: NDArray[np.int64]) -> VolumeMask:
        """Segment one object.

        Args:
            volume: with the object.
            clicks: (N, 3) voxels (i, j, k), in the order in which they correct each other.
            labels: (N,), 1 on the object, 0 beside it.

        Raises:
            PromptError: the clicks do not fit into the cube.
            VideoError: no two intensities above 0 differ around them.
        """
        cube = Cube.around(clicks, volume, self._network.config.side, self._config.spacing)
        voxels = cube.cut(volume)
        inside = voxels[voxels > 0]
        if inside.size < 2 or inside.min() == inside.max():
            sizes = " x ".join(f"{size:.3g}" for size in volume.spacing)
            raise VideoError(
                f"{volume.name}: around the clicks there are no two different intensities above 0, by which "
                "FastSAM3D normalises: add an offset, such as 1024 for CT, or correct the size of the voxels, "
                f"which is {sizes} mm by the file"
            )
        embedding = self.embed(voxels)
        *_, last = self.answers(embedding, cube.place(clicks), labels)
        return VolumeMask(self.full(last), cube, volume.shape, float(last.quality[0]))

    @torch.inference_mode()
    def embed(self, voxels: FloatArray) -> Tensor:
        """(1, 384, 8, 8, 8) of a cube (128, 128, 128) of intensities."""
        return self._network.encode(normalise(torch.from_numpy(voxels).to(self._device))[None, None])

    @torch.inference_mode()
    def answers(
        self, embedding: Tensor, clicks: NDArray[np.float64], labels: NDArray[np.int64]
    ) -> Iterator[ClickAnswer]:
        """Yield the answer to each click, (N, 3) voxels of the cube with (N,) labels, given the answer before."""
        side = 4 * embedding.shape[-1]
        before = embedding.new_zeros(1, 1, side, side, side)
        for click, label in zip(clicks, labels, strict=True):
            place = torch.as_tensor(click, dtype=torch.float32, device=self._device)
            logits, quality = self._network.decode(
                embedding, place[None, None], torch.full((1, 1), int(label), device=self._device), before
            )
            before = logits[:, :1]
            yield ClickAnswer(logits[0], quality[0])

    def full(self, answer: ClickAnswer) -> FloatArray:
        """(128, 128, 128) logits of an answer."""
        side = self._network.config.side
        logits = F.interpolate(answer.logits[None, :1], (side,) * 3, mode="trilinear")[0, 0]
        return logits.cpu().numpy()


def normalise(voxels: Tensor) -> Tensor:
    """Intensities with mean 0 and deviation 1 over those above 0; counterpart: torchio's ZNormalization."""
    inside = voxels[voxels > 0]
    return (voxels - inside.mean()) / inside.std()
