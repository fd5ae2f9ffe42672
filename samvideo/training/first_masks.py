"""Training of the prompt network, from boxes and clicks to masks, on stills generated from a few sequences."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samvideo.cues.grabcut import box_to_mask
from samvideo.cues.motion import own_motion
from samvideo.cues.view import View
from samvideo.cues.warp import DenseFlow
from samvideo.geometry import Box4, clip_box
from samvideo.nano.network import Prompted
from samvideo.nano.prompted import LAB, VALID, cut_by_motion, drawing, with_answer, with_barriers, with_motion
from samvideo.nano.runtime import PROMPT_SIDE
from samvideo.training import clips
from samvideo.training.clips import TrainingClip
from samvideo.training.fitting import Log, TrainingStage, mask_loss, train
from samvideo.types import BoolArray, FloatArray, UInt8Array

COARSE = 128  # pixels of the crops in most steps: smaller than in use, since it is faster
_STEPS = np.array([8, 8, 127], np.float32)  # by which x, y and trust of the motion are multiplied for storage
_APART = 2  # maximal distance of the two frames; in use they are consecutive
_AGAIN = 0.6  # share of steps in which the network refines its own output
_MOVING = 0.8  # share of samples with motion; the next frame may be unknown


Drawn = tuple[Tensor, Tensor, Tensor, bool]  # input planes, true masks, previous logits; whether to refine


@dataclass(frozen=True, eq=False)
class Still:
    """A frame with the mask of one object, a box around it, the GrabCut masks of that box, and the motion.

    Attributes:
        rgb: uint8 (H, W, 3).
        mask, cut: bool (H, W).
        moved: bool (H, W), the GrabCut mask of the box by motion.
        box: float (4,) in its pixels.
        motion: int8 (H, W, 3) of `own_motion`, in steps of 1/8 pixel and of 1/127 of trust.
        made_of: str (N,) names of the sequences that it is taken from.
    """

    rgb: UInt8Array
    mask: BoolArray
    cut: BoolArray
    moved: BoolArray
    box: FloatArray
    motion: np.ndarray
    made_of: np.ndarray


def make_still(sequences: list[TrainingClip], rng: np.random.Generator) -> Still:
    """Generate a still: its object is the original one, a pasted one, or a textured shape."""
    while True:
        scene = _turn(_scene(sequences, rng), rng)
        rgb, mask = scene.rgb[0], scene.masks[0]
        if mask.sum() >= 60:
            break
    size = (mask.shape[1], mask.shape[0])
    x1, y1, x2, y2 = clip_box(clips.jitter_box(mask, rng), size)
    box = (x1, y1, max(x2, x1 + 2), max(y2, y1 + 2))
    cut = box_to_mask(rgb, box, np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    motion = own_motion(DenseFlow(smooth=True), *(View(frame, clips.LONGEST) for frame in scene.rgb))
    moved = cut_by_motion(rgb, box, motion)
    motion = np.clip(np.rint(motion * _STEPS), -127, 127).astype(np.int8)
    return Still(rgb, mask, cut, moved, np.array(box, np.float32), motion, np.array(sorted(scene.made_of)))


def _pair(clip: TrainingClip, gap: int, rng: np.random.Generator) -> TrainingClip:
    """Sample two frames of a sequence at a distance of `gap`, or less in a short one, in random order."""
    gap = min(gap, len(clip.rgb) - 1)
    t = int(rng.integers(len(clip.rgb) - gap))
    chosen = [t, t + gap] if rng.random() < 0.5 else [t + gap, t]
    return replace(clip, rgb=clip.rgb[chosen], masks=clip.masks[chosen])


def _scene(sequences: list[TrainingClip], rng: np.random.Generator) -> TrainingClip:
    """Sample two frames, possibly with something pasted into them."""
    gap = int(rng.integers(1, _APART + 1))
    clip = _pair(sequences[rng.integers(len(sequences))], gap, rng)
    kind = rng.random()
    if kind < 0.4:
        other = _pair(sequences[rng.integers(len(sequences))], gap, rng)
        height, width = clip.masks.shape[1:]
        if kind < 0.12:
            side = int(rng.integers(40, min(height, width)))
            shape = np.zeros((height, width), bool)
            y, x = rng.integers(height - side + 1), rng.integers(width - side + 1)
            shape[y : y + side, x : x + side] = clips.blob(rng, (side, side)) > 0
            other = replace(other, rgb=other.rgb[[0, 0]], masks=np.stack([shape, shape]))
        if other.rgb.shape == clip.rgb.shape:
            clip = _pasted(clip, other, gap, rng)
    return clip


def _pasted(clip: TrainingClip, other: TrainingClip, gap: int, rng: np.random.Generator) -> TrainingClip:
    """Paste the object of another pair of frames, as the object or as an occluder."""
    height, width = clip.masks.shape[1:]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 12), rng.uniform(0.5, 1.4))
    matrix[:, 2] += rng.uniform(-0.25, 0.25, 2) * (width, height)
    drift, added = rng.normal(0, 1.2, 2) * gap, rng.random() < 0.7
    rgb, masks = clip.rgb.copy(), clip.masks.copy()
    for t in range(2):
        alpha = clips.paste_warped(rgb[t], other.rgb[t], other.masks[t], matrix, cv2.BORDER_REFLECT_101)
        masks[t] = alpha > 0.5 if added else masks[t] & (alpha <= 0.5)
        matrix[:, 2] += drift
    return TrainingClip(rgb, masks, clip.made_of | other.made_of)


def _turn(clip: TrainingClip, rng: np.random.Generator) -> TrainingClip:
    """Rotate, warp and recolour both frames equally."""
    height, width = clip.masks.shape[1:]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 8), rng.uniform(0.85, 1))
    matrix[0, :2] *= np.exp(rng.normal(0, 0.08))
    bend = clips.smooth_noise(rng, 0.012 * width, (4, 5, 2), (width, height)) * (rng.random() < 0.4)
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1) @ matrix[:, :2].T + matrix[:, 2]
    warped = [clips.remap(rgb, mask, grid + bend) for rgb, mask in zip(clip.rgb, clip.masks, strict=True)]
    rgb, masks = map(np.stack, zip(*warped, strict=True))
    return clips.recolour(replace(clip, rgb=rgb, masks=masks), rng)


def sample(
    stills: list[Path], rng: np.random.Generator, size: int = PROMPT_SIDE
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sample a crop with prompts from one of some stills.

    Returns:
        Input planes (PROMPT + 1, size, size), the true mask (size, size), and previous logits or zeros.
    """
    while True:
        still = clips.load_recorded(Still, stills[rng.integers(len(stills))])
        kind = rng.choice(["box", "clicks", "both", "correction"], p=[0.48, 0.34, 0.08, 0.1])
        boxed = kind in ("box", "both")
        crop, layers, box = _crop(still, kind == "clicks", boxed, rng, size)
        truth, cut, moved, valid = layers[..., :4].transpose(2, 0, 1) > 0.5
        if truth.sum() >= 40:
            break
    answer = np.zeros(truth.shape, np.float32)
    wrong = truth
    if kind == "correction":
        old = clips.perturb_mask(truth, rng)
        answer = np.where(old, np.float32(4), np.float32(-4))
        wrong = old ^ truth if (old ^ truth).sum() > 20 else truth
    xy, labels = _clicks(truth, wrong, 0 if kind == "box" else 1 + int(rng.choice([0, 0, 0, 1, 2, 3])), rng)
    held = (box, cut.astype(np.float32)) if boxed else None
    planes = drawing(crop, valid.astype(np.float32), held, xy, labels)
    if rng.random() < _MOVING:
        planes = with_motion(planes, layers[..., 4:], moved.astype(np.float32) if boxed else None)
    planes[LAB] = _other_colours(planes[LAB], rng) * planes[VALID]
    return planes, truth.astype(np.float32), answer


