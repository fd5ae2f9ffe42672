"""Measured from runs what is plain on the pixels."""

import cv2
import numpy as np
import pytest

from samvideo.analysis.image_faults import ImageFaultDetector
from samvideo.analysis.intervals import DownsampledCurve
from samvideo.analysis.mask_geometry import mask_distances, mask_tips, measure, track_entries
from samvideo.errors import ConfigError
from samvideo.geometry import mask_box, mask_centroid
from samvideo.io.masks import encode_rle
from samvideo.io.rle import joined_runs, runs_of_masks, runs_of_rles

NO_ENTRY = np.full(2, np.nan)


def blobs(count: int, seed: int) -> np.ndarray:
    """bool (count, 40, 50): none to three ellipses each."""
    random = np.random.default_rng(seed)
    masks = np.zeros((count, 40, 50), np.uint8)
    for mask in masks:
        for _ in range(random.integers(0, 4)):
            middle, radii = random.integers(0, (50, 40)), random.integers(1, (12, 6))
            cv2.ellipse(mask, middle.tolist(), radii.tolist(), int(random.integers(180)), 0, 360, 1, -1)
    return masks.astype(bool)


def test_run_lengths_and_masks_give_the_same_runs() -> None:
    masks = np.concatenate([blobs(30, 1), np.random.default_rng(2).random((10, 40, 50)) > 0.5])
    masks[3], masks[5], masks[7, :, 0] = False, True, True
    drawn, read = runs_of_masks(masks), runs_of_rles([encode_rle(mask) for mask in masks], (50, 40))
    listed = [encode_rle(masks[0]), {"size": [40, 50], "counts": [0, 2000]}]
    assert runs_of_rles(listed, (50, 40)).count == 2
    parts = joined_runs([runs_of_masks(masks[:9]), runs_of_masks(masks[9:])], (50, 40))
    for name in ("mask", "x", "top", "bottom"):
        assert (getattr(drawn, name) == getattr(read, name)).all()
        assert (getattr(drawn, name) == getattr(parts, name)).all()
        chosen = getattr(drawn.take(np.array([7, 3, 1])), name)
        assert (chosen == getattr(runs_of_masks(masks[[7, 3, 1]]), name)).all()
    assert runs_of_rles([], (50, 40)).count == 0


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [40, 50]},
        {"size": [50, 40], "counts": [2000]},
        {"size": [40, 50], "counts": [1999]},
        {"size": [40, 50], "counts": [2010, -10]},
        {"size": [40, 50], "counts": "P"},
        {"size": [40, 50], "counts": "é"},
        {"size": [40, 50], "counts": ""},
        {"size": [40, 50], "counts": [[1]]},
        None,
    ],
)
def test_bad_run_lengths(rle: object) -> None:
    for batch in ([rle], [encode_rle(blobs(1, 3)[0]), rle]):
        with pytest.raises(ConfigError):
            runs_of_rles(batch, (50, 40))


def test_sizes_and_places() -> None:
    masks = blobs(200, 4)
    shapes = measure(runs_of_masks(masks))
    for row, mask in enumerate(masks):
        assert shapes.area[row] == mask.sum()
        if not mask.any():
            assert np.isnan(shapes.centroid[row]).all()
            continue
        assert shapes.centroid[row] == pytest.approx(mask_centroid(mask))
        assert tuple(shapes.box[row]) == mask_box(mask)
        values, vectors = np.linalg.eigh(np.cov(np.argwhere(mask)[:, ::-1].T, bias=True))
        assert shapes.extent[row] ** 2 == pytest.approx(values[::-1], abs=1e-9)
        if values[1] > 1.01 * values[0]:
            assert abs(vectors[:, 1] @ shapes.axis[row]) == pytest.approx(1, abs=1e-6)


def test_gaps_are_those_of_the_nearest_pixels() -> None:
    a, b = blobs(400, 5), blobs(400, 6)
    for row, gap in enumerate(mask_distances(runs_of_masks(a), runs_of_masks(b))):
        one, other = np.argwhere(a[row]), np.argwhere(b[row])
        if not len(one) or not len(other):
            assert np.isnan(gap)
            continue
        apart = np.maximum(np.abs(one[:, None] - other[None]) - 1, 0)
        assert gap == pytest.approx(np.sqrt((apart**2).sum(2).min()))


