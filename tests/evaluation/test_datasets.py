import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from evaluation_builders import BUILDERS
from evaluation_helpers import number, write_frames, write_masks
from PIL import Image

from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.datasets import DATASETS, open_dataset
from samvideo.evaluation.files import MaskSet, read_index_png
from samvideo.evaluation.scoring import VideoScores
from samvideo.testing import check_dataset

SHARED = Path(os.environ.get("SAMVIDEO_SHARED", Path(__file__).parents[2].parent / "shared"))


def test_every_data_set_has_a_builder() -> None:
    assert {name for name, _ in BUILDERS} == set(DATASETS.all())


@pytest.mark.parametrize(("name", "build"), BUILDERS, ids=[build.__name__ for _, build in BUILDERS])
def test_every_data_set_keeps_its_promises(name: str, build: Callable[[Path], str], tmp_path: Path) -> None:
    root = tmp_path / f"{name}-root"
    split = build(root)
    check_dataset(name, root, split)


@pytest.mark.parametrize(("name", "build"), BUILDERS, ids=[build.__name__ for _, build in BUILDERS])
def test_a_wrong_root_names_what_it_looks_like(name: str, build: Callable[[Path], str], tmp_path: Path) -> None:
    root = tmp_path / f"{name}-root"
    build(root)
    for other in set(DATASETS.all()) - {name}:
        try:
            open_dataset(other, root)
        except DatasetError as error:
            message = str(error)
            if (name, other) == ("youtubevos", "lvos"):
                assert "frame_range is" in message
                continue
            assert f"is not laid out as {other} expects: looked for {root}" in message
            assert "├──" in message or "└──" in message
            assert "looks like" in message
            if name != "folder":
                assert name in message.split("looks like")[1]


def test_missing_folder_and_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is not a folder"):
        open_dataset("mose", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"no data set 'davis'; did you mean 'davis201.'.*cholecseg8k, davis2016"):
        open_dataset("davis", tmp_path)
    with pytest.raises(ConfigError, match="davis2017 has no split 'test'; known: val"):
        open_dataset("davis2017", tmp_path, "test")
    with pytest.raises(DatasetError, match="is not laid out as folder expects: looked for"):
        open_dataset("folder", tmp_path)


def test_youtubevos_objects_that_come_later_and_groups(tmp_path: Path) -> None:
    dict(BUILDERS)["youtubevos"](tmp_path)
    clip = open_dataset("youtubevos", tmp_path).sequence("a")
    assert clip.frames == ("00000", "00005", "00010", "00015", "00020")
    assert clip.first_seen == {1: 0, 2: 2}
    assert clip.scored == {1: (1, 2, 3, 4), 2: (3, 4)}
    assert clip.groups == {1: "seen", 2: "unseen"}


def test_sav_counts_from_label_zero_and_leaves_the_ends_out(tmp_path: Path) -> None:
    dict(BUILDERS)["sav"](tmp_path)
    clip = open_dataset("sav", tmp_path, "val").sequence("sav_1")
    assert clip.labels == {1: "000", 2: "001"}
    assert clip.saved == (0, 4, 8, 12)
    assert clip.scored == {1: (4, 8), 2: (4, 8)}
    assert clip.first_seen == {1: 0, 2: 4}


def test_lvos_scores_the_ranges_of_its_meta_file(tmp_path: Path) -> None:
    dict(BUILDERS)["lvos"](tmp_path)
    clip = open_dataset("lvos", tmp_path).sequence("v")
    assert clip.frames == ("00000001", "00000006", "00000011", "00000016")
    assert clip.scored == {1: (0, 1, 2), 2: (2, 3)}


