"""What `samvideo distill` keeps for validation, of any pictures and videos."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_sam

from samvideo.errors import DatasetError
from samvideo.training.distil_clips import find_clips
from samvideo.training.distil_split import by_scene
from samvideo.training.images import find_pictures


def written(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.zeros((4, 4, 3), np.uint8))
    return root


@pytest.mark.parametrize("stem", ["video01_0", "cholec-", "dog/", "lock", ""])
def test_no_picture_is_left_out_for_its_name(tmp_path: Path, stem: str) -> None:
    found = find_pictures(written(tmp_path, [f"{stem}{number:05}.png" for number in range(20)]))
    numbers = [int(picture.path.stem[-5:]) for picture in found.train + found.validation]
    assert numbers == [*range(20)], "the frames of one scene are divided at one place"
    assert len(found.validation) == 2
    assert found.why.startswith("the last ones")


def test_frames_of_one_folder_or_of_one_name_are_on_one_side(tmp_path: Path) -> None:
    names = [f"case{case:02}/{frame:05}.png" for case in range(30) for frame in range(4)]
    names += [f"clip-{letter}_{frame}.png" for letter in "abcdefghijklmnopqrst" for frame in range(3)]
    found = find_pictures(written(tmp_path, names))
    assert len(found.train) + len(found.validation) == len(names)
    assert 0.03 < len(found.validation) / len(names) < 0.2

    def scenes(side: list[object]) -> set[str]:
        paths = [picture.path.relative_to(tmp_path) for picture in side]
        return {str(path.parent) if path.parent.name else path.stem.partition("_")[0] for path in paths}

    assert not scenes(found.train) & scenes(found.validation)
    assert "case" in found.why


def test_never_all_and_never_nothing() -> None:
    assert by_scene(["a"], ["x"]).train == ["a"]
    assert by_scene(["a"], ["x"]).validation == []
    for count in range(2, 30):
        for first in range(8):
            names = [f"case{first + number:02}" for number in range(count)]
            found = by_scene(names, names)
            assert 0 < len(found.validation) <= max(1, count / 3)
            assert sorted(found.train + found.validation) == names
    assert by_scene("aabbcc", "xxyyzz").validation == ["c", "c"]


def test_every_single_video_can_be_learned_from(tmp_path: Path) -> None:
    for case in range(100):
        name = f"case{case:02}"
        assert by_scene([1, 2, 3], [name] * 3).train == [1, 2]
    for k, frame in enumerate(tiny_sam.clip(7)):
        (tmp_path / "judo").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "judo" / f"{k:05}.png"), frame.rgb)
    found = find_clips(tmp_path, 2, 1)
    assert [[clip.first for clip in side] for side in (found.train, found.validation)] == [[0, 2], [4]]
    with pytest.raises(DatasetError, match="no video of 7 frames to learn"):
        find_clips(tmp_path, 7, 1, named=True)
