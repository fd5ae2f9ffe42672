"""Pictures with drawn objects: rods, tools with jaws, and blobs, filled with shaded colours or with other pictures.

Data sets hold few thin objects; these also have every colour and texture (domain randomisation, Tobin et al. 2017).
"""

import math

import cv2
import numpy as np
import torch

from samvideo.training.library import Floats, Library, Shot, measure
from samvideo.types import UInt8Array

SIDE = 352  # pixels of a drawn picture
SHIFT = 4  # fractional bits of coordinates that OpenCV draws at
OBJECTS = (1, 4)  # of a picture, the upper bound excluded
GROUP = "drawn/{}"
KINDS = ("rods", "tools", "blobs")
FROM_EDGE = 0.7  # probability that a rod or a tool comes from the edge of the picture
WIDTHS = (0.012, 0.09)  # of rods, as shares of the side
LENGTHS = (0.2, 0.9)
RADII = (0.06, 0.35)  # of blobs
LEAST = 60  # pixels of an object that is annotated


def draw_shots(library: Library, count: int, seed: int) -> dict[str, list[Shot]]:
    """Draw `count` pictures over those of a library, a third of each kind; returns them by group."""
    rng = np.random.default_rng(seed)
    pictures = [shot for shots in library.groups.values() for shot in shots]
    drawn: dict[str, list[Shot]] = {}
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        pixels = _picture(kind, pictures, rng)
        total = int(pixels[3].max())
        if total:
            boxes, areas, cut = measure(pixels[None, 3], total)
            group = GROUP.format(kind)
            shot = Shot(str(number), group, torch.from_numpy(pixels[None]).to(library.device), boxes, areas, cut)
            drawn.setdefault(group, []).append(shot)
    return drawn


def _picture(kind: str, pictures: list[Shot], rng: np.random.Generator) -> UInt8Array:
    """Draw one picture with ids, uint8 (4, S, S)."""
    canvas = _crop(pictures, rng).astype(np.float32)
    ids = np.zeros((SIDE, SIDE), np.uint8)
    alike = rng.random() < 0.5  # objects of one look are rivals
    look: Floats | None = None
    number = 0
    for _ in range(int(rng.integers(*OBJECTS))):
        alpha = _blob(rng) if kind == "blobs" else _rod(rng, jaws=kind == "tools")
        colours = _fill(alpha, pictures, rng, look if alike else None)
        look = colours.mean((0, 1))
        soft = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.4, 1.0))[..., None]
        if rng.random() < 0.3:  # a shadow beside it
            shadow = np.roll(cv2.GaussianBlur(alpha, (0, 0), 5), rng.integers(-9, 10, 2), (0, 1))
            canvas *= 1 - 0.5 * shadow[..., None]
        canvas = canvas * (1 - soft) + colours * soft
        where = alpha > 0.5
        if where.sum() >= LEAST:
            number += 1
            ids[where] = number
    left = [value for value in range(1, number + 1) if (ids == value).sum() >= LEAST]
    table = np.zeros(256, np.uint8)
    table[left] = np.arange(1, len(left) + 1)
    rgb = canvas.clip(0, 255).astype(np.uint8)
    return np.concatenate([rgb.transpose(2, 0, 1), table[ids][None]])


def _rod(rng: np.random.Generator, jaws: bool) -> Floats:
    """Draw a rod of up to three bent pieces that grow thinner, at its end perhaps two jaws; (S, S) in 0..1."""
    alpha = np.zeros((SIDE, SIDE), np.uint8)
    turn = rng.uniform(0, 2 * math.pi)
    if rng.random() < FROM_EDGE:
        place = SIDE * (0.5 + 0.55 * _towards(turn + math.pi) / np.abs(_towards(turn)).max())
        place += rng.uniform(-0.3, 0.3) * SIDE * _towards(turn + math.pi / 2)
    else:
        place = rng.uniform(0.15, 0.85, 2) * SIDE
    width = SIDE * math.exp(rng.uniform(*np.log(WIDTHS)))
    length = SIDE * rng.uniform(*LENGTHS)
    pieces = int(rng.integers(1, 4))
    for _ in range(pieces):
        end = place + length / pieces * _towards(turn)
        thinner = width * rng.uniform(0.7, 1.0)
        side = _towards(turn + math.pi / 2) / 2
        _polygon(alpha, [place + side * width, end + side * thinner, end - side * thinner, place - side * width])
        place, width = end, thinner
        turn += rng.normal(0, 0.25)
    if jaws:
        opening, reach = rng.uniform(0, 0.6), width * rng.uniform(1.5, 5.0)
        for sign in (-1, 1):
            tip = place + reach * _towards(turn + sign * opening / 2)
            side = _towards(turn + sign * math.pi / 2) * width / 2
            middle = (place + tip) / 2 + side * rng.uniform(0.4, 1.2)
            _polygon(alpha, [place - 0.2 * side, place + side, middle, tip, (place + tip) / 2])
    else:
        cv2.circle(alpha, *_fixed(place), round(width / 2 * 2**SHIFT), 255, -1, cv2.LINE_AA, SHIFT)
    return alpha.astype(np.float32) / 255