def _other_colours(lab: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Change hue and contrast of Lab planes: the colours of the few training objects must not be learned."""
    if rng.random() < 0.6:
        turn = rng.uniform(0, 2 * np.pi)
        lab[1:] = np.tensordot([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]], lab[1:], 1)
    gain, offset = np.exp(rng.normal(0, 0.2, (3, 1, 1))), rng.normal(0, 0.1, (3, 1, 1))
    return (lab * gain + offset).astype(np.float32)


def _crop(
    still: Still, far: bool, boxed: bool, rng: np.random.Generator, size: int
) -> tuple[UInt8Array, FloatArray, Box4]:
    """Crop a square around the object, possibly mirrored: rgb, layers (S, S, 7), and the box.

    The layers are truth, both GrabCut masks, valid and motion.

    Args:
        still: the whole image.
        far: whether the crop may be as large as the image.
        boxed: whether the crop is placed around the box, as in use.
        rng: source of randomness.
        size: S.
    """
    x, y, w, h = still.box[0], still.box[1], still.box[2] - still.box[0], still.box[3] - still.box[1]
    close = 1.5 * max(w, h) * (rng.uniform(0.9, 1.1) if boxed else rng.uniform(0.8, 1.3)) + 8
    whole = max(still.mask.shape) * rng.uniform(0.85, 1.15)
    side = close
    if far and rng.random() < 0.75:
        side = whole if rng.random() < 0.5 else float(np.exp(rng.uniform(np.log(close), np.log(max(close, whole)))))
    scale = size / side
    free = max(0.0, (side - 1.1 * max(w, h)) / 2) * (0.1 if boxed else 0.7)
    middle = np.array([x + w / 2, y + h / 2]) + rng.uniform(-1, 1, 2) * free
    matrix = np.eye(2, 3) * scale
    matrix[:, :2] *= np.exp(rng.normal(0, 0.06, (2, 1)))
    matrix[:, 2] = size / 2 - matrix[:, :2] @ middle
    if rng.random() < 0.5:
        matrix[0] *= -1
        matrix[0, 2] += size
    source = cv2.GaussianBlur(still.rgb, (0, 0), 0.4 / scale) if scale < 0.8 else still.rgb
    crop = cv2.warpAffine(source, matrix, (size, size), flags=cv2.INTER_LINEAR)
    layers = np.dstack([still.mask, still.cut, still.moved, np.ones_like(still.mask)]).astype(np.float32)
    motion = cv2.warpAffine(still.motion.astype(np.float32) / _STEPS, matrix, (size, size))
    motion[..., :2] *= np.sign(np.diag(matrix)).astype(np.float32)
    planes = np.dstack([cv2.warpAffine(layers, matrix, (size, size)), motion])
    corners = still.box.reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
    return crop, planes, (*corners.min(0).tolist(), *corners.max(0).tolist())


def _clicks(
    truth: BoolArray, wrong: BoolArray, count: int, rng: np.random.Generator
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Sample clicks: the first in the middle of the object or of an error, the others anywhere."""
    if not count:
        return np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    depth = cv2.distanceTransform(wrong.view(np.uint8), cv2.DIST_L2, 3)
    if rng.random() < 0.3 and wrong is truth:
        rows, columns = np.nonzero(truth)
        y, x = rows.mean(), columns.mean()
        first = (x, y) if truth[int(y), int(x)] else np.unravel_index(depth.argmax(), depth.shape)[::-1]
    else:
        deep = np.argwhere(depth >= rng.uniform(0.3, 1) * depth.max())
        first = deep[rng.integers(len(deep))][::-1]
    xy = [np.array(first, float) + 0.5]
    for _ in range(count - 1):
        about = truth if rng.random() < 0.5 else ~truth
        if about.any():
            anywhere = np.argwhere(about)
            xy.append(anywhere[rng.integers(len(anywhere))][::-1] + 0.5)
    places = np.array(xy, np.float32)
    index = np.clip(places.astype(int), 0, truth.shape[0] - 1)
    return places, truth[index[:, 1], index[:, 0]].astype(np.int64)


def fit(
    network: Prompted, stills: list[Path], stage: TrainingStage, log: Log, size: int = PROMPT_SIDE, workers: int = 0
) -> None:
    """Train a network in place; see `samvideo.training.fitting.train`.

    Args:
        network: on its device.
        stills: files of recorded stills.
        stage: steps, rate, seed and checkpoint.
        log: called with progress messages.
        size: pixels of the crops.
        workers: processes that draw samples ahead, so that a GPU does not wait.
    """
    device = next(network.parameters()).device

    def loss_of(drawn: Drawn) -> Tensor:
        planes, truth, before = (part.to(device, non_blocking=True) for part in drawn[:3])
        earlier = before.flatten(1).any(1)
        answer = before if bool(earlier.all()) else None
        with torch.autocast(device.type, torch.bfloat16):
            if drawn[3]:  # refinement: the input includes the network's own output
                with torch.no_grad():
                    first = network(_input(planes, None))[0][:, 0].float()
                answer = torch.where(earlier[:, None, None], before, first)
            logits, judged = network(_input(planes, answer))
        present = torch.ones(len(truth), device=device)
        return mask_loss(logits[:, 0].float(), truth, planes[:, VALID], judged.float(), present)

    train(network, stage, partial(_draw, stills, stage, size), loss_of, log, workers)


def _draw(stills: list[Path], stage: TrainingStage, size: int, step: int) -> Drawn:
    rng = np.random.default_rng((stage.seed, step))
    rows = [sample(stills, rng, size) for _ in range(stage.batch)]
    drawn, *others = (np.stack(part) for part in zip(*rows, strict=True))
    planes, truth, before = (torch.from_numpy(part) for part in (with_barriers(drawn), *others))
    return planes, truth, before, rng.random() < _AGAIN


def _input(planes: Tensor, answer: Tensor | None) -> Tensor:
    return with_answer(planes, answer).contiguous(memory_format=torch.channels_last)