def rod(start: tuple[int, int], end: tuple[int, int]) -> np.ndarray:
    return cv2.line(np.zeros((40, 50), np.uint8), start, end, 1, 3).astype(bool)


def test_the_tip_lies_opposite_to_the_entry() -> None:
    # From the left border, from below, from the border before it is lost, and inside a view with a dark rim.
    masks = np.array(
        [rod((0, 20), (30, 20)), rod((25, 39), (25, 10)), rod((25, 30), (25, 10)), rod((4, 20), (20, 20))]
    )
    runs = runs_of_masks(masks)
    shapes = measure(runs)
    assert shapes.entry[0] == pytest.approx((0.5, 20.5))
    assert shapes.entry[1] == pytest.approx((25.5, 39.5))
    assert np.isnan(shapes.entry[2:]).all()
    entry, known = track_entries(shapes.take(np.arange(3)), (50, 40), NO_ENTRY)
    assert known == pytest.approx((25.5, 39.5))
    found = mask_tips(runs.take(np.arange(3)), shapes.take(np.arange(3)), entry)
    assert found[:, 0] == pytest.approx([31.5, 25.5, 25.5], abs=1)
    assert found[:, 1] == pytest.approx([20.5, 9.5, 9.5], abs=1)
    last = np.array([3])
    entry, known = track_entries(shapes.take(last), (50, 40), NO_ENTRY)
    assert np.isnan(known).all()
    assert mask_tips(runs.take(last), shapes.take(last), entry)[0] == pytest.approx((21.5, 20.5), abs=1)
    round_one = runs_of_masks(cv2.circle(np.zeros((40, 50), np.uint8), (25, 20), 6, 1, -1).astype(bool)[None])
    entry, _ = track_entries(measure(round_one), (50, 40), NO_ENTRY)
    assert np.isnan(mask_tips(round_one, measure(round_one), entry)).all()  # a disc in the middle has no direction


def test_a_curve_of_any_length_is_a_few_means() -> None:
    curve = DownsampledCurve(limit=10)
    values = np.arange(1000.0)
    for start in range(0, 1000, 7):
        part = np.arange(start, min(start + 7, 1000))
        curve.add(part, values[part])
    places, means = curve.points()
    assert 10 <= len(places) <= 20
    assert means[:-1] == pytest.approx(places[:-1])
    curve.add(np.array([1000]), np.array([np.nan]))
    assert len(DownsampledCurve().points()[0]) == 0


def scene(shift: int) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=(240, 420, 3))
    ground = (150, 70, 60) + 900 * cv2.GaussianBlur(noise, (0, 0), 8) + 25 * noise
    return np.clip(ground, 0, 255).astype(np.uint8)[:, shift : shift + 320]


def test_image_faults_are_distinguished() -> None:
    detector = ImageFaultDetector()
    for shift in range(30):
        assert detector.detect(scene(shift)) == ""
    smoky = (0.35 * scene(30) + 0.65 * np.array((190, 190, 195))).astype(np.uint8)
    faults = [cv2.GaussianBlur(scene(31), (0, 0), 7), np.zeros_like(scene(0)), smoky]
    assert [detector.detect(rgb) for rgb in faults] == ["blurred", "black", "smoke"]
    assert detector.detect(scene(40)) == ""


def test_dimming_and_a_lamp_that_goes_out_are_distinguished() -> None:
    detector = ImageFaultDetector()
    for shift in range(60):
        dim = (scene(shift) * (0.15 if shift >= 20 else 1)).astype(np.uint8)
        assert detector.detect(dim) == ""
    noise = np.random.default_rng(2).integers(0, 6, scene(0).shape).astype(np.uint8)
    assert detector.detect(scene(60)) == ""
    assert [detector.detect(noise) for _ in range(400)] == ["black"] * 400
    assert detector.detect(scene(61)) == ""
