"""What `samvideo bench` times: cases, frames with prompts, and models with weights of no importance."""

import tempfile
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from samvideo.checkpoints import load, read_files
from samvideo.demo import demo_frames
from samvideo.errors import VideoError
from samvideo.geometry import Box4, mask_box
from samvideo.image_model import ImageModel
from samvideo.io.sink import VideoWriter
from samvideo.io.source import open_video
from samvideo.models import VideoModel, build
from samvideo.specs import BUNDLED, IMAGE_SPECS
from samvideo.state_dict import build_spec, load_state
from samvideo.types import BoolArray, Box, Frame, VideoInfo

FRAME_WH = (854, 480)
KEPT = 90
"""Frames that are held at most; a longer run begins again with the first."""
PRESENT = 20.0
"""Bias of the object score in random weights: objects are always found, so that there are masks to compare."""


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        model: a published name.
        input_size: side of the square to which frames are squashed; None for the model's own.
        device, dtype: as `resolve_device` takes them.
        objects: how many are tracked.
        prompted: on how many frames, from the first on, all objects are prompted.
        policies: memory policies that are timed alternately, empty for the model's own.
    """

    model: str
    input_size: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    objects: int = 1
    prompted: int = 1
    policies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How it is timed.

    Attributes:
        frames: timed.
        warmup: frames before those; 8 fill the memory of frames.
        source: a video; None for a synthetic clip of 854x480.
        weights: a file; None for random weights, which take the same time, or the bundled ones.
        peer: "transformers", for image models also "timm", or None.
        peer_dtype: what the peer computes in, "fp32" as it does by default, or "same".
        static_shapes: pad memories to a fixed capacity, see `samvideo.torch_runtime.TorchRuntime`.
        compiled: compile the network of trackers, see `samvideo.compiled`; their shapes are static.
        runtimes: that are timed alternately, see `samvideo.evaluation.bench_runtimes`; empty for PyTorch alone.
        points: clicks along each side of a picture, to time everything mode; None for the encoder or the tracker.
    """

    frames: int = 6
    warmup: int = 8
    source: str | None = None
    weights: Path | None = None
    peer: str | None = None
    peer_dtype: str = "fp32"
    static_shapes: bool = False
    runtimes: tuple[str, ...] = ()
    points: int | None = None
    compiled: bool = False


@dataclass(frozen=True)
class Clip:
    """Decoded frames, how long each took, and a prompt for every object on the first of them."""

    info: VideoInfo
    frames: list[Frame]
    decode_seconds: list[float]
    prompts: list[Box]

    def frame(self, index: int) -> Frame:
        """Frame `index` of the run, which may be longer than the clip."""
        kept = self.frames[index % len(self.frames)]
        return replace(kept, index=self.frames[0].index + index, seconds=float(index / self.info.rate))


def read_clip(plan: Plan, objects: int) -> Clip:
    """Read the frames to time; a synthetic clip is written and read back, so that decoding is real.

    Raises:
        VideoError: the video has too few frames.
    """
    count = min(plan.warmup + plan.frames + 1, KEPT)  # the last one is for counting
    frames: list[Frame] = []
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        masks = [] if plan.source else _write_synthetic(path, count)
        with open_video(plan.source or str(path)) as video:
            info, iterator = video.info, iter(video)
            while len(frames) < count:
                begin = time.perf_counter()
                frame = next(iterator, None)
                if frame is None:
                    raise VideoError(f"{info.name} has {len(frames)} frames, {count} are wanted: lower --frames")
                seconds.append(time.perf_counter() - begin)
                frames.append(frame)
    boxes = _boxes(objects, info.size_wh, [box for box in map(mask_box, masks) if box is not None])
    return Clip(info, frames, seconds, [Box(object_id=i, xyxy=box) for i, box in enumerate(boxes, 1)])


def _write_synthetic(path: Path, count: int) -> list[BoolArray]:
    """Write a video; return the masks of its first frame."""
    with VideoWriter(path, FRAME_WH, Fraction(25)) as writer:
        for index, (rgb, masks) in enumerate(islice(demo_frames(KEPT, FRAME_WH), count)):
            if index == 0:
                first = list(masks)
            writer.write(rgb, index / 25)
    return first


def _boxes(count: int, size_wh: tuple[int, int], known: list[Box4]) -> list[Box4]:
    """The known boxes, then others all over the frame."""
    generator = np.random.default_rng(0)
    boxes = known[:count]
    for _ in range(count - len(boxes)):
        x, y = generator.uniform(0.1, 0.6, 2) * size_wh
        boxes.append((float(x), float(y), float(x + 0.25 * size_wh[0]), float(y + 0.25 * size_wh[1])))
    return boxes


def ready_model(case: Case, plan: Plan) -> VideoModel:
    """The model of a case, with the weights of the plan, its own, or random ones that let every input matter."""
    if plan.weights is not None or case.model in BUNDLED:
        return load(case.model, weights=plan.weights, input_size=case.input_size)
    model = build(case.model, input_size=case.input_size)
    _fill(model)
    with torch.no_grad():
        model.get_parameter("decoder.pred_obj_score_head.layers.2.bias").fill_(PRESENT)
    return model


def ready_image_model(case: Case, plan: Plan) -> ImageModel:
    """The same for an image model with an encoder."""
    spec = IMAGE_SPECS[case.model]
    if case.input_size is not None:
        spec = replace(spec, input_wh=(case.input_size, case.input_size))
    model = build_spec(spec)
    assert isinstance(model, ImageModel)  # which was checked before the first case
    if plan.weights is not None:
        load_state(model, read_files(case.model, plan.weights))
    else:
        _fill(model)
    return model


@torch.no_grad()
def _fill(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(_random(key, torch.randn(value.shape, generator=generator)))


def _random(key: str, noise: torch.Tensor) -> torch.Tensor:
    if key.endswith("running_var"):
        return 1 + 0.1 * noise.abs()
    if key.endswith("matrix"):
        return noise
    if key.endswith("gamma"):
        return 0.3 * noise
    if key.endswith(("bias", "running_mean")):
        return 0.05 * noise
    if noise.ndim == 1:  # norms; those of RepViT lie on residual paths and must not blow them up
        return (1 + 0.1 * noise) * (0.75 if "trunk.body" in key else 1.0)
    if key.endswith("weight") and "embed" not in key:
        return noise / float(np.sqrt(noise[0].numel()))
    return 0.2 * noise
