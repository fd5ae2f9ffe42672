"""What a model is run on while it is quantised, and its masks are compared on: pictures or clips with boxes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch

from samvideo.errors import ConfigError
from samvideo.evaluation.image_protocols import iou
from samvideo.evaluation.image_sets import ImageSet, choose_pictures, open_mask_images
from samvideo.geometry import Box4, mask_box
from samvideo.image_model import ImageModel
from samvideo.io.images import SUFFIXES, read_rgb
from samvideo.io.source import open_video
from samvideo.models import VideoModel
from samvideo.prompters.base import MaskFilter, box_prompt
from samvideo.prompters.decoding import PromptedPart
from samvideo.prompters.grid import GridConfig, GridPrompter
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import BoolArray, Frame, UInt8Array, image_wh

OBJECTS = 4
"""Of a shot, at most; the largest where masks tell."""
STILL = 3
"""Times that a single picture is shown to a video model, so that its memory is reached."""
MIN_AREA = 64
"""Pixels of an object that is found."""
CLICKS = 6
"""Along each side of a picture without masks, to find objects by."""


@dataclass(frozen=True, eq=False)
class Shot:
    """Frames, one or more of a video, and objects on the first.

    Attributes:
        frames: uint8 (H, W, 3).
        boxes: x1, y1, x2, y2 in pixels, of the objects; empty where they are not known.
        truth: masks of these objects, bool (H, W); empty where there are none.
    """

    frames: tuple[UInt8Array, ...]
    boxes: tuple[Box4, ...] = ()
    truth: tuple[BoolArray, ...] = ()


def read_shots(paths: Sequence[Path], model: ImageModel, *, pictures: int, frames: int) -> list[Shot]:
    """Read data for a model.

    A video model tracks through the first frames of a video or folder of pictures; a single picture, or one with
    masks, is shown to it `STILL` times. To an image model, frames are pictures. Without masks, objects are those
    that clicks of a grid find.

    Args:
        paths: videos, pictures, folders of pictures, and folders of `images` with `masks` beside them.
        model: is fused.
        pictures: how many at most, of each folder.
        frames: how many at most, of each video.

    Raises:
        VideoError: one cannot be read.
        DatasetError: masks do not fit their pictures.
        ConfigError: there is nothing.
    """
    tracks = isinstance(model, VideoModel)
    shots = [shot for path in paths for shot in _read(path, tracks, pictures, frames)]
    if not shots:
        raise ConfigError("there is nothing to calibrate with: name videos or pictures with objects")
    if tracks:
        shots = [replace(shot, frames=shot.frames * STILL) if len(shot.frames) == 1 else shot for shot in shots]
    model.eval().fuse()
    return [shot if shot.boxes else replace(shot, boxes=_find(model, shot.frames[0])) for shot in shots]


def _read(path: Path, tracks: bool, pictures: int, frames: int) -> Iterable[Shot]:
    if path.is_dir() and any(path.rglob("masks")):
        images = open_mask_images(path, None)
        shots = [_annotated(images, name) for name in choose_pictures(images, pictures)]
        return [shot for shot in shots if shot.boxes]
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return [Shot((read_rgb(path),))]
    count = frames if tracks or not path.is_dir() else pictures
    with closing(open_video(path)) as video:
        found = tuple(frame.rgb for frame in islice(video, count))
    return [Shot(found)] if tracks else [Shot((rgb,)) for rgb in found]


def _annotated(images: ImageSet, name: str) -> Shot:
    """A picture with its largest objects."""
    rgb = images.read(name)
    masks = sorted(images.masks(name, image_wh(rgb)).values(), key=np.count_nonzero, reverse=True)[:OBJECTS]
    return Shot((rgb,), tuple(box for mask in masks if (box := mask_box(mask)) is not None), tuple(masks))


def _find(model: ImageModel, rgb: UInt8Array) -> tuple[Box4, ...]:
    """Boxes of what is found in a picture, or else all of it."""
    model.convert(torch.device("cpu"), torch.float32)
    config = GridConfig(points=CLICKS, keep=MaskFilter(quality=0, stability=0.8))
    found = GridPrompter(partial(PromptedPart, model), config).propose(rgb)
    width, height = image_wh(rgb)
    boxes = [box for proposal in found if (box := proposal.box) is not None and proposal.area > MIN_AREA]
    return tuple(boxes[:OBJECTS]) or ((0.0, 0.0, width - 1.0, height - 1.0),)


def predict(
    model: ImageModel, shots: Sequence[Shot], report: Callable[[int, int], None] = lambda done, total: None
) -> list[BoolArray]:
    """The masks of all objects of all frames, by boxes and, with a video model, by tracking; float32 on the CPU.

    Args:
        model: an image or a video model.
        shots: what it is run on.
        report: called with the number of frames so far, and of all.
    """
    masks: list[BoolArray] = []
    total = sum(len(shot.frames) for shot in shots)
    for done, found in enumerate(chain.from_iterable(_masks(model, shot) for shot in shots), 1):
        masks.extend(found)
        report(done, total)
    return masks


def _masks(model: ImageModel, shot: Shot) -> Iterator[Iterable[BoolArray]]:
    """Those of each frame."""
    boxes = [box_prompt(box) for box in shot.boxes]
    if not isinstance(model, VideoModel):
        yield [found.best for found in ImageModelSegmenter(model).embed(shot.frames[0]).segment(boxes)]
        return
    tracker = SamTracker(TorchRuntime(model))
    for i, rgb in enumerate(shot.frames):
        yield tracker.step(Frame(i, float(i), rgb), [] if i else boxes).masks


def true_masks(model: ImageModel, shots: Sequence[Shot]) -> list[BoolArray]:
    """The annotated masks in the order of `predict`; empty if some are not annotated."""
    if not all(shot.truth for shot in shots):
        return []
    times = [len(shot.frames) if isinstance(model, VideoModel) else 1 for shot in shots]
    return [mask for shot, count in zip(shots, times, strict=True) for mask in shot.truth * count]


def mean_iou(masks: Sequence[BoolArray], others: Sequence[BoolArray]) -> float:
    """Mean intersection over union; 1 for two empty masks."""
    pairs = zip(masks, others, strict=True)
    return float(np.mean([iou(a, b) if a.any() or b.any() else 1.0 for a, b in pairs]))
