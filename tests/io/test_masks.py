"""Masks on disk and as run lengths."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco

from samvideo.errors import ConfigError, OutputError, VideoError
from samvideo.io.mask_pictures import davis_palette, read_numbers
from samvideo.io.masks import decode_rle, encode_rle, index_map, read_mask_objects, write_index_png

IDS = np.array([[0, 1, 1], [2, 2, 255], [0, 0, 21]])


def test_palette_is_that_of_davis() -> None:
    palette = davis_palette()
    assert palette[:6].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]]
    assert palette[255].tolist() == [224, 224, 192]
    assert len(np.unique(palette, axis=0)) == 256


def test_index_png_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    write_index_png(path, IDS)
    assert np.array_equal(read_numbers(path), IDS)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image.convert("RGB")), davis_palette()[IDS])
    objects = read_mask_objects(path)
    assert list(objects) == [1, 2, 21]  # 255 is void
    assert objects[2].dtype == bool
    assert np.array_equal(objects[2], IDS == 2)


@pytest.mark.parametrize("ids", [[[0, 255]], [[255, 255]], [[0, 0]], [[0, 1]]])
def test_palette_indices_are_taken_as_they_are(ids: list[list[int]], tmp_path: Path) -> None:
    write_index_png(tmp_path / "mask.png", np.array(ids))
    assert read_numbers(tmp_path / "mask.png").tolist() == ids


def test_blank_mask_has_no_objects(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "mask.png")
    assert read_mask_objects(tmp_path / "mask.png") == {}


def test_unreadable_mask(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no mask")
    for name in ("text.png", "missing.png"):
        with pytest.raises(VideoError, match=name):
            read_mask_objects(tmp_path / name)


@pytest.mark.parametrize(
    "bad", [np.array([[256]]), np.array([[-1]]), np.zeros((2, 2, 3), int), np.zeros((2, 2)), np.zeros((0, 2), int)]
)
def test_what_a_palette_cannot_hold(bad: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        write_index_png(tmp_path / "mask.png", bad)
    assert not (tmp_path / "mask.png").exists()


def test_unwritable_mask(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_index_png(tmp_path / "missing" / "mask.png", IDS)


@settings(max_examples=50)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_run_lengths_round_trip(mask: np.ndarray) -> None:
    rle = encode_rle(mask)
    assert rle["size"] == list(mask.shape)
    assert isinstance(rle["counts"], str)
    assert np.array_equal(decode_rle(rle), mask)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_run_lengths_are_those_of_pycocotools(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((37, 53)) < share
    mask[:, 20:40] = share > 0.5  # long runs: counts of several characters, and negative differences
    rle = encode_rle(mask)
    plain = {"size": rle["size"], "counts": rle["counts"].encode()}
    assert coco.area(plain) == mask.sum()
    assert np.array_equal(decode_rle(rle), mask)
    assert np.array_equal(decode_rle(plain), mask)


@settings(max_examples=200)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_wild_run_lengths_give_a_mask_or_an_error(counts: str) -> None:
    try:
        mask = decode_rle({"size": [5, 7], "counts": counts})
    except ConfigError:
        return
    assert mask.shape == (5, 7)


def test_plain_counts() -> None:
    # column by column: two off, three on, one off
    assert decode_rle({"size": [3, 2], "counts": [2, 3, 1]}).tolist() == [[0, 1], [0, 1], [1, 0]]


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"size": [2, 2]},
        {"size": [2, 2], "counts": [1]},
        {"size": [2], "counts": "1"},
        {"size": [2, 2], "counts": 3},
    ],
)
def test_an_invalid_rle(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="not a valid COCO RLE"):
        decode_rle(bad)


def test_overlaps_go_to_the_higher_score_else_the_later() -> None:
    masks = np.array([[[1, 1, 0]], [[0, 1, 1]]], bool)
    assert index_map(masks, (3, 7)).tolist() == [[3, 7, 7]]
    assert index_map(masks, (3, 7), np.array([0.9, 0.2])).tolist() == [[3, 3, 7]]
    assert index_map(masks, (3, 7), (0.5, 0.5)).tolist() == [[3, 7, 7]]
    assert index_map(np.zeros((0, 2, 2), bool), ()).tolist() == [[0, 0], [0, 0]]
    assert index_map(masks[:1], (700,)).max() == 700
    for bad in [(masks, (1,), None), (masks, (0, 1), None), (masks, (1, 2), (0.1,))]:
        with pytest.raises(ConfigError):
            index_map(*bad)
