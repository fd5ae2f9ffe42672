import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scoring_speed import plain_score, score_frame, score_frame_plainly

from samvideo.errors import DatasetError
from samvideo.evaluation.bits import boundaries, dilate, pack, trim
from samvideo.evaluation.files import read_index_png
from samvideo.evaluation.metrics import (
    ClassScores,
    ObjectScores,
    boundary_radius,
    score_indices,
    score_masks,
    statistics,
)
from samvideo.types import UInt8Array

FIXTURES = Path(__file__).parent / "fixtures"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
OBJECTS = [(sequence, number) for sequence, numbers in EXPECTED.items() for number in numbers["davis"]]


def load(sequence: str) -> list[tuple[str, UInt8Array, UInt8Array]]:
    paths = sorted((FIXTURES / "gt" / sequence).glob("*.png"))
    return [(p.stem, read_index_png(p), read_index_png(FIXTURES / "pred" / sequence / p.name)) for p in paths]


@pytest.mark.parametrize(("sequence", "number"), OBJECTS)
def test_the_davis_evaluators_numbers(sequence: str, number: str) -> None:
    expected, scores = EXPECTED[sequence]["davis"][number], ObjectScores()
    for name, truth, prediction in load(sequence)[1:-1]:
        scores.add(name, *(score_indices(truth, prediction, [int(number)])))
    np.testing.assert_allclose(scores.j, expected["J"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(scores.f, expected["F"], rtol=0, atol=1e-12)
    for letter, values in (("J", scores.j), ("F", scores.f)):
        wanted = [expected[f"{letter}_{name}"] for name in ("mean", "recall", "decay")]
        np.testing.assert_allclose(statistics(values), wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("ends", ["sav_skip_ends", "sav_all_frames"])
@pytest.mark.parametrize(("sequence", "number"), OBJECTS)
def test_the_sav_evaluators_numbers(sequence: str, number: str, ends: str) -> None:
    scores = ObjectScores()
    frames = load(sequence)
    for name, truth, prediction in frames[1:-1] if ends == "sav_skip_ends" else frames:
        seen = scores.frames or (truth == int(number)).any() or (prediction == int(number)).any()
        if seen:
            scores.add(name, *score_indices(truth, prediction, [int(number)]))
    expected = EXPECTED[sequence][ends][number]
    assert 100 * np.mean(scores.j) == pytest.approx(expected["J_mean_percent"], rel=0, abs=1e-7)
    assert 100 * np.mean(scores.f) == pytest.approx(expected["F_mean_percent"], rel=0, abs=1e-7)


@pytest.mark.parametrize("sequence", EXPECTED)
def test_all_objects_at_once_is_each_alone_is_the_plain_algorithm(sequence: str) -> None:
    objects = range(1, len(EXPECTED[sequence]["davis"]) + 1)
    for _, truth, prediction in load(sequence)[::7]:
        together = score_frame((truth, prediction), objects)
        assert together == score_frame_plainly((truth, prediction), objects)
        alone = [score_masks(truth == number, prediction == number) for number in objects]
        assert together == [(score.j, score.f) for score in alone]


index_maps = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40).flatmap(
    lambda shape: st.tuples(*2 * [hnp.arrays(np.uint8, shape, elements=st.integers(0, 10), fill=st.just(0))])
)


@settings(max_examples=50)
@given(index_maps)
def test_wild_maps_score_as_by_the_plain_algorithm(pair: tuple[UInt8Array, UInt8Array]) -> None:
    together = score_frame(pair, range(1, 11))
    assert together == score_frame_plainly(pair, range(1, 11))
    assert together == [score_frame(pair, range(number, number + 1))[0] for number in range(1, 11)]


def test_objects_at_every_border_of_the_frame() -> None:
    for rows, columns in ((slice(0, 5), slice(0, 5)), (slice(20, 30), slice(30, 40)), (slice(0, 30), slice(0, 40))):
        truth, prediction = np.zeros((2, 30, 40), bool)
        truth[rows, columns] = prediction[rows, columns] = True
        prediction[10:14, 10:14] = True
        score = score_masks(truth, prediction)
        assert (score.j, score.f) == plain_score(truth, prediction)


@pytest.mark.parametrize("radius", [1, 2, 5, 8, 18, 37])
def test_dilation_reaches_exactly_a_disk(radius: int) -> None:
    picture = np.zeros((2 * radius + 9, 2 * radius + 5), np.uint8)
    picture[radius + 2, radius + 1] = 1
    packed = pack([picture, np.zeros_like(picture)], radius, [True, True])
    trim(packed, [picture] * 2, [True, True])
    bits = dilate(packed, radius)
    rows, columns = np.indices(picture.shape)
    planes = np.concatenate([bits[0] >> k & 1 for k in range(8)])[: len(picture), : picture.shape[1]]
    np.testing.assert_array_equal(planes, (rows - radius - 2) ** 2 + (columns - radius - 1) ** 2 <= radius**2)


def test_a_boundary_lies_on_the_mask_and_left_of_and_above_it() -> None:
    picture = np.zeros((6, 6), np.uint8)
    picture[2:4, 2:4] = 1
    edges = boundaries(pack([picture], 1, [False]))
    trim(edges, [picture], [False])
    planes = np.concatenate([edges[0] >> k & 1 for k in range(8)])[:6, :6]
    assert [tuple(p) for p in np.argwhere(planes)] == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (2, 3),
        (3, 1),
        (3, 2),
        (3, 3),
    ]


def test_radius_is_a_part_of_the_diagonal_rounded_up() -> None:
    assert [boundary_radius(shape) for shape in ((480, 854), (240, 432), (1080, 1920), (10, 10))] == [8, 4, 18, 1]


def test_nothing_against_nothing_is_perfect_and_against_something_nil() -> None:
    empty, one = np.zeros((8, 8), bool), np.eye(8, dtype=bool)
    assert score_masks(empty, empty) == (1, 1, 1)
    assert score_masks(one, empty) == score_masks(empty, one) == (0, 0, 0)
    assert score_masks(one, one) == (1, 1, 1)
    assert score_masks(~empty, ~empty) == (1, 1, 1)
    assert score_masks(~empty, one).f == 0.0


def test_dice_is_twice_the_common_part_over_both() -> None:
    truth, prediction = np.zeros((2, 4, 4), bool)
    truth[0, :3], prediction[0, 1:] = True, True
    assert score_masks(truth, prediction).dice == 4 / 6


def test_sizes_must_agree() -> None:
    with pytest.raises(DatasetError, match="prediction is 5x4, the ground truth 4x4"):
        score_masks(np.zeros((4, 4), bool), np.zeros((4, 5), bool))


def test_statistics_of_long_and_short_sequences() -> None:
    assert statistics([1.0] * 300 + [0.0] * 700) == (0.3, 0.3, 1.0)
    assert statistics([0.5]) == (0.5, 0.0, 0.0)
    assert all(math.isnan(value) for value in statistics([]))


def test_instrument_classes() -> None:
    scores = ClassScores()
    scores.add({"a": 0.5, "b": 0.0}, in_truth={"a"})  # class b is predicted only
    scores.add({"b": 0.8}, in_truth={"b"})
    scores.add({}, in_truth=set())
    other = ClassScores()
    other.add({"c": 0.3}, in_truth=set())
    scores.merge(other)
    assert scores.conclude() == pytest.approx(
        {
            "challenge_iou": (0.5 + 0.8) / 2,
            "class_iou": (0.25 + 0.8 + 0.3) / 3,
            "mean_class_iou": (0.5 + 0.4 + 0.3) / 3,
        }
    )
