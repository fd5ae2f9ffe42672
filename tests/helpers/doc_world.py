"""The files that examples of the documentation mention: a short clip under several names, and small data sets."""

from pathlib import Path
from shutil import copy, copytree

import nibabel
import numpy as np
from PIL import Image
from training_data import save

from samvideo.demo import demo_frames
from samvideo.io.masks import write_index_png
from samvideo.io.sink import VideoWriter

SIZE = 640, 360
CLIPS = {"video": (5, 2), "case": (5, 2), "game": (7, 2), "long": (13, 0.1)}  # frames, and frames per second


def make_world(folder: Path) -> Path:
    """Write all files into an empty folder."""
    frames = list(demo_frames(max(count for count, _ in CLIPS.values()), SIZE, 2))
    for name, (count, rate) in CLIPS.items():
        with VideoWriter(folder / f"{name}.mp4", SIZE, max(rate, 1)) as out:
            for index, (rgb, _) in enumerate(frames[:count]):
                out.write(rgb, index / rate)
    for name in ("one", "two"):
        _save_prompted(folder / "clips" / name, folder / "video.mp4")
    for name, (rgb, masks) in enumerate(frames[:5]):
        _save(folder / "clip" / f"{name:05}.jpg", rgb)
        if name == 0:
            _save(folder / "photo.jpg", rgb)
            _save(folder / "photos" / "a.jpg", rgb)
            write_index_png(folder / "first_frame.png", (masks * [[[1]], [[2]]]).max(0).astype(np.uint8))
    (folder / "photos.json").write_text('{"images": {"a.jpg": [{"box": [40, 60, 200, 220]}]}}')
    (folder / "prompts.json").write_text('[{"box": [220, 110, 470, 340], "object_id": 1, "seconds": 90}]')
    _volume(folder / "ct.nii.gz")
    _data_sets(folder)
    return folder


def _save(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(rgb).save(path)


def _save_prompted(path: Path, clip: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    copy(clip, path.with_suffix(".mp4"))
    path.with_suffix(".json").write_text('[{"box": [220, 110, 470, 340]}]')


def _volume(path: Path) -> None:
    voxels = np.full((64, 64, 5), -100, np.int16)
    voxels[22:44, 20:42] = 150
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)


def _data_sets(folder: Path) -> None:
    for index in range(4):
        save(folder / "ROOT", "JPEGImages/walk", "Annotations/walk", f"{index:05}", 4 * index)
        save(folder / "DAVIS", "JPEGImages/480p/walk", "Annotations/480p/walk", f"{index:05}", 4 * index)
    for path in (folder / "DAVIS").rglob("JPEGImages/**/*.png"):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    (folder / "DAVIS/ImageSets/2017").mkdir(parents=True)
    (folder / "DAVIS/ImageSets/2017/val.txt").write_text("walk\n")
    copytree(folder / "DAVIS/Annotations/480p", folder / "PREDICTIONS")
    save(folder / "PICTURES", "images", "masks", "a")
