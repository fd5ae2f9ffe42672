"""The unsupervised task of DAVIS 2017: tracks matched to objects, with numbers worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_builders import davis2017_unsupervised, sav
from evaluation_helpers import make_run
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.errors import ConfigError
from samvideo.evaluation.evaluate import evaluate, score
from samvideo.evaluation.results import read_results
from samvideo.io.masks import write_index_png

LEFT, RIGHT, LOW = (slice(2, 12), slice(2, 12)), (slice(2, 12), slice(20, 30)), (slice(18, 28), slice(2, 12))
HALF = slice(2, 12), slice(20, 25)


def write(folder: Path, *frames: dict[int, Any]) -> None:
    """Write masks of 32 rows and 40 columns, whose numbers fill these parts."""
    folder.mkdir(parents=True)
    for k, parts in enumerate(frames):
        index = np.zeros((32, 40), np.uint8)
        for number, part in parts.items():
            index[part] = number
        write_index_png(folder / f"{k:05d}.png", index)


def scores(root: Path, *found: dict[int, Any]) -> dict[str, Any]:
    """The entry of the sequence `s`, scored against three frames of two objects; the second leaves."""
    write(root / "gt/s", {1: LEFT, 2: RIGHT}, {1: LEFT, 2: RIGHT}, {1: LEFT})
    write(root / "pred/s", *found)
    results = score("folder", root / "gt", root / "pred", unsupervised=True)
    assert results["failed"] == {}
    entry: dict[str, Any] = results["sequences"]["s"]["objects"]
    return entry


def test_numbers_do_not_matter_and_every_frame_counts(tmp_path: Path) -> None:
    found = scores(tmp_path, {5: LEFT, 3: RIGHT}, {5: LEFT, 3: HALF}, {5: LEFT, 3: LOW})
    assert [found[key]["track"] for key in "12"] == [5, 3]
    assert found["1"]["J"] == found["1"]["F"] == [1.0, 1.0, 1.0]
    assert found["2"]["J"] == [1.0, 0.5, 0.0]
    # The boundaries of half and whole have 30 and 40 pixels, of which 23 each are within one pixel of the other's.
    assert found["2"]["F"] == pytest.approx([1.0, 46 / 70, 0.0])
    assert found["2"]["mask_area"] == [100, 50, 100]


def test_the_best_pairs_together_not_one_after_the_other(tmp_path: Path) -> None:
    # Track 1 fits both objects best, but the second has no other: the first one takes track 2.
    both = {1: (slice(2, 12), slice(2, 30))}
    found = scores(tmp_path, both, both | {2: LEFT}, both)
    assert [found[key]["track"] for key in "12"] == [2, 1]
    assert found["1"]["J"] == [0.0, 1.0, 0.0]
    assert found["2"]["J"] == pytest.approx([100 / 280, 100 / 180, 0.0])


def test_objects_without_a_track_are_missed_but_right_where_absent(tmp_path: Path) -> None:
    found = scores(tmp_path, {1: LEFT}, {1: LEFT}, {1: LEFT})
    assert [found[key]["track"] for key in "12"] == [1, None]
    assert found["2"]["J"] == found["2"]["F"] == [0.0, 0.0, 1.0]
    nothing = scores(tmp_path / "nothing", {}, {}, {})
    assert [nothing[key]["J_mean"] for key in "12"] == [0.0, 1 / 3]


def test_numbers_that_no_track_has_are_empty_tracks(tmp_path: Path) -> None:
    # Tracks count up to the highest number, as published: an empty one is right where the object is absent.
    found = scores(tmp_path, {4: LOW}, {4: LOW}, {4: LOW})
    assert [found[key]["track"] for key in "12"] == [None, None]
    only = scores(tmp_path / "only", {1: LOW, 2: LEFT}, {1: LOW, 2: LEFT}, {1: LOW, 2: LEFT})
    assert only["2"]["track"] == 1
    assert only["2"]["J"] == [0.0, 0.0, 0.0]


def test_void_of_the_ground_truth_is_background(tmp_path: Path) -> None:
    write(tmp_path / "gt/s", *[{1: LEFT, 255: RIGHT}] * 2)
    write(tmp_path / "pred/s", *[{2: (slice(2, 12), slice(2, 30))}] * 2)
    results = score("folder", tmp_path / "gt", tmp_path / "pred", unsupervised=True)
    assert results["sequences"]["s"]["objects"]["1"]["J"] == [100 / 280] * 2


def test_at_most_twenty_tracks(tmp_path: Path) -> None:
    write(tmp_path / "gt/s", {1: LEFT}, {1: LEFT})
    write(tmp_path / "pred/s", {20: LEFT}, {21: LEFT})
    failed = score("folder", tmp_path / "gt", tmp_path / "pred", unsupervised=True)["failed"]["s"]
    assert "00001.png has track 21: numbers from 1 to 20 expected" in failed["message"]
    assert failed["exit_code"] == 3


def test_the_data_set_and_the_command(tmp_path: Path) -> None:
    split, root = davis2017_unsupervised(tmp_path / "davis"), tmp_path / "davis"
    masks, out = root / "Annotations_unsupervised/480p", tmp_path / "out.json"
    arguments = ["score", "davis2017-unsupervised", str(root), str(masks), "--split", split, "-o", str(out)]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    assert "DAVIS 2017 unsupervised: every frame; each object with the track that fits it best" in found.output
    results = read_results(out)
    assert (results["scores"]["J&F"], len(results["sequences"]["bear"]["objects"]["2"]["J"])) == (1.0, 4)
    with pytest.raises(ConfigError, match="gives no prompts"):
        evaluate(make_run("davis2017-unsupervised", root, split, tmp_path / "run"))
    split = sav(tmp_path / "sav")
    with pytest.raises(ConfigError, match="may overlap"):
        score("sav", tmp_path / "sav", masks, split=split, unsupervised=True)
