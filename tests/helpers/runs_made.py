"""Runs whose figures are known: drawn masks, written as `samvideo track` writes them."""

import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from samvideo.outputs import Outputs
from samvideo.types import BoolArray, Frame, FrameResult, VideoInfo

SIZE = 200, 100
INFO = VideoInfo("made", SIZE, Fraction(25))
Y, X = np.mgrid[: SIZE[1], : SIZE[0]]


def disc(x: int, y: int, radius: int = 8) -> BoolArray:
    """Its centroid is (x + 0.5, y + 0.5)."""
    mask: BoolArray = (X - x) ** 2 + (Y - y) ** 2 <= radius**2
    return mask


def box(x1: int, y1: int, x2: int, y2: int) -> BoolArray:
    """The pixels in columns x1 to x2 - 1 and rows y1 to y2 - 1."""
    mask: BoolArray = (x1 <= X) & (x2 > X) & (y1 <= Y) & (y2 > Y)
    return mask


def nothing() -> BoolArray:
    """No pixel."""
    return np.zeros(SIZE[::-1], bool)


def results(
    count: int, *objects: Callable[[int], BoolArray], step: int = 1, times: Callable[[int], float] | None = None
) -> Iterable[FrameResult]:
    """`count` results on every `step`-th frame; object i + 1 is drawn by `objects[i]` of the frame's number."""
    for index in range(0, count * step, step):
        masks = np.array([draw(index) for draw in objects], bool).reshape(len(objects), *SIZE[::-1])
        seconds = times(index) if times else index / 25
        ids = tuple(range(1, len(objects) + 1))
        yield FrameResult(index, seconds, ids, masks, np.ones(len(ids), np.float32), masks.any((1, 2)))


def write_run(
    folder: Path,
    made: Iterable[FrameResult],
    kinds: tuple[str, ...] = ("rle", "csv"),
    picture: Callable[[int], np.ndarray] | None = None,
    info: VideoInfo = INFO,
    labelled: bool = False,
) -> Path:
    """The folder of a run with these results; grey pictures, without thumbnails, unless others are given."""
    grey = np.full((*SIZE[::-1], 3), 128, np.uint8)
    with Outputs(folder, kinds, info, labelled=labelled) as out:
        for result in made:
            rgb = picture(result.index) if picture else grey
            out.write(Frame(result.index, result.seconds, rgb), result)
    for path in folder.glob("tracks.json*") if picture is None else ():
        path.write_text(re.sub(r', "thumbnail": "[^"]+"', "", path.read_text()))
    return folder


def check_same_files(one: Path, other: Path) -> None:
    """Assert that two folders of runs have the same files with the same content, `run.json` apart."""
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*"))
    assert names == sorted(str(path.relative_to(other)) for path in other.rglob("*"))
    for name in names:
        if (one / name).is_file() and name != "run.json":
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
