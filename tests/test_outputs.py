import csv
import errno
import json
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samvideo import outputs as writing
from samvideo.errors import ConfigError, OutputError
from samvideo.io.masks import decode_rle
from samvideo.io.source import open_video
from samvideo.outputs import AlternatingFile, GrowingFile, Outputs, RleTracks
from samvideo.types import Frame, FrameResult, VideoInfo

INFO = VideoInfo("clip.mp4", (6, 4), Fraction(25))
ALL = ("overlay", "masks", "rle", "csv")


def results(count: int) -> Iterator[tuple[Frame, FrameResult]]:
    """Object 1 is a 2x2 square that moves right and leaves; object 3 has a fixed pixel."""
    for index in range(count):
        masks = np.zeros((2, 4, 6), bool)
        masks[0, 1:3, 2 * index : 2 * index + 2] = True
        masks[1, 3, 5] = True
        frame = Frame(index, index / 25, np.full((4, 6, 3), 90, np.uint8))
        scores = np.array([0.9, 0.5], np.float32)
        yield frame, FrameResult(index, index / 25, (1, 3), masks, scores, masks.any((1, 2)))


def test_all_files_agree(tmp_path: Path) -> None:
    with Outputs(tmp_path / "out", ALL, INFO) as out:
        for frame, result in results(4):
            out.write(frame, result)
    folder = tmp_path / "out"

    index = np.asarray(Image.open(folder / "masks" / "00001.png"))
    assert index.tolist() == [[0] * 6, [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 3]]
    assert len(list((folder / "masks").iterdir())) == 4

    tracks = json.loads((folder / "tracks.json").read_text())
    known = {"name": "clip.mp4", "width": 6, "height": 4, "rate": "25", "frame_count": None, "renumbered": False}
    assert tracks["video"] == known
    first = tracks["frames"][1]["objects"][0]
    assert decode_rle(first.pop("segmentation")).astype(int).tolist() == (index == 1).astype(int).tolist()
    assert first == {"id": 1, "present": True, "score": 0.9, "area": 4, "bbox": [2, 1, 2, 2]}

    rows = list(csv.DictReader((folder / "tracks.csv").read_text().splitlines()))
    assert len(rows) == 8
    assert list(rows[2].values()) == ["1", "0.040000", "1", "1", "0.9000", "4", "2", "1", "4", "3", "3", "2"]
    gone = rows[6]
    assert (gone["present"], gone["area"], gone["x1"], gone["centroid_x"]) == ("0", "0", "", "")

    with open_video(folder / "overlay.mp4") as video:
        assert video.info.size_wh == (6, 4)
        assert [round(frame.seconds, 3) for frame in video] == [0, 0.04, 0.08, 0.12]


def test_only_requested_kinds_are_written(tmp_path: Path) -> None:
    with Outputs(tmp_path / "out", ["csv"], INFO) as out:
        for frame, result in results(2):
            out.write(frame, result)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tracks.csv"]
    with pytest.raises(ConfigError, match="cannot save 'video'"):
        Outputs(tmp_path / "other", ["video"], INFO)
    with pytest.raises(ConfigError, match="nothing to save"):
        Outputs(tmp_path / "other", [], INFO)
    assert not (tmp_path / "other").exists()


def test_files_are_valid_after_every_frame(tmp_path: Path) -> None:
    tracks = RleTracks(tmp_path, INFO)
    for count, (frame, result) in enumerate(results(3), start=1):
        tracks.write(frame, result)
        head, *lines = (tmp_path / "tracks.jsonl").read_text().splitlines()
        assert json.loads(head)["format"] == "samvideo-tracks-2"
        assert [json.loads(line)["index"] for line in lines] == list(range(count))
    tracks.close()
    document = json.loads((tmp_path / "tracks.json").read_text())
    assert document["format"] == "samvideo-tracks-1"
    assert document["frames"] == [json.loads(line) for line in lines]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        Outputs(tmp_path / "file" / "out", ["csv"], INFO)


def test_a_full_disk_keeps_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def write_two(path: Path, index: object) -> None:
        if len(written) == 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(b"whole")
        written.append(path.name)

    monkeypatch.setattr(writing, "write_index_png", write_two)
    with pytest.raises(OutputError, match="No space left on device; the frames before are complete"):
        with Outputs(tmp_path, ["masks", "rle"], INFO) as out:
            for frame, result in results(4):
                out.write(frame, result)
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["00000.png", "00001.png"]
    assert len(json.loads((tmp_path / "tracks.json").read_text())["frames"]) >= 2


def test_an_append_only_file_drops_a_failed_write(tmp_path: Path) -> None:
    class Failing:
        def __init__(self, file: object) -> None:
            self.file, self.budget = file, 1

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            self.budget -= 1
            if self.budget == 0:
                return self.file.write(data[:1])  # type: ignore[attr-defined, no-any-return]
            if self.budget == -1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)  # type: ignore[attr-defined, no-any-return]

    file = GrowingFile(tmp_path / "f.txt", "head\n")
    file.append("one\n")
    file._file = Failing(file._file)
    with pytest.raises(OSError, match="No space"):
        file.append("two\n")
    file.append("three\n")
    file.close()
    assert (tmp_path / "f.txt").read_text() == "head\none\nthree\n"


def test_a_file_that_is_appended_to_again_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    path.write_text("head\none\ntwo\nthr")
    for appended, found in (
        ("one\n", "head\none\ntwo\nthr"),
        ("2\n", "head\none\n2\n"),
        ("3\n", "head\none\n2\n3\n"),
    ):
        with GrowingFile(path, "head\n") as file:
            for text in ("one\n", "2\n", "3\n"):
                file.append(text)
                if text == appended:
                    assert path.read_text() == found
                    break
        if appended == "one\n":
            assert path.read_text().startswith("head\none\ntwo"), "a file never gets shorter before it differs"


@pytest.mark.parametrize("linked", [True, False])
def test_the_document_is_whole_after_a_torn_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    def put_half(file: GrowingFile, start: int, data: bytes) -> None:
        whole_put(file, start, data[: len(data) // 2])
        raise KeyboardInterrupt  # as far as a process comes that is killed

    def no_links(*paths: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not linked:
        monkeypatch.setattr(os, "link", no_links)
    path, whole_put, text = tmp_path / "t.json", GrowingFile._put, "1"
    for count in range(1, 6):
        with AlternatingFile(path, '{"frames": [', "\n]}\n") as file:
            for number in range(count):
                file.append(text if number == 0 else f",{text}")
            assert not linked or json.loads(path.read_text())["frames"] == [1] * count
            monkeypatch.setattr(GrowingFile, "_put", put_half)
            with pytest.raises(KeyboardInterrupt):
                file.append(f",{text}")
            monkeypatch.setattr(GrowingFile, "_put", whole_put)
            assert not linked or json.loads(path.read_text())["frames"] == [1] * count
    with AlternatingFile(path, '{"frames": [', "\n]}\n") as file:
        file.append(text)
        for _ in range(4):
            file.append(f",{text}")
    assert json.loads(path.read_text())["frames"] == [1] * 5
    assert [found.name for found in tmp_path.iterdir()] == ["t.json"]
