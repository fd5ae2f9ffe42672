"""Every format is read back by the library that owns it, or checked against its published description."""

import configparser
import csv
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import av
import cv2
import numpy as np
import pytest
from exports_made import COUNT, LABELS, RGB, plate, ring, written
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from runs_made import INFO, SIZE, box, nothing, results, write_run

from samvideo.errors import ConfigError
from samvideo.evaluation.datasets import open_dataset
from samvideo.exports import FORMATS, export_run
from samvideo.exports.detections import to_supervision
from samvideo.io.outlines import outlines, simplified
from samvideo.io.sink import VideoWriter
from samvideo.io.source import open_video
from samvideo.types import FrameResult

# pycocotools' own decoder is written for NumPy 1
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("exports") / "run", results(COUNT, ring, plate))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "made.mp4"
    with VideoWriter(path, SIZE, Fraction(25), crf=5) as writer:
        for index in range(COUNT):
            writer.write(np.full((*SIZE[::-1], 3), RGB, np.uint8), index / 25)
    return path


def truth() -> list[dict[int, np.ndarray]]:
    drawn = [{1: ring(k), 2: plate(k)} for k in range(COUNT)]
    return [{number: mask for number, mask in masks.items() if mask.any()} for masks in drawn]


@pytest.mark.parametrize("name", ["coco", "coco-polygons"])
def test_coco(run: Path, tmp_path: Path, name: str) -> None:
    coco = COCO(str(written(run, tmp_path, name)))
    assert [entry["name"] for entry in coco.loadCats(coco.getCatIds())] == list(LABELS.values())
    kinds = set()
    for index, masks in enumerate(truth()):
        entries = coco.loadAnns(coco.getAnnIds(imgIds=index))
        assert {entry["track_id"] for entry in entries} == set(masks)
        for entry in entries:
            kinds.add(type(entry["segmentation"]))
            mask = masks[entry["track_id"]]
            assert (coco.annToMask(entry).astype(bool) == mask).all()
            assert entry["area"] == mask.sum()
            assert entry["bbox"] == coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask, np.uint8))).tolist()
    assert kinds == ({dict} if name == "coco" else {dict, list})  # holes stay run lengths


def test_coco_video_as_youtube_vis_has_it(run: Path, tmp_path: Path) -> None:
    tree = json.loads(written(run, tmp_path, "coco-video").read_text())
    (clip,) = tree["videos"]
    assert (clip["length"], len(clip["file_names"]), clip["width"], clip["height"]) == (COUNT, COUNT, *SIZE)
    for entry in tree["annotations"]:
        assert len(entry["segmentations"]) == len(entry["bboxes"]) == len(entry["areas"]) == COUNT
        for index, rle in enumerate(entry["segmentations"]):
            mask = truth()[index].get(entry["id"])
            assert (rle is None) == (mask is None)
            if mask is not None:
                packed = {"size": rle["size"], "counts": rle["counts"].encode()}
                assert (coco_mask.decode(packed).astype(bool) == mask).all()