@pytest.mark.parametrize("kind", ["manual", "auto"])
def test_sav_masklets_have_the_areas_that_pycocotools_finds(kind: str) -> None:
    root = SHARED / "data" / "sav-example"
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    from pycocotools import mask as coco

    dataset = open_dataset("sav", root, "train" if kind == "manual" else "train-auto")
    clip = dataset.sequence("sav_000001")
    masklets = json.loads((root / f"sav_000001_{kind}.json").read_text())["masklet"]
    assert len(clip.labels) == len(masklets[0])
    for index in list(clip.masks)[::10]:
        areas = [int(coco.area(rle)) for rle in masklets[index // 4]]
        truth = dataset.truth(clip, index)
        assert [int(truth.apart[k].sum()) for k in sorted(truth.apart)] == areas
        assert truth.shape_hw == (848, 480)


def test_a_video_with_masks_named_by_frame_number(tmp_path: Path) -> None:
    write_masks(tmp_path / "Annotations/v", ["00002", "00006"], {1: (3, 3)})
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/v.mp4").touch()
    clip = open_dataset("folder", tmp_path).sequence("v")
    assert clip.video == tmp_path / "videos/v.mp4"
    assert len(clip.frames) == 7
    assert sorted(clip.masks) == [2, 6]
    assert clip.first_seen == {1: 2}


@pytest.mark.parametrize(
    ("masks", "images", "said"),
    [
        ("", "", "Annotations holds files and no folders: one folder per sequence expected. Expected:\n\nROOT/"),
        ("dog", "dog-agility", "the same name; rename one that has no masks (dog-agility)"),
    ],
)
def test_a_wrong_layout_of_own_clips_is_explained(masks: str, images: str, said: str, tmp_path: Path) -> None:
    write_frames(tmp_path / "JPEGImages" / images, number(3))
    write_masks(tmp_path / "Annotations" / masks, number(3), {1: (3, 3)})
    with pytest.raises(DatasetError) as caught:
        open_dataset("folder", tmp_path).sequence(masks)
    assert said in str(caught.value)


def test_masks_of_other_names_than_their_frames_are_explained(tmp_path: Path) -> None:
    write_frames(tmp_path / "JPEGImages/dog", number(3))
    write_masks(tmp_path / "Annotations/dog", ["mask_00000"], {1: (3, 3)})
    with pytest.raises(DatasetError, match=r"a mask has the name of its frame, such as 00000\.png: rename"):
        open_dataset("folder", tmp_path).sequence("dog")


def test_a_video_of_another_name_than_its_masks_is_named(tmp_path: Path) -> None:
    write_masks(tmp_path / "Annotations/dog", number(2), {1: (3, 3)})
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/dog-agility.mp4").touch()
    with pytest.raises(DatasetError, match=r"exactly one expected; there is dog-agility\.mp4"):
        open_dataset("folder", tmp_path).sequence("dog")


def broken(root: Path, do: Callable[[Path], object]) -> str:
    """What opening and reading all of a sequence says after its masks were broken."""
    write_frames(root / "JPEGImages/480p/s", number(5))
    write_masks(root / "Annotations/480p/s", number(5), {1: (2, 2), 2: (20, 12)})
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("s\n")
    do(root / "Annotations/480p/s")
    dataset = open_dataset("davis2017", root)
    with pytest.raises(DatasetError) as caught:
        clip = dataset.sequence("s")
        for index in clip.masks:
            dataset.truth(clip, index)
    return str(caught.value)


def too_high(folder: Path) -> None:
    Image.fromarray(np.full((32, 48), 3, np.uint8)).save(folder / "00002.png")


@pytest.mark.parametrize(
    ("do", "path", "remedy"),
    [
        (lambda folder: (folder / "00003.png").unlink(), "s/00003.png is missing", "restore"),
        (
            lambda folder: (folder / "00001.png").write_bytes(b"nonsense"),
            "s/00001.png cannot be read",
            "fresh copy",
        ),
        (lambda folder: (folder / "00009.png").write_bytes((folder / "00001.png").read_bytes()), "00009", "remove"),
        (lambda folder: (folder / "notes.txt").touch(), "notes.txt", "remove"),
        (too_high, "s/00002.png has object 3, above the 2 objects", "correct the file"),
        (
            lambda folder: Image.new("RGB", (48, 32), (9, 99, 199)).save(folder / "00000.png"),
            "s/00000.png has 1 colours that are not",
            "palette PNG",
        ),
    ],
)
def test_broken_ground_truth_names_path_and_fix(
    do: Callable[[Path], object], path: str, remedy: str, tmp_path: Path
) -> None:
    message = broken(tmp_path, do)
    assert path in message
    assert remedy in message


def test_a_hole_among_masks_without_pictures_is_found(tmp_path: Path) -> None:
    write_masks(tmp_path / "s", number(12), {1: (2, 2)})
    (tmp_path / "s/00007.png").unlink()
    with pytest.raises(DatasetError, match=r"s/00007\.png is missing"):
        open_dataset("folder", tmp_path).sequence("s")


PARTS_2018 = (("instrument-shaft", (0, 255, 0)), ("instrument-wrist", (125, 255, 12)), ("kidney", (255, 0, 255)))


def endovis_with_parts(root: Path) -> None:
    """2017: two needle drivers and a probe, left one with its parts; 2018: a shaft and a wrist beside a kidney."""
    drawn = {
        "Left_Large_Needle_Driver": (10, 20, 30),
        "Right_Large_Needle_Driver": (10,),
        "Ultrasound_Probe": (40,),
    }
    seventeen, eighteen = root / "17/instrument_dataset_1", root / "18/seq_1"
    frames = [f"frame{k:03d}" for k in range(4)]
    for folder in (seventeen, eighteen):
        write_frames(folder / "left_frames", frames, ".png")
    for row, (name, values) in enumerate(drawn.items()):
        (seventeen / f"ground_truth/{name}_labels").mkdir(parents=True)
        mask = np.zeros((32, 48), np.uint8)
        for column, value in enumerate(values):
            mask[10 * row : 10 * row + 8, 10 * column : 10 * column + 8] = value
        for frame in frames:
            Image.fromarray(mask).save(seventeen / f"ground_truth/{name}_labels/{frame}.png")
    (eighteen / "labels").mkdir()
    rgb = np.zeros((32, 48, 3), np.uint8)
    for column, (_, colour) in enumerate(PARTS_2018):
        rgb[5:15, 12 * column : 12 * column + 10] = colour
    for frame in frames:
        Image.fromarray(rgb).save(eighteen / f"labels/{frame}.png")
    table = [{"name": name, "color": list(colour), "classid": k} for k, (name, colour) in enumerate(PARTS_2018, 1)]
    (root / "18/labels.json").write_text(json.dumps(table))


@pytest.mark.parametrize(
    ("year", "split", "areas"),
    [
        ("17", "valid", {"Left_Large_Needle_Driver": 192, "Right_Large_Needle_Driver": 64, "Ultrasound_Probe": 64}),
        ("17", "valid-type", {"Large_Needle_Driver": 256, "Ultrasound_Probe": 64}),
        ("17", "valid-parts", {"shaft": 128, "wrist": 64, "clasper": 64, "probe": 64}),
        ("17", "train-binary", {"instrument": 320}),
        ("18", "valid", {"instrument": 200}),
        ("18", "valid-binary", {"instrument": 200}),
        ("18", "valid-parts", {"shaft": 100, "wrist": 100}),
    ],
)
def test_endovis_labels(tmp_path: Path, year: str, split: str, areas: dict[str, int]) -> None:
    endovis_with_parts(tmp_path)
    dataset = open_dataset("endovis", tmp_path / year, split)
    clip = dataset.sequence(dataset.sequences()[0])
    truth = dataset.truth(clip, 1)
    assert all(path.is_file() for path in dataset.truth_files(clip, 1))
    assert {clip.labels[number]: int(mask.sum()) for number, mask in truth.apart.items()} == areas
    # Scoring: the prediction lacks a quarter of the first object's rows; classes are those of the labelling.
    first = min(truth.apart)
    worse = {number: mask.copy() for number, mask in truth.apart.items()}
    rows = np.flatnonzero(worse[first].any(1))
    worse[first][rows[: len(rows) // 2]] = False
    scores = VideoScores(dataset, clip)
    scores.add(1, MaskSet(apart=worse))
    entry = scores.conclude()
    assert set(entry["classes"]["classes"]) == {
        label.removeprefix("Left_").removeprefix("Right_") for label in areas
    }
    kept = worse[first].sum() / truth.apart[first].sum()
    assert entry["objects"][clip.labels[first]]["J"] == [pytest.approx(kept)]


def test_endovis_folders_of_classes(tmp_path: Path) -> None:
    write_frames(tmp_path / "valid/JPEGImages/seq1", number(4))
    write_masks(tmp_path / "valid/Annotations/seq1", number(4), {2: (4, 6), 5: (20, 6)})
    whole = open_dataset("endovis", tmp_path, "valid-type")
    binary = open_dataset("endovis", tmp_path, "valid-binary")
    assert list(whole.sequence("seq1").labels) == [2, 5]
    assert list(binary.sequence("seq1").labels) == [1]
    both = whole.truth(whole.sequence("seq1"), 0).index
    assert (binary.truth(binary.sequence("seq1"), 0).index == (both > 0)).all()
    with pytest.raises(DatasetError, match="not its parts: take valid-type"):
        open_dataset("endovis", tmp_path, "valid-parts")
    endovis_with_parts(tmp_path / "challenge")
    dataset = open_dataset("endovis", tmp_path / "challenge/18", "valid-type")
    with pytest.raises(DatasetError, match="valid-parts or -binary"):
        dataset.sequence("seq_1")
    with pytest.raises(ConfigError, match="no split 'valid-organs'"):
        open_dataset("endovis", tmp_path, "valid-organs")


def test_numbers_in_names_are_in_order_as_numbers(tmp_path: Path) -> None:
    names = [f"frame_{k}" for k in range(8, 12)]
    write_frames(tmp_path / "JPEGImages/s", names)
    write_masks(tmp_path / "Annotations/s", names, {1: (2, 2)})
    sequence = open_dataset("folder", tmp_path).sequence("s")
    assert sequence.frames == tuple(names)
    assert [path.stem for path in sequence.images] == names
    assert sequence.scored == {1: (1, 2)}


@pytest.mark.parametrize(
    ("names", "message"),
    [(["3", "003"], "two masks of one frame number"), (["0", "1700000000"], "a mask of frame 1700000000")],
)
def test_masks_of_a_video_with_strange_numbers(tmp_path: Path, names: list[str], message: str) -> None:
    write_masks(tmp_path / "Annotations/v", names, {1: (2, 2)})
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/v.mp4").touch()
    with pytest.raises(DatasetError, match=message):
        open_dataset("folder", tmp_path).sequence("v")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_no_mask(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "00000.png")
    with pytest.raises(DatasetError, match=r"00000\.png is missing, or no file"):
        read_index_png(tmp_path / "00000.png")
