"""A miniature of every data set, as published; each builder gives the split to open."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from evaluation_helpers import SIZE_WH, index_map, number, write_frames, write_masks
from PIL import Image

from samvideo.io.masks import encode_rle, write_index_png

TWO = {1: (2, 2), 2: (20, 12)}


def davis2016(root: Path) -> str:
    write_frames(root / "JPEGImages/480p/bear", number(4))
    write_masks(root / "Annotations/480p/bear", number(4), {255: (2, 2)})
    (root / "ImageSets/480p").mkdir(parents=True)
    lines = [f"/JPEGImages/480p/bear/{k}.jpg /Annotations/480p/bear/{k}.png" for k in number(4)]
    (root / "ImageSets/480p/train.txt").write_text("\n".join(lines))
    return "train"


def davis2017(root: Path) -> str:
    write_frames(root / "JPEGImages/480p/bear", number(4))
    write_masks(root / "Annotations/480p/bear", number(4), TWO)
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("bear\n")
    return "val"


def davis2017_unsupervised(root: Path) -> str:
    split = davis2017(root)
    (root / "Annotations").rename(root / "Annotations_unsupervised")
    return split


def mose(root: Path) -> str:
    write_frames(root / "valid/JPEGImages/m", number(4))
    write_masks(root / "valid/Annotations/m", number(1), TWO)
    return "valid"


def youtubevos(root: Path) -> str:
    categories = {"train": {"1": "dog"}, "valid": {"1": "dog", "2": "yak"}}
    for split, objects in categories.items():
        frames = number(5, step=5)
        write_frames(root / split / "JPEGImages/a", frames)
        write_masks(root / split / "Annotations/a", frames, TWO if split == "valid" else {1: (2, 2)}, late=2)
        entry = {k: {"category": name, "frames": frames} for k, name in objects.items()}
        (root / split / "meta.json").write_text(json.dumps({"videos": {"a": {"objects": entry}}}))
    return "valid"


def lvos(root: Path) -> str:
    frames = [f"{k:08d}" for k in (1, 6, 11, 16)]
    write_frames(root / "valid/JPEGImages/v", frames)
    write_masks(root / "valid/Annotations/v", frames, TWO, late=2)
    ranges = {"1": {"start": "1", "end": "15"}, "2": {"start": "11", "end": "20"}}
    entry = {"objects": {k: {"frame_range": r} for k, r in ranges.items()}}
    (root / "valid/meta.json").write_text(json.dumps({"videos": {"v": entry}}))
    return "valid"


def sav(root: Path) -> str:
    top = root / "sav_val"
    write_frames(top / "JPEGImages_24fps/sav_1", number(13))
    for k, frame in enumerate(number(4, step=4)):
        for label, place in (("000", (2, 2)), ("001", (5, 5))):
            folder = top / "Annotations_6fps/sav_1" / label
            folder.mkdir(parents=True, exist_ok=True)
            write_index_png(folder / f"{frame}.png", index_map({1: place} if label == "000" or k else {}, k))
    (top / "sav_val.txt").write_text("sav_1\n")
    return "val"


def sav_train(root: Path) -> str:
    (root / "sav_train/sav_000").mkdir(parents=True)
    entries = [[encode_rle(index_map({1: place}, k) > 0) for place in ((2, 2), (6, 6))] for k in range(3)]
    width, height = SIZE_WH
    content = {
        "video_frame_count": 12.0,
        "video_height": height,
        "video_width": width,
        "masklet": entries,
        "masklet_id": [0, 1],
    }
    (root / "sav_train/sav_000/sav_000007_manual.json").write_text(json.dumps(content))
    return "train"


def endovis(root: Path) -> str:
    write_frames(root / "valid/JPEGImages/seq1", number(4))
    write_masks(root / "valid/Annotations/seq1", number(4), TWO, late=1)
    return "valid"


def endovis_challenge_2017(root: Path) -> str:
    frames = [f"frame{k:03d}" for k in range(4)]
    write_frames(root / "instrument_dataset_1/left_frames", frames, ".png")
    for name, place in (("Left_Prograsp_Forceps", (2, 2)), ("Right_Prograsp_Forceps", (20, 5)), ("Other", None)):
        objects = {} if place is None else {10: place}
        folder = root / f"instrument_dataset_1/ground_truth/{name}_labels"
        folder.mkdir(parents=True)
        for frame in frames:
            write_index_png(folder / f"{frame}.png", index_map(objects))
    return "valid"


def endovis_challenge_2018(root: Path) -> str:
    frames = [f"frame{k:03d}" for k in range(4)]
    write_frames(root / "seq_1/left_frames", frames, ".png")
    (root / "seq_1/labels").mkdir()
    for k, frame in enumerate(frames):
        rgb = np.zeros((*SIZE_WH[::-1], 3), np.uint8)
        rgb[index_map({1: (2, 2)}, k) > 0] = (0, 255, 0)
        rgb[index_map({1: (20, 12)}, k) > 0] = (255, 0, 255)
        Image.fromarray(rgb).save(root / f"seq_1/labels/{frame}.png")
    table = [{"name": "instrument-shaft", "color": [0, 255, 0]}, {"name": "kidney", "color": [255, 0, 255]}]
    (root / "labels.json").write_text(json.dumps(table))
    return "valid"


def cholecseg8k(root: Path) -> str:
    folder = root / "video01/video01_00080"
    write_frames(folder, [f"frame_{k}_endo" for k in (80, 81, 100)], ".png")
    for k in (80, 81, 100):
        values = np.full(SIZE_WH[::-1], 50, np.uint8)
        values[5:15, 5:15] = 31
        values[20:30, 5:15] = 21
        Image.fromarray(values).save(folder / f"frame_{k}_endo_watershed_mask.png")
    return "all"


def cholecseg8k_flat(root: Path) -> str:
    write_frames(root / "JPEGImages/clip1", number(4))
    write_masks(root / "Annotations/clip1", number(4), TWO)
    return "all"


def folder(root: Path) -> str:
    write_frames(root / "JPEGImages/s", number(5))
    write_masks(root / "Annotations/s", ["00000", "00002", "00003"], TWO, late=1)
    return "all"


def folder_of_masks(root: Path) -> str:
    write_masks(root / "s", number(4), TWO)
    return "all"


BUILDERS: list[tuple[str, Callable[[Path], str]]] = [
    (build.__name__.split("_")[0], build)
    for build in (
        sav_train,
        sav,
        davis2016,
        davis2017,
        mose,
        youtubevos,
        lvos,
        endovis_challenge_2017,
        endovis_challenge_2018,
        endovis,
        cholecseg8k_flat,
        cholecseg8k,
        folder_of_masks,
        folder,
    )
]
BUILDERS.append(("davis2017-unsupervised", davis2017_unsupervised))