def test_sav_is_read_by_the_benchmark(run: Path, video: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sav_train"
    folder.mkdir()
    export_run(run, "sav", folder / "sav_000001_manual.json")
    (folder / "sav_000001.mp4").write_bytes(video.read_bytes())
    dataset = open_dataset("sav", tmp_path, "train")
    clip = dataset.sequence("sav_000001")
    assert list(clip.masks) == [0, 4, 8]
    assert clip.first_seen == {1: 0, 2: 0}
    for index in clip.masks:
        found = dataset.truth(clip, index)
        for number, label in clip.labels.items():
            expected = truth()[index].get(int(label) + 1, nothing())
            assert (found.apart[number] == expected).all()
    tree = json.loads((folder / "sav_000001_manual.json").read_text())
    assert tree["masklet_visibility_changes"] == [2, 0]
    assert tree["masklet_num"] == 2


def part(folder: Path, frames: range, count: int | None = 40) -> Path:
    """A run over some frames of a longer video; object 2 is there from frame 16 on, object 3 never."""
    made = (
        replace(result, index=k, seconds=k / 25)
        for k in frames
        for result in results(1, lambda _: ring(0), lambda _, k=k: plate(0) if k >= 16 else nothing(), nothing_at)
    )
    return write_run(folder, made, info=replace(INFO, frame_count=count))


def nothing_at(k: int) -> np.ndarray:
    return nothing()


@pytest.mark.parametrize(
    "frames", [range(20, 31), range(10, 31), range(4, 40, 2), range(3, 40, 3), range(8, 25, 8), range(30)]
)
def test_the_head_of_sav_agrees_with_its_masks(tmp_path: Path, frames: range) -> None:
    tree = json.loads(export_run(part(tmp_path / "run", frames), "sav").read_text())
    seen = np.array([[coco_mask.area(rle) > 0 for rle in masks] for masks in tree["masklet"]])
    assert np.flatnonzero(seen[:, 0]).tolist() == [k // 4 for k in frames if k % 4 == 0]
    first = [4.0 * column.argmax() if column.any() else None for column in seen.T]
    assert tree["masklet_first_appeared_frame"] == first
    assert tree["masklet_frame_count"] == [len(seen)] * 3
    assert tree["masklet_visibility_changes"] == [int((a[1:] != a[:-1]).sum()) for a in seen.T]
    assert (tree["video_frame_count"], tree["video_duration"]) == (40, 1.6)


def test_sav_without_any_of_its_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="every 4th frame"):
        export_run(part(tmp_path / "run", range(1, 40, 4)), "sav")


def test_the_length_is_that_of_the_source_and_objects_end_with_the_run(tmp_path: Path) -> None:
    run = part(tmp_path / "run", range(10, 31, 2))
    root = ElementTree.parse(written(run, tmp_path, "cvat")).getroot()
    assert (root.findtext("meta/task/size"), root.findtext("meta/task/stop_frame")) == ("40", "39")
    shapes = list(root.findall("track")[0])
    assert [(shape.get("frame"), shape.get("outside")) for shape in shapes[-2:]] == [("30", "0"), ("31", "1")]
    (task,) = json.loads(written(run, tmp_path, "label-studio").read_text())
    value = task["predictions"][0]["result"][0]["value"]
    assert (value["framesCount"], value["duration"]) == (40, 1.6)
    assert [(k["frame"], k["enabled"]) for k in value["sequence"][-2:]] == [(31, True), (32, False)]
    parser = configparser.ConfigParser()
    parser.read(written(run, tmp_path, "mot-sequence") / "seqinfo.ini")
    assert parser["Sequence"]["seqlength"] == "40"
    unknown = part(tmp_path / "unknown", range(10, 31), count=None)
    root = ElementTree.parse(export_run(unknown, "cvat")).getroot()
    assert root.findtext("meta/task/size") == "31"
    assert root.findall("track")[0][-1].get("outside") == "0"


def test_davis_is_read_by_the_benchmark(run: Path, video: Path, tmp_path: Path) -> None:
    root = written(run, tmp_path, "davis", video=str(video))
    dataset = open_dataset("davis2017", root, "val")
    assert dataset.sequences() == [INFO.name]
    clip = dataset.sequence(INFO.name)
    assert len(clip.images) == COUNT
    for index, masks in enumerate(truth()):
        found = dataset.truth(clip, index)
        assert found.numbers == set(masks)
        assert all((found.mask(number) == mask).all() for number, mask in masks.items())


def test_mot(run: Path, tmp_path: Path) -> None:
    path = written(run, tmp_path, "mot")
    rows = [[float(cell) for cell in row] for row in csv.reader(path.read_text().splitlines())]
    assert {len(row) for row in rows} == {10}
    plates = [row for row in rows if row[1] == 2]
    assert [row[:6] for row in plates] == [[k + 1, 2, 151, 61 + k, 40, 35 - k] for k in range(COUNT)]
    folder = written(run, tmp_path, "mot-sequence")
    assert (folder / "mot.txt").read_text() == path.read_text()
    parser = configparser.ConfigParser()
    parser.read(folder / "seqinfo.ini")
    assert (parser["Sequence"]["seqlength"], parser["Sequence"]["framerate"]) == (str(COUNT), "25")


def polygon_mask(points: str) -> np.ndarray:
    corners = [float(part) for pair in points.split(";") for part in pair.split(",")]
    return coco_mask.decode(coco_mask.frPyObjects([corners], SIZE[1], SIZE[0]))[..., 0].astype(bool)


def test_cvat_tracks(run: Path, tmp_path: Path) -> None:
    root = ElementTree.parse(written(run, tmp_path, "cvat")).getroot()
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/mode") == "interpolation"
    assert [label.findtext("name") for label in root.iter("label")] == list(LABELS.values())
    first, second = root.findall("track")
    assert [track.get("label") for track in (first, second)] == list(LABELS.values())
    outside = {int(shape.get("frame", "")): shape.get("outside") for shape in first}
    assert outside == {k: "1" if k == 4 else "0" for k in range(COUNT) if k != 5}
    for shape in second:
        mask = polygon_mask(shape.get("points", ""))
        assert (mask == plate(int(shape.get("frame", "")))).all()
    for shape in first:
        if shape.get("outside") == "0":
            mask, whole = polygon_mask(shape.get("points", "")), ring(int(shape.get("frame", "")))
            largest = whole & ~box(10, 5, 20, 12)
            assert (mask & largest).sum() / largest.sum() > 0.98


def test_cvat_masks(run: Path, tmp_path: Path) -> None:
    root = ElementTree.parse(written(run, tmp_path, "cvat-masks")).getroot()
    for image, masks in zip(root.findall("image"), truth(), strict=True):
        assert len(image) == len(masks)
        for shape in image:
            left, top, width, height = (int(shape.get(key, "")) for key in ("left", "top", "width", "height"))
            runs = [int(n) for n in shape.get("rle", "").split(",")]
            inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
            found = nothing()
            found[top : top + height, left : left + width] = inside
            assert (found == masks[int(shape.get("group_id", ""))]).all()


def test_label_studio(run: Path, tmp_path: Path) -> None:
    (task,) = json.loads(written(run, tmp_path, "label-studio").read_text())
    assert task["data"] == {"video": INFO.name}
    first, second = task["predictions"][0]["result"]
    for result in (first, second):
        assert result["type"] == "videorectangle"
        assert {"framesCount", "duration", "sequence", "labels"} == set(result["value"])
        keys = {"frame", "time", "enabled", "x", "y", "width", "height", "rotation"}
        assert all(set(keyframe) == keys for keyframe in result["value"]["sequence"])
    assert first["value"]["labels"] == [LABELS[1]]
    sequence = first["value"]["sequence"]
    assert [(k["frame"], k["enabled"]) for k in sequence] == [(k + 1, k != 4) for k in range(COUNT) if k != 5]
    box_percent = [second["value"]["sequence"][3][key] for key in ("x", "y", "width", "height")]
    assert box_percent == [75, 63, 20, 32]


def test_numpy(run: Path, tmp_path: Path) -> None:
    folder = written(run, tmp_path, "numpy")
    masks = np.load(folder / "masks.npy", mmap_mode="r")
    assert masks.shape == (COUNT, 2, *SIZE[::-1])
    assert all((masks[k, 0] == ring(k)).all() and (masks[k, 1] == plate(k)).all() for k in range(COUNT))
    assert np.load(folder / "ids.npy").tolist() == [1, 2]
    assert np.load(folder / "present.npy")[:, 0].tolist() == [k not in (4, 5) for k in range(COUNT)]
    assert np.load(folder / "seconds.npy") == pytest.approx(np.arange(COUNT) / 25)


def decoded(path: Path, codec: str | None, format: str) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if codec is None:
            return [frame.to_ndarray(format=format) for frame in container.decode(stream)]
        decoder = av.CodecContext.create(codec, "r")  # the native decoder of VP9 knows no transparency
        frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
        return [frame.to_ndarray(format=format) for frame in frames]


@pytest.mark.parametrize(("name", "codec"), [("cutout-webm", "libvpx-vp9"), ("prores", None)])
def test_transparent_cutouts(run: Path, video: Path, tmp_path: Path, name: str, codec: str | None) -> None:
    path = written(run, tmp_path, name, video=str(video))
    frames = decoded(path, codec, "rgba")
    assert len(frames) == COUNT
    for index, rgba in enumerate(frames):
        inside = ring(index) | plate(index)
        alpha = rgba[..., 3].astype(int)
        assert abs(alpha - 255 * inside).mean() < 4
        core = cv2.erode(inside.astype(np.uint8), np.ones((5, 5))) > 0
        assert abs(rgba[core][:, :3].astype(int) - RGB).mean() < 12
        away = cv2.dilate(inside.astype(np.uint8), np.ones((25, 25))) == 0
        assert rgba[away][:, :3].mean() < 12  # what is not cut out is not in the file


def test_green_screen(run: Path, video: Path, tmp_path: Path) -> None:
    with open_video(written(run, tmp_path, "green", video=str(video))) as source:
        frames = list(source)
    assert [round(frame.seconds, 2) for frame in frames] == [round(k / 25, 2) for k in range(COUNT)]
    for frame in frames:
        inside = cv2.erode((ring(frame.index) | plate(frame.index)).astype(np.uint8), np.ones((5, 5))) > 0
        assert abs(frame.rgb[inside].astype(int) - RGB).mean() < 8
        away = cv2.dilate((ring(frame.index) | plate(frame.index)).astype(np.uint8), np.ones((25, 25))) == 0
        assert abs(frame.rgb[away].astype(int) - (0, 177, 64)).mean() < 8


def test_supervision() -> None:
    supervision = pytest.importorskip("supervision")
    masks = np.array([ring(0), nothing(), plate(0)])
    result = FrameResult(0, 0.0, (1, 4, 7), masks, np.array([0.9, 0.1, 0.8], np.float32), masks.any((1, 2)))
    found = to_supervision(result)
    assert isinstance(found, supervision.Detections)
    assert found.tracker_id.tolist() == [1, 7]
    assert (found.mask == masks[[0, 2]]).all()
    assert found.xyxy.tolist()[1] == [150, 60, 190, 95]
    assert found[found.confidence > 0.85].tracker_id.tolist() == [1]
    assert supervision.mask_to_xyxy(found.mask)[1].tolist() == [150, 60, 189, 94]  # its corners are pixels
    nobody = FrameResult(0, 0.0, (), np.zeros((0, 4, 6), bool), np.zeros(0, np.float32), np.zeros(0, bool))
    assert len(to_supervision(nobody)) == 0


def test_outlines_enclose_exactly_the_pixels() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        mask = random.random((9, 12)) > random.random()
        outer, holes = outlines(mask)
        found = np.zeros_like(mask)
        for polygon in [*outer, *holes]:
            corners = polygon.astype(float).reshape(-1).tolist()
            found ^= coco_mask.decode(coco_mask.frPyObjects([corners], 9, 12))[..., 0].astype(bool)
        assert (found == mask).all()
    (square,), _ = outlines(box(3, 4, 9, 8))
    assert sorted(square.tolist()) == [[3, 4], [3, 8], [9, 4], [9, 8]]
    assert len(simplified(square, 100.0)) == 4


def test_a_long_name_and_times_can_be_left_out(run: Path, tmp_path: Path) -> None:
    for name in FORMATS.all():
        if not FORMATS.find(name).needs_video:
            path = written(run, tmp_path / name, name, strip_source=True)
            files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            assert not any(b'"made"' in file.read_bytes() or "made" in file.name for file in files)
