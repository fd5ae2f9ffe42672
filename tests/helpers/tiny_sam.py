"""Small untrained models and clips, for tests of behaviour."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from samvideo.encoders.vit import PlainVit, VitConfig
from samvideo.memory.perceiver import PerceiverConfig, PerceiverMemory
from samvideo.models import VideoModel, build
from samvideo.specs import ModelSpec, PictureRule
from samvideo.tensors import Grid, MaskCandidates, PromptTensors
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Frame, VideoInfo

torch.set_num_threads(1)  # on tensors as small as these, threads only stand in each other's way

EXPORTED = {"occlusion_embedding": True, "pointer_time_encoding": True}
"""The spec of the tiny model that tests export."""
TINY_VIT = VitConfig(dim=32, heads=2, depth=2, window=2, global_blocks=(1,))


def randomise(model: VideoModel, seed: int = 0) -> VideoModel:
    """Weights that let every input matter, with objects always present."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim == 1:
                value.copy_(0.05 * noise if name.endswith("bias") else 1 + 0.1 * noise)
            else:
                value.copy_(noise / np.sqrt(max(1, np.prod(value.shape[1:]))))
        for name, value in model.named_buffers():
            if name.endswith("gaussian_matrix"):
                value.copy_(torch.randn(value.shape, generator=generator))
        model.decoder.pred_obj_score_head.layers[-1].bias.fill_(20.0)
    return model


def tiny_model(
    memory: str = "plain", policy: object = "fifo", size: int | tuple[int, int] = 64, **changes: object
) -> VideoModel:
    """A model around a two-block ViT; a frame takes milliseconds."""
    spec = ModelSpec("tiny", "vit-ti", **{"layers": 1, **changes})
    small_perceiver = memory == "perceiver" and size == 64
    model = build(spec, memory="plain" if small_perceiver else memory, policy=policy, input_size=size)
    if small_perceiver:  # the published one needs inputs of 256 pixels at least
        model.memory = PerceiverMemory(PerceiverConfig(layers=1, latents=16, side=4)).eval()
    model.encoder = PlainVit(TINY_VIT).eval()
    return randomise(model)


class BoxPrompts(nn.Module):
    """Hands prompts to a `BoxDecoder` as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.mask_logits: Tensor | None = None

    def points(self, prompts: PromptTensors, size_wh: tuple[int, int]) -> Tensor:
        places = (prompts.xy + 0.5) / torch.tensor(size_wh)
        return torch.cat([places, prompts.labels[..., None]], 2)

    def no_points(self, batch: int) -> PromptTensors:
        return PromptTensors(torch.zeros(batch, 0, 2), torch.zeros(batch, 0, dtype=torch.long))

    def grid_code(self, grid: Grid) -> Tensor:
        return torch.zeros(1, 1, *grid)

    def dense(self, mask_logits: Tensor | None, grid: Grid) -> Tensor:
        self.mask_logits = mask_logits
        return torch.zeros(1, 1, *grid)


class BoxDecoder(nn.Module):
    """Answers with what was prompted: the box, or a square around each click, and what the prompts correct.

    Args:
        prompts: of the same model.
    """

    HALF = 0.1  # of a click's square, as a share of the input

    def __init__(self, prompts: BoxPrompts) -> None:
        super().__init__()
        self._prompts = [prompts]
        self.weight = nn.Parameter(torch.zeros(1))
        self.presence = 1.0

    def fine_convs(self) -> list[nn.Conv2d]:
        return []

    def project(self, fine: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return fine

    def forward(self, image: Tensor, code: Tensor, points: Tensor, fine: tuple[Tensor, ...]) -> MaskCandidates:
        height, width = (4 * side for side in image.shape[-2:])
        y, x = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in (height, width)), indexing="ij")
        logits = torch.full((len(image), 4, height, width), -5.0)
        if self._prompts[0].mask_logits is not None:
            logits = torch.maximum(logits, self._prompts[0].mask_logits)
        for row, own in enumerate(points.tolist()):
            corners = [p for p in own if p[2] in (2, 3)]
            areas = [(*corners[0][:2], *corners[1][:2])] if corners else []
            areas += [
                (p[0] - self.HALF, p[1] - self.HALF, p[0] + self.HALF, p[1] + self.HALF)
                for p in own
                if p[2] == 1 and not corners
            ]
            for x1, y1, x2, y2 in areas:
                logits[row, :, (x > x1) & (x < x2) & (y > y1) & (y < y2)] = 5.0
        rating = torch.tensor([0.9, 0.7, 0.8, 0.6]).expand(len(image), 4)
        return MaskCandidates(
            logits, rating, torch.zeros(len(image), 4, 0), torch.full((len(image),), self.presence)
        )


def box_model(size_wh: tuple[int, int], **changes: object) -> VideoModel:
    """A tiny model with "area" inputs and a `BoxDecoder`."""
    rule = PictureRule("area", "area")
    changes = {"picture": rule, "answer": "single", "tracking": "single", "pointers": False, **changes}
    model = tiny_model(size=size_wh, **changes)
    prompts = BoxPrompts()
    model.prompts, model.decoder = prompts, BoxDecoder(prompts)
    return model


def tiny_tracker(
    memory: str = "plain", policy: object = "fifo", size: int | tuple[int, int] = 64, **options: object
) -> SamTracker:
    """A tracker on a tiny model; `dtype` and `static_shapes` are the runtime's options."""
    runtime = {name: options.pop(name) for name in ("dtype", "device", "static_shapes") if name in options}
    return SamTracker(TorchRuntime(tiny_model(memory, policy, size), **runtime), **options)  # type: ignore[arg-type]


def picture(index: int, size_wh: tuple[int, int] = (64, 64)) -> np.ndarray:
    """A drifting coloured ground with a disc that moves."""
    width, height = size_wh
    y, x = np.mgrid[:height, :width]
    ground = np.stack([(3 * x + 5 * index) % 256, (4 * y + 2 * index) % 256, (x * y + index) % 256], -1)
    cx, cy = width / 3 + index % 11, height / 2
    ground[(x - cx) ** 2 + (y - cy) ** 2 < (min(size_wh) / 5) ** 2] = (230, 40, 90)
    return ground.astype(np.uint8)


def clip(count: int, size_wh: tuple[int, int] = (64, 64)) -> list[Frame]:
    return [Frame(i, i / 25, picture(i, size_wh)) for i in range(count)]


class ClipSource:
    """A `VideoSource` over frames made on demand; counts seeks."""

    def __init__(self, count: int, size_wh: tuple[int, int] = (64, 64)) -> None:
        self.info = VideoInfo("clip", size_wh, Fraction(25), count)
        self.skipped, self.at, self.count, self.seeks = 0, 0, count, 0

    def __iter__(self) -> Iterator[Frame]:
        while self.at < self.count:
            self.at += 1
            yield Frame(self.at - 1, (self.at - 1) / 25, picture(self.at - 1, self.info.size_wh))

    def seek(self, index: int) -> None:
        self.at = index
        self.seeks += 1

    def close(self) -> None: ...

    def __enter__(self) -> "ClipSource":
        return self

    def __exit__(self, *_: object) -> None: ...
