import numpy as np
import pytest

from samvideo.evaluation.confidence import bins, calibration, calibration_error, presence


def test_bins_hold_every_prediction_once() -> None:
    found = bins([0.0, 0.05, 0.95, 1.0], [0.0, 0.1, 1.0, 0.9])
    assert [one.size for one in found] == [2, 2]
    assert found[1].predicted == pytest.approx(0.975)
    assert found[1].reached == pytest.approx(0.95)
    assert calibration_error([], []) is None
    assert calibration_error([0.9] * 10, [1.0] * 9 + [0.0]) == pytest.approx(0)
    assert calibration_error(np.linspace(0, 1, 101), np.zeros(101)) == pytest.approx(0.5)


def test_absences_and_returns() -> None:
    found = {
        "area": [9, 9, 0, 0, 0, 9, 9, 9, 0, 0, 9],
        "mask_area": [9, 0, 0, 0, 5, 0, 9, 9, 0, 0, 9],
        "J": [0.9, 0.0, 1.0, 1.0, 0.0, 0.0, 0.2, 0.8, 1.0, 1.0, 1.0],
    }
    reported = presence([found])
    assert reported["absent_reported"] == pytest.approx(4 / 5)
    assert reported["present_missed"] == pytest.approx(2 / 6)
    assert reported["found_again"] == 1  # the second return is too short to count
    late = found | {"J": [0.9, 0.0, 1.0, 1.0, 0.0, 0.0, 0.2, 0.3, 1.0, 1.0, 1.0]}
    assert presence([late])["found_again"] == 0
    assert presence([found | {"area": [9] * 11}]) == {}
    assert presence([{"J": [1.0]}]) == {}  # an entry of an earlier version


def test_frames_with_nothing_to_predict_do_not_count() -> None:
    found = {"area": [9, 0, 0], "mask_area": [9, 0, 4], "J": [0.8, 1.0, 0.0], "predicted": [0.6, 0.0, 0.2]}
    assert calibration([found])["calibration_error"] == pytest.approx(0.2)
    assert calibration([{"J": [1.0]}]) == {}
