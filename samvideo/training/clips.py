"""Generate short clips with known masks from a few sequences: cut, warped, recoloured, pasted and occluded."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from samvideo.evaluation.datasets.base import Dataset
from samvideo.evaluation.datasets.davis2016 import all_sequences
from samvideo.geometry import Box4, fit_size
from samvideo.io.images import read_rgb
from samvideo.types import BoolArray, FloatArray, UInt8Array

T = TypeVar("T")
LONGEST = 428  # pixels of the longer side of a working image
SMALLEST = 12  # pixels that a visible object has at least


@dataclass(frozen=True, eq=False)
class TrainingClip:
    """Frames and the object's mask on each.

    Attributes:
        rgb: uint8 (T, H, W, 3).
        masks: bool (T, H, W), empty where the object is not in view.
        made_of: names of the sequences that any part of it is taken from.
    """

    rgb: UInt8Array
    masks: BoolArray
    made_of: frozenset[str]


def load_sequences(root: Path) -> list[TrainingClip]:
    """Load all sequences of a DAVIS folder, at working size.

    Raises DatasetError if there are none or one lacks masks, VideoError for an unreadable frame.
    """
    dataset = all_sequences(root)
    return [_load(dataset, name) for name in dataset.sequences()]


def _load(dataset: Dataset, name: str) -> TrainingClip:
    rgb, masks = [], []
    sequence = dataset.sequence(name)
    for index, file in enumerate(sequence.images):
        image, mask = read_rgb(file), dataset.truth(sequence, index).mask(1)
        assert mask is not None
        size = fit_size((image.shape[1], image.shape[0]), LONGEST)
        rgb.append(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        masks.append(cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0)
    return TrainingClip(np.stack(rgb), np.stack(masks), frozenset([name]))


def make_clip(sequences: list[TrainingClip], rng: np.random.Generator, length: int = 24) -> TrainingClip:
    """Generate a clip of at most `length` frames whose first frame shows the object."""
    while True:
        clip = sample_subclip(sequences[rng.integers(len(sequences))], rng, length)
        if rng.random() < 0.35:
            clip = paste(clip, sample_subclip(sequences[rng.integers(len(sequences))], rng, length), rng)
        if rng.random() < 0.6:
            clip = simulate_camera(clip, rng)
        if rng.random() < 0.25:
            clip = occlude(clip, sequences[rng.integers(len(sequences))], rng)
        if rng.random() < 0.2 and len(clip.rgb) > 12:
            clip = insert_other_scene(clip, sequences[rng.integers(len(sequences))], rng)
        if clip.masks[0].sum() >= 4 * SMALLEST:
            return recolour(clip, rng)


def sample_subclip(clip: TrainingClip, rng: np.random.Generator, length: int) -> TrainingClip:
    """Sample a part of a sequence at a stride of 1 to 4, forward or backward, possibly mirrored."""
    stride = int(rng.choice([1, 1, 1, 1, 2, 2, 3, 4]))
    stride = max(1, min(stride, (len(clip.rgb) - 1) // 8))
    span = min(len(clip.rgb), stride * length)
    start = int(rng.integers(len(clip.rgb) - span + 1))
    chosen = np.arange(start, start + span, stride)
    if rng.random() < 0.5:
        chosen = chosen[::-1]
    rgb, masks = clip.rgb[chosen], clip.masks[chosen]
    if rng.random() < 0.5:
        rgb, masks = rgb[:, :, ::-1], masks[:, :, ::-1]
    return replace(clip, rgb=rgb, masks=masks)


def paste(clip: TrainingClip, scene: TrainingClip, rng: np.random.Generator) -> TrainingClip:
    """Paste the object of one clip into another scene: moved, scaled, and possibly absent for some frames."""
    count = min(len(clip.rgb), len(scene.rgb))
    height, width = scene.rgb.shape[1:3]
    scale, turn = rng.uniform(0.6, 1.3), rng.uniform(-15, 15)
    centre = np.array(clip.rgb.shape[2:0:-1]) / 2
    shift = rng.uniform(-0.25, 0.25, 2) * (width, height)
    gone = range(0)
    if rng.random() < 0.5 and count > 10:
        start = int(rng.integers(4, count - 5))
        gone = range(start, start + int(rng.integers(2, 12)))
    rgb, masks = scene.rgb[:count].copy(), np.zeros((count, height, width), bool)
    drift = rng.normal(0, 1.5, 2)
    for t in range(count):
        if t in gone:
            continue
        matrix = cv2.getRotationMatrix2D(tuple(centre), turn, scale)
        matrix[:, 2] += (width / 2, height / 2) - centre + shift + drift * t
        masks[t] = paste_warped(rgb[t], clip.rgb[t], clip.masks[t], matrix, cv2.BORDER_REPLICATE) > 0.5
    return TrainingClip(rgb, masks, clip.made_of | scene.made_of)


def paste_warped(
    rgb: UInt8Array, other: UInt8Array, mask: BoolArray, matrix: FloatArray, border: int
) -> FloatArray:
    """Paste the object of another frame into `rgb` in place, after an affine map; its alpha, float32 (H, W)."""
    size_wh = rgb.shape[1::-1]
    alpha = cv2.GaussianBlur(cv2.warpAffine(mask.astype(np.float32), matrix, size_wh), (3, 3), 0)
    warped = cv2.warpAffine(other, matrix, size_wh, borderMode=border).astype(np.float32)
    rgb[:] = rgb + alpha[..., None] * (warped - rgb)
    return alpha


def simulate_camera(clip: TrainingClip, rng: np.random.Generator) -> TrainingClip:
    """Pan, rotate and zoom within the frames, which may be warped elastically."""
    count, height, width = clip.masks.shape
    begin, end = _camera(rng), _camera(rng)
    bend = np.zeros((height, width, 2), np.float32)
    if rng.random() < 0.4:
        bend = smooth_noise(rng, 0.02 * width, (4, 5, 2), (width, height))
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    middle = np.array([width, height], np.float32) / 2
    rgb, masks = np.empty_like(clip.rgb), np.empty_like(clip.masks)
    for t in range(count):
        zoom, turn, x, y = begin + (end - begin) * t / max(1, count - 1)
        cosine, sine = np.cos(turn) / zoom, np.sin(turn) / zoom
        rotation = np.array([[cosine, -sine], [sine, cosine]], np.float32)
        reach = (1 - 1 / zoom) * middle
        places = (grid - middle) @ rotation.T + middle + np.array([x, y], np.float32) * reach + bend
        rgb[t], masks[t] = remap(clip.rgb[t], clip.masks[t], places)
    return replace(clip, rgb=rgb, masks=masks)


def remap(rgb: UInt8Array, mask: BoolArray, places: FloatArray) -> tuple[UInt8Array, BoolArray]:
    """Warp a frame and its mask; `places` (H, W, 2) is where each pixel is taken from."""
    both = np.dstack([rgb, mask.astype(np.uint8) * 255])
    both = cv2.remap(both, places.astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return both[..., :3], both[..., 3] > 127


def smooth_noise(
    rng: np.random.Generator, deviation: float, cells: tuple[int, ...], size_wh: tuple[int, int]
) -> FloatArray:
    """Sample normal noise of a coarse grid of `cells`, enlarged to float32 (h, w, ...)."""
    return cv2.resize(rng.normal(0, deviation, cells).astype(np.float32), size_wh, interpolation=cv2.INTER_CUBIC)


def _camera(rng: np.random.Generator) -> FloatArray:
    """Zoom, rotation in radians, and x and y offset as shares of the margin that the zoom leaves."""
    return np.array([rng.uniform(1.05, 1.9), rng.normal(0, 0.08), rng.uniform(-1, 1), rng.uniform(-1, 1)])


def blob(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    """Generate a smooth random shape, float32 (h, w), positive inside."""
    height, width = shape
    noise = smooth_noise(rng, 1, (4, 4), (width, height))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    turn = rng.uniform(0, np.pi)
    x, y = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return (0.7 - np.hypot(x, y * rng.uniform(1, 3)) + 0.25 * noise).astype(np.float32)


def occlude(clip: TrainingClip, texture: TrainingClip, rng: np.random.Generator) -> TrainingClip:
    """Move a textured shape across the object."""
    count, height, width = clip.masks.shape
    rows, columns = np.nonzero(clip.masks[count // 2])
    if not len(rows):
        return clip
    size = float(np.sqrt(len(rows))) * rng.uniform(0.4, 1.6)
    side = int(np.clip(size, 8, min(height, width)))
    shape = blob(rng, (side, side)) > 0
    image = texture.rgb[rng.integers(len(texture.rgb))]
    top, left = rng.integers(image.shape[0] - side + 1), rng.integers(image.shape[1] - side + 1)
    cover = image[top : top + side, left : left + side]
    speed = rng.uniform(2, 14) * rng.choice([-1, 1], 2) * (1, rng.uniform(0, 0.6))
    middle = np.array([columns.mean(), rows.mean()]) - side / 2
    rgb, masks = clip.rgb.copy(), clip.masks.copy()
    for t in range(1, count):
        x, y = (middle + speed * (t - count // 2)).astype(int)
        x1, y1, x2, y2 = max(0, x), max(0, y), min(width, x + side), min(height, y + side)
        if x1 < x2 and y1 < y2:
            inside = shape[y1 - y : y2 - y, x1 - x : x2 - x]
            rgb[t, y1:y2, x1:x2][inside] = cover[y1 - y : y2 - y, x1 - x : x2 - x][inside]
            masks[t, y1:y2, x1:x2][inside] = False
    return TrainingClip(rgb, masks, clip.made_of | texture.made_of)


def insert_other_scene(clip: TrainingClip, other: TrainingClip, rng: np.random.Generator) -> TrainingClip:
    """Replace some frames by another scene, without the object."""
    count, height, width = clip.masks.shape
    if other.made_of & clip.made_of:
        return clip
    start = int(rng.integers(4, count - 4))
    stop = min(count, start + int(rng.integers(3, 10)))
    first = int(rng.integers(len(other.rgb)))
    rgb, masks = clip.rgb.copy(), clip.masks.copy()
    for t in range(start, stop):
        rgb[t] = cv2.resize(other.rgb[(first + t - start) % len(other.rgb)], (width, height))
        masks[t] = False
    return TrainingClip(rgb, masks, clip.made_of | other.made_of)


def recolour(clip: TrainingClip, rng: np.random.Generator) -> TrainingClip:
    """Change light and colours equally on all frames; sometimes add blur, noise or JPEG artefacts."""
    gain = rng.normal(1, 0.15, 3) * rng.uniform(0.8, 1.2)
    gamma, grey = np.exp(rng.normal(0, 0.2)), rng.choice([1.0, 1.0, rng.uniform(0.3, 1.4)])
    table = 255 * (np.arange(256) / 255) ** gamma
    blur, noise = rng.choice([0.0, 0.0, 0.0, rng.uniform(0.4, 1.2)]), rng.choice([0.0, 0.0, rng.uniform(1, 8)])
    quality = int(rng.choice([0.0, 0.0, rng.uniform(25, 90)]))
    mix = rng.permutation(3) if rng.random() < 0.2 else np.arange(3)
    rgb = np.empty_like(clip.rgb)
    for t, frame in enumerate(clip.rgb):
        image = table[frame].astype(np.float32)[..., mix] * gain.astype(np.float32)
        mean = image.mean(2, keepdims=True)
        image = mean + np.float32(grey) * (image - mean)
        if blur:
            image = cv2.GaussianBlur(image, (0, 0), blur)
        if noise:
            image += rng.standard_normal(image.shape, np.float32) * np.float32(noise)
        result = np.clip(image, 0, 255).astype(np.uint8)
        if quality:
            _, code = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, quality])
            result = cv2.imdecode(code, cv2.IMREAD_COLOR)
        rgb[t] = result
    return replace(clip, rgb=rgb)


def perturb_mask(mask: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Distort the outline of a mask, as a hasty annotator or a network might draw it."""
    inside = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 3)
    outside = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)
    size = float(np.sqrt(mask.sum()))
    cells = int(rng.integers(3, 12))
    noise = smooth_noise(rng, 1, (cells, cells), mask.shape[::-1])
    perturbed = inside - outside + noise * np.float32(size * rng.uniform(0, 0.12)) > 0
    return perturbed if perturbed.any() else mask


def jitter_box(mask: BoolArray, rng: np.random.Generator) -> Box4:
    """Return the box around a mask with the errors of drawing by hand: shifted, sometimes loose."""
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    hand = rng.normal(0, rng.choice([0.0, 0.02, 0.05]), 4) * (w, h, w, h)
    loose = rng.choice([0.0, 0.0, 0.0, rng.uniform(0, 0.2)]) * np.array([-w, -h, w, h]) / 2
    x1, y1, x2, y2 = np.array([x, y, x + w, y + h]) + hand + loose
    return float(x1), float(y1), float(max(x2, x1 + 2)), float(max(y2, y1 + 2))


def list_recorded(folder: Path, count: int, leave_out: tuple[str, ...] = ()) -> list[Path]:
    """List the first `count` recordings of a folder, without those that show a sequence left out."""
    kept = []
    for file in sorted(folder.glob("*.npz"))[:count]:
        with np.load(file) as arrays:
            if not np.isin(arrays["made_of"], leave_out).any():
                kept.append(file)
    return kept


def load_recorded(kind: type[T], file: Path) -> T:
    """Load a recording, the fields of a dataclass."""
    with np.load(file) as arrays:
        return kind(**arrays)
