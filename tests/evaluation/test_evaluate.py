import csv
import json
import multiprocessing
import random
import time
import zipfile
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluation_builders import davis2017, endovis, folder, mose, sav, sav_train, youtubevos
from evaluation_helpers import RepeatTracker, files, index_map, make_run, number, numbers, write_frames, write_masks
from PIL import Image

from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.evaluate import Evaluation, choose_sequences, evaluate, exit_code_of, score
from samvideo.evaluation.files import read_index_png
from samvideo.evaluation.shard import LocalPool, Pool, run_here
from samvideo.io.masks import write_index_png
from samvideo.io.sink import VideoWriter
from samvideo.trackers.factory import create_tracker
from samvideo.types import Frame

flow = partial(create_tracker, "flow")


def archived(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_a_run_leaves_masks_numbers_and_tables(davis: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "out", []
    results = evaluate(make_run("davis2016", davis, "val", out), progress=lambda *args: seen.append(args))
    assert seen == [("bear", 1, 3), ("cow", 2, 3), ("dog", 3, 3)]
    assert json.loads((out / "results.json").read_text()) == results
    found = results["sequences"]["bear"]["objects"]["1"]
    assert found["frames"] == number(6)[1:-1]
    assert len(found["J"]) == len(found["F"]) == 4
    # The square of ten pixels moves one pixel a frame, the tracker stays.
    assert found["J"] == [(10 - k) / (10 + k) for k in range(1, 5)]
    assert found["J_mean"] == np.mean(found["J"])
    assert results["scores"]["J_mean"] == np.mean(
        [s["objects"]["1"]["J_mean"] for s in results["sequences"].values()]
    )
    assert (read_index_png(out / "predictions/cow/00004.png") == index_map({1: (4, 6)})).all()
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert [row["sequence"] for row in rows] == ["bear", "cow", "dog", "all"]
    assert float(rows[0]["J_mean"]) == found["J_mean"]
    assert results["timing"]["frames"] == 15
    assert "machine" in results
    assert results["protocol"]["description"].startswith("ground truth mask")


def test_scoring_what_was_saved_gives_the_same_numbers(tmp_path: Path) -> None:
    for build in (davis2017, youtubevos, sav, endovis, folder):
        root, name = tmp_path / build.__name__ / "root", build.__name__
        split = build(root)
        out = tmp_path / name / "out"
        results = evaluate(make_run(name, root, split, out))
        again = score(name, root, out / "predictions", split=split)
        del results["scores"]["calibration_error"]  # saved masks do not say what the tracker predicted
        for sequence in results["sequences"].values():
            for found in sequence["objects"].values():
                assert len(found.pop("predicted", [])) == len(found["J"])
        assert again["sequences"] == results["sequences"]
        assert again["scores"] == results["scores"]
    assert results["failed"] == {}


def test_what_the_servers_want(tmp_path: Path) -> None:
    split = mose(tmp_path / "mose")
    out = tmp_path / "out"
    results = evaluate(make_run("mose", tmp_path / "mose", split, out))
    assert results["scores"]["J&F"] is None
    names = archived(out / "mose-valid.zip")
    assert names == [f"m/{frame}.png" for frame in number(4)]
    split = youtubevos(tmp_path / "yt")
    results = evaluate(make_run("youtubevos", tmp_path / "yt", split, tmp_path / "out2"))
    names = archived(tmp_path / "out2/youtubevos-valid.zip")
    assert names == [f"Annotations/a/{frame}.png" for frame in number(5, step=5)]
    assert results["scores"]["G"] == np.mean(
        [results["scores"][f"{m}_{g}"] for m in "JF" for g in ("seen", "unseen")]
    )
    with pytest.raises(DatasetError, match="upload the masks"):
        raise DatasetError(score("mose", tmp_path / "mose", out / "predictions")["failed"]["m"]["message"])


def test_sav_masks_lie_apart_and_endovis_has_its_own_numbers(tmp_path: Path) -> None:
    split = sav(tmp_path / "sav")
    evaluate(make_run("sav", tmp_path / "sav", split, tmp_path / "out"))
    saved = sorted(p.relative_to(tmp_path / "out/predictions").as_posix() for p in tmp_path.glob("out/**/*.png"))
    assert saved == [f"sav_1/{label}/{frame}.png" for label in ("000", "001") for frame in number(4, step=4)]
    split = endovis(tmp_path / "endovis")
    results = evaluate(make_run("endovis", tmp_path / "endovis", split, tmp_path / "out2"))
    assert 0 < results["scores"]["challenge_iou"] <= 1
    assert {"class_iou", "mean_class_iou", "Dice_mean"} <= results["scores"].keys()


def test_choosing_objects_and_sequences(tmp_path: Path) -> None:
    root = tmp_path / "root"
    davis2017(root)
    results = evaluate(make_run("davis2017", root, "val", tmp_path / "out", objects=(2,)))
    assert list(results["sequences"]["bear"]["objects"]) == ["2"]
    assert results["dataset"]["objects"] == [2]
    failed = evaluate(make_run("davis2017", root, "val", tmp_path / "out2", objects=(7,)))["failed"]
    assert "none of the objects [7]" in failed["bear"]["message"]
    dataset = make_run("davis2017", root, "val", tmp_path / "out3").task.open()
    with pytest.raises(ConfigError, match="no sequence 'cat'; it has bear"):
        choose_sequences(dataset, ["cat"])


def test_limit_and_then_the_rest(davis: Path, tmp_path: Path) -> None:
    first = evaluate(make_run("davis2016", davis, "val", tmp_path / "out", limit=1))
    assert list(first["sequences"]) == ["bear"]
    begun = (tmp_path / "out/sequences/bear.json").stat().st_mtime_ns
    whole = evaluate(make_run("davis2016", davis, "val", tmp_path / "out"))
    assert list(whole["sequences"]) == ["bear", "cow", "dog"]
    assert (tmp_path / "out/sequences/bear.json").stat().st_mtime_ns == begun


def test_another_run_does_not_go_on_in_the_same_folder(davis: Path, tmp_path: Path) -> None:
    evaluate(make_run("davis2016", davis, "val", tmp_path / "out", limit=1))
    with pytest.raises(ConfigError, match="holds another evaluation: its protocol is 'mask', not 'box'"):
        evaluate(make_run("davis2016", davis, "val", tmp_path / "out", protocol="box"))
    for out in (davis, davis.parent, davis / "out"):
        with pytest.raises(ConfigError, match="lie in one another"):
            evaluate(make_run("davis2016", davis, "val", out))
    assert not (davis / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    with pytest.raises(ConfigError, match="neither empty nor a run"):
        evaluate(make_run("davis2016", davis, "val", tmp_path / "mine"))


def test_a_run_killed_as_it_began_goes_on(davis: Path, tmp_path: Path) -> None:
    half = tmp_path / "out/.run.json.part"
    half.parent.mkdir()
    half.write_text("{")
    evaluate(make_run("davis2016", davis, "val", tmp_path / "out", limit=1))
    assert not half.exists()


@pytest.mark.parametrize("pool", [run_here, LocalPool(2)], ids=["here", "processes"])
def test_one_bad_video_does_not_sink_a_run(pool: Pool, davis: Path, tmp_path: Path) -> None:
    bad = davis / "Annotations/480p/cow/00002.png"
    bad.write_bytes(b"no picture")
    results = evaluate(make_run("davis2016", davis, "val", tmp_path / "out", flow), pool)
    assert list(results["sequences"]) == ["bear", "dog"]
    assert str(bad) in results["failed"]["cow"]["message"]
    assert exit_code_of(results) == DatasetError.exit_code
    assert not list((tmp_path / "out/predictions").glob("*cow*"))
    write_index_png(bad, index_map({1: (6, 6)}))
    mended = evaluate(make_run("davis2016", davis, "val", tmp_path / "out", flow), pool)
    assert list(mended["sequences"]) == ["bear", "cow", "dog"]
    assert exit_code_of(mended) == 0


def test_wrong_sizes_are_told_with_the_path(davis: Path, tmp_path: Path) -> None:
    small = davis / "Annotations/480p/bear/00003.png"
    Image.fromarray(np.ones((8, 8), np.uint8)).save(small)
    Image.fromarray(np.ones((8, 8), np.uint8)).save(davis / "Annotations/480p/cow/00000.png")
    failed = evaluate(make_run("davis2016", davis, "val", tmp_path / "out"))["failed"]
    assert str(small) in failed["bear"]["message"]
    assert "8x8" in failed["bear"]["message"]
    assert "cow/00000.png has another size" in failed["cow"]["message"]
    broken = score("davis2016", davis, tmp_path / "out/predictions", sequences=["bear", "dog"])
    assert "predictions of every sequence expected" in broken["failed"]["bear"]["message"]
    assert list(broken["sequences"]) == ["dog"]


@pytest.mark.logs_errors
def test_a_bug_in_a_tracker_is_that_videos_failure(davis: Path, tmp_path: Path) -> None:
    def fail(frame: Frame) -> None:
        if frame.index == 4:
            raise ZeroDivisionError("oops")

    failed = evaluate(make_run("davis2016", davis, "val", tmp_path / "out", partial(RepeatTracker, fail)))["failed"]
    assert failed == {name: {"message": "ZeroDivisionError: oops", "exit_code": 5} for name in ("bear", "cow")}


def test_predictions_made_elsewhere(tmp_path: Path) -> None:
    truth, predictions = tmp_path / "gt", tmp_path / "pred"
    write_masks(truth / "s", number(6), {1: (2, 2), 2: (20, 12)})
    write_masks(predictions / "s", number(6), {1: (2, 2), 2: (22, 12)})
    results = score("folder", truth, predictions)
    assert results["sequences"]["s"]["objects"]["1"]["J"] == [1.0] * 4
    assert results["sequences"]["s"]["objects"]["2"]["J_mean"] == pytest.approx(80 / 120)
    whole = score("folder", truth, predictions, ends=True)
    assert len(whole["sequences"]["s"]["objects"]["1"]["J"]) == 6
    assert "with the first and the last frame" in whole["dataset"]["rule"]
    (predictions / "s/00002.png").unlink()
    missing = score("folder", truth, predictions)["failed"]["s"]["message"]
    assert "pred/s/00002.png is missing" in missing
    write_index_png(predictions / "s/00002.png", index_map({9: (2, 2)}))
    assert "has object 9, but the objects are 1, 2" in score("folder", truth, predictions)["failed"]["s"]["message"]
    with pytest.raises(DatasetError, match="not a folder"):
        score("folder", truth, tmp_path / "nowhere")


@pytest.mark.parametrize("protocol", ["box", "click3", "online", "offline"])
def test_every_protocol_runs_and_is_repeatable(protocol: str, davis: Path, tmp_path: Path) -> None:
    made = [evaluate(make_run("davis2016", davis, "val", tmp_path / k, protocol=protocol)) for k in "ab"]
    assert numbers(made[0]) == numbers(made[1])
    assert ("clicks" in made[0]["sequences"]["bear"]) == (protocol != "box")


def test_more_passes_do_better(davis: Path, tmp_path: Path) -> None:
    once = evaluate(make_run("davis2016", davis, "val", tmp_path / "a", protocol="click3"))
    often = evaluate(make_run("davis2016", davis, "val", tmp_path / "b", protocol="offline"))
    assert often["scores"]["J_mean"] > once["scores"]["J_mean"]


def slow_run(root: Path, out: Path) -> Evaluation:
    make = partial(RepeatTracker, lambda frame: time.sleep(0.004))
    return make_run("davis2016", root, "val", out, make)


def run_slowly(root: Path, out: Path) -> None:
    evaluate(slow_run(root, out))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("wanted", [5, pytest.param(20, marks=pytest.mark.long)])
def test_killed_many_times_over_and_nothing_is_lost(wanted: int, davis: Path, tmp_path: Path) -> None:
    for k in range(6):
        write_frames(davis / "JPEGImages/480p" / f"extra{k}", number(5))
        write_masks(davis / "Annotations/480p" / f"extra{k}", number(5), {1: (3 + k, 5)})
    (davis / "ImageSets/480p/val.txt").write_text(
        "\n".join(["bear", "cow", "dog", *(f"extra{k}" for k in range(6))])
    )
    undisturbed = evaluate(slow_run(davis, tmp_path / "calm"))
    rng, out = random.Random(4), tmp_path / "killed"
    context = multiprocessing.get_context("fork")
    stamps: dict[Path, int] = {}
    kills = 0
    while kills < wanted:
        process = context.Process(target=run_slowly, args=(davis, out))
        process.start()
        process.join(rng.uniform(0.005, 0.06))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        for path in (out / "sequences").glob("[!.]*.json"):
            assert stamps.setdefault(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
        if len(stamps) == 9:  # finished before all kills: begin again
            assert numbers(evaluate(slow_run(davis, out))) == numbers(undisturbed)
            out, stamps = tmp_path / f"killed{kills}", {}
    assert numbers(evaluate(slow_run(davis, out))) == numbers(undisturbed)
    assert files(out) == files(tmp_path / "calm")
    assert not list(out.rglob(".*.part"))


def test_videos_as_well_as_pictures(tmp_path: Path) -> None:
    """SA-V's train split, and a folder with videos: masks of some frames, the video has them all."""
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.integers(0, 255, (8, 16, 3), np.uint8), (80, 32), interpolation=cv2.INTER_CUBIC)
    split = sav_train(tmp_path / "sav")
    (tmp_path / "folder/videos").mkdir(parents=True)
    videos = (tmp_path / "sav/sav_train/sav_000/sav_000007.mp4", tmp_path / "folder/videos/v.mp4")
    for path in videos:
        with VideoWriter(path, (48, 32), Fraction(24)) as writer:
            for k in range(12):
                writer.write(np.ascontiguousarray(texture[:, k : k + 48]), k / 24)
    results = evaluate(make_run("sav", tmp_path / "sav", split, tmp_path / "out"))
    assert results["failed"] == {}
    assert results["sequences"]["sav_000007"]["objects"]["0"]["frames"] == ["00004"]
    write_masks(tmp_path / "folder/Annotations/v", number(3, step=4), {1: (4, 4)})
    results = evaluate(make_run("folder", tmp_path / "folder", "all", tmp_path / "out2"))
    assert results["failed"] == {}
    assert len(list((tmp_path / "out2/predictions/v").glob("*.png"))) == 9
    write_index_png(tmp_path / "folder/Annotations/v/00040.png", index_map({1: (4, 4)}))
    late = evaluate(make_run("folder", tmp_path / "folder", "all", tmp_path / "out3"))["failed"]
    assert "has 12 frames, but masks go up to frame 40" in late["v"]["message"]