def _blob(rng: np.random.Generator) -> Floats:
    """Draw a closed curve whose radius is a random sum of waves; (S, S) in 0..1."""
    angles = np.linspace(0, 2 * math.pi, 96, endpoint=False)
    radius = np.ones_like(angles)
    for wave in range(1, 7):
        radius += rng.normal(0, 0.35 / wave) * np.cos(wave * angles + rng.uniform(0, 2 * math.pi))
    radius = radius.clip(0.15) * SIDE * math.exp(rng.uniform(*np.log(RADII)))
    stretch = math.exp(rng.normal(0, 0.4))
    points = np.stack([radius * np.cos(angles) * stretch, radius * np.sin(angles) / stretch], 1)
    turn = rng.uniform(0, 2 * math.pi)
    points = points @ np.stack([_towards(turn), _towards(turn + math.pi / 2)])
    alpha = np.zeros((SIDE, SIDE), np.uint8)
    _polygon(alpha, list(points + rng.uniform(0.1, 0.9, 2) * SIDE))
    return alpha.astype(np.float32) / 255


def _fill(alpha: Floats, pictures: list[Shot], rng: np.random.Generator, look: Floats | None) -> Floats:
    """Choose colours (S, S, 3): a part of a picture, or one colour, shaded like a rounded body, with noise."""
    if look is None and rng.random() < 0.35:
        return _crop(pictures, rng).astype(np.float32) * rng.uniform(0.6, 1.3)
    if look is None:
        grey = rng.uniform(15, 235)
        look = np.full(3, grey) + rng.normal(0, rng.choice([4, 60]), 3)
    depth = cv2.distanceTransform((alpha > 0.5).view(np.uint8), cv2.DIST_L2, 5)
    round_ = np.sqrt(1 - (1 - depth / max(float(depth.max()), 1.0)) ** 2)
    shade = 1 + rng.uniform(0, 0.7) * (round_ - 0.6)
    gloss = rng.uniform(0, 150) * np.exp(-(((round_ - rng.uniform(0.5, 1.0)) / 0.12) ** 2))
    grain = cv2.resize(rng.normal(0, 1, (SIDE // 8, SIDE // 8, 3)), (SIDE, SIDE)) * rng.uniform(0, 25)
    out: Floats = look * shade[..., None] + (rng.random() < 0.4) * gloss[..., None] + grain
    return out.astype(np.float32)


def _crop(pictures: list[Shot], rng: np.random.Generator) -> UInt8Array:
    """Cut a square out of any picture, uint8 (S, S, 3)."""
    shot = pictures[int(rng.integers(len(pictures)))]
    rgb = shot.pixels[int(rng.integers(len(shot))), :3].cpu().numpy().transpose(1, 2, 0)
    side = round(min(shot.size_wh) * rng.uniform(0.4, 1.0))
    y, x = (int(rng.integers(size - side + 1)) for size in rgb.shape[:2])
    part = np.ascontiguousarray(rgb[y : y + side, x : x + side])
    return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _towards(angle: float) -> Floats:
    return np.array([math.cos(angle), math.sin(angle)])


def _polygon(alpha: UInt8Array, points: list[Floats]) -> None:
    cv2.fillPoly(alpha, [np.round(np.stack(points) * 2**SHIFT).astype(np.int32)], 255, cv2.LINE_AA, SHIFT)


def _fixed(point: Floats) -> tuple[tuple[int, int]]:
    x, y = np.round(point * 2**SHIFT).astype(int).tolist()
    return ((x, y),)
