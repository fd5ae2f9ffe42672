"""Training of the network that turns boxes and clicks into masks: still frames, drawn on the fly."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samvideo.nano.network import Prompted
from samvideo.nano.prompting import VALID, drawing, with_answer
from samvideo.nano.runtime import PROMPT_SIDE
from samvideo.training.clips import Clip, blob, recolour, spoil
from samvideo.training.fitting import Course, Log, mask_loss, train
from samvideo.types import BoolArray, FloatArray, UInt8Array


def scene(sequences: list[Clip], rng: np.random.Generator) -> tuple[UInt8Array, BoolArray]:
    """A frame and the mask of one object on it: the sequence's own, one pasted, or a shape cut from elsewhere."""
    clip = sequences[rng.integers(len(sequences))]
    t = rng.integers(len(clip.rgb))
    rgb, mask = clip.rgb[t], clip.masks[t]
    kind = rng.random()
    if kind < 0.35:
        other = sequences[rng.integers(len(sequences))]
        k = rng.integers(len(other.rgb))
        height, width = mask.shape
        if kind < 0.1:
            side = int(rng.integers(40, min(height, width)))
            shape = np.zeros(mask.shape, np.float32)
            y, x = rng.integers(height - side + 1), rng.integers(width - side + 1)
            shape[y : y + side, x : x + side] = blob(rng, (side, side)) > 0
            picture = other.rgb[k]
        else:
            shape, picture = other.masks[k].astype(np.float32), other.rgb[k]
        if picture.shape == rgb.shape:
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 12), rng.uniform(0.5, 1.4))
            matrix[:, 2] += rng.uniform(-0.25, 0.25, 2) * (width, height)
            alpha = cv2.GaussianBlur(cv2.warpAffine(shape, matrix, (width, height)), (3, 3), 0)
            cover = cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
            rgb = (rgb + alpha[..., None] * (cover.astype(np.float32) - rgb)).astype(np.uint8)
            mask = alpha > 0.5 if rng.random() < 0.7 else mask & (alpha <= 0.5)
    return rgb, mask


def sample(sequences: list[Clip], rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A drawing (PROMPT + 1, S, S), the true mask (S, S), and an earlier answer as logits (S, S) or zeros."""
    while True:
        rgb, mask = scene(sequences, rng)
        if mask.sum() < 60:
            continue
        kind = rng.choice(["box", "clicks", "both", "correction"], p=[0.48, 0.34, 0.08, 0.1])
        crop, valid, truth = _crop(rgb, mask, kind == "clicks", rng)
        if truth.sum() >= 40:
            break
    answer = np.zeros(truth.shape, np.float32)
    wrong = truth
    if kind == "correction":
        old = spoil(truth, rng)
        answer = np.where(old, np.float32(4), np.float32(-4))
        wrong = old ^ truth if (old ^ truth).sum() > 20 else truth
    xy, labels = _clicks(truth, wrong, 0 if kind == "box" else 1 + int(rng.choice([0, 0, 0, 1, 2, 3])), rng)
    box = _box(truth, rng) if kind in ("box", "both") else None
    return drawing(crop, valid, box, xy, labels), truth.astype(np.float32), answer


def _crop(
    rgb: UInt8Array, mask: BoolArray, far: bool, rng: np.random.Generator
) -> tuple[UInt8Array, FloatArray, BoolArray]:
    """A square about the object, turned, mirrored, recoloured; `far` allows the whole picture."""
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    close = 1.5 * max(w, h) * rng.uniform(0.8, 1.3) + 8
    whole = max(mask.shape) * rng.uniform(0.85, 1.15)
    side = close
    if far and rng.random() < 0.75:
        side = whole if rng.random() < 0.5 else float(np.exp(rng.uniform(np.log(close), np.log(max(close, whole)))))
    scale = PROMPT_SIDE / side
    free = max(0.0, (side - 1.1 * max(w, h)) / 2)
    middle = np.array([x + w / 2, y + h / 2]) + rng.uniform(-1, 1, 2) * free * 0.7
    matrix = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), rng.normal(0, 10), scale)
    matrix[:, 2] += PROMPT_SIDE / 2 - middle
    matrix[:, :2] *= np.exp(rng.normal(0, 0.06, (1, 2)))
    matrix[:, 2] = PROMPT_SIDE / 2 - matrix[:, :2] @ middle
    if rng.random() < 0.5:
        matrix[0] *= -1
        matrix[0, 2] += PROMPT_SIDE
    size = (PROMPT_SIDE, PROMPT_SIDE)
    source = cv2.GaussianBlur(rgb, (0, 0), 0.4 / scale) if scale < 0.8 else rgb
    crop = cv2.warpAffine(source, matrix, size, flags=cv2.INTER_LINEAR)
    inside = cv2.warpAffine(np.ones(mask.shape, np.float32), matrix, size)
    truth = cv2.warpAffine(mask.astype(np.float32), matrix, size) > 0.5
    crop = recolour(Clip("", crop[None], truth[None]), rng).rgb[0]
    return crop, (inside > 0.5).astype(np.float32), truth


def _box(truth: BoolArray, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """The box around a mask, drawn by hand: a little off, sometimes loose."""
    x, y, w, h = cv2.boundingRect(truth.view(np.uint8))
    hand = rng.normal(0, rng.choice([0.0, 0.02, 0.05]), 4) * (w, h, w, h)
    loose = rng.choice([0.0, 0.0, 0.0, rng.uniform(0, 0.2)]) * np.array([-w, -h, w, h]) / 2
    x1, y1, x2, y2 = np.array([x, y, x + w, y + h]) + hand + loose
    return x1, y1, max(x2, x1 + 2), max(y2, y1 + 2)


def _clicks(
    truth: BoolArray, wrong: BoolArray, count: int, rng: np.random.Generator
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Some clicks: the first in the middle of the object or of an error, the others anywhere."""
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


def fit(network: Prompted, sequences: list[Clip], course: Course, log: Log) -> None:
    """Train in place; see `samvideo.training.fitting.train`."""
    device = next(network.parameters()).device

    def loss_at(step: int) -> Tensor:
        rng = np.random.default_rng((course.seed, step))
        rows = [sample(sequences, rng) for _ in range(course.batch)]
        planes, truth, before = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*rows, strict=True))
        earlier = before.flatten(1).any(1)
        answer = before if bool(earlier.all()) else None
        with torch.autocast(device.type, torch.bfloat16):
            if rng.random() < 0.6:  # a later round: the network's own answer comes back
                with torch.no_grad():
                    first = network(_input(planes, None))[0][:, 0].float()
                answer = torch.where(earlier[:, None, None], before, first)
            logits, judged = network(_input(planes, answer))
        present = torch.ones(len(truth), device=device)
        return mask_loss(logits[:, 0].float(), truth, planes[:, VALID], judged.float(), present)

    train(network, course, loss_at, log)


def _input(planes: Tensor, answer: Tensor | None) -> Tensor:
    return with_answer(planes, answer).contiguous(memory_format=torch.channels_last)
