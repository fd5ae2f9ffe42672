"""The files of one run: overlay video, masks, run-length masks, a table, and what was run.

Every file is complete and readable after each frame, so an interrupted or failed run loses nothing.
"""

import json
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from samvideo.errors import ConfigError, OutputError, SamVideoError
from samvideo.geometry import mask_box, mask_centroid
from samvideo.io.background import Background
from samvideo.io.masks import encode_rle, index_map, write_index_png
from samvideo.io.sink import VideoWriter
from samvideo.render import overlay
from samvideo.types import Frame, FrameResult, VideoInfo

CSV_COLUMNS = "frame,seconds,object,present,score,area,x1,y1,x2,y2,centroid_x,centroid_y"


class Output(Protocol):
    """One kind of file; `write` is called once a frame, `close` once."""

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Add one frame; OSError leaves what was written before complete."""

    def close(self) -> None:
        """Finalise."""


class OverlayVideo:
    """`overlay.mp4`: the frames with the masks drawn in, at the source's timing, with its sound."""

    def __init__(self, folder: Path, info: VideoInfo, audio_from: Path | None) -> None:
        self._path, self._info, self._audio = folder / "overlay.mp4", info, audio_from
        self._writer: VideoWriter | None = None

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Append one frame; the file is opened by the first, which knows the size."""
        if self._writer is None:
            self._writer = VideoWriter(
                self._path,
                frame.size_wh,
                self._info.rate,
                audio_from=self._audio,
                start_seconds=frame.seconds,
            )
        self._writer.write(overlay(frame.rgb, result), frame.seconds)

    def close(self) -> None:
        """Finalise the file."""
        if self._writer is not None:
            self._writer.close()


class MaskFolder:
    """`masks/00000.png`: one palette picture a frame, its pixels the object ids, as DAVIS stores them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "masks"
        self._folder.mkdir(exist_ok=True)

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Write one picture, named by the source's frame number."""
        path = self._folder / f"{frame.index:05d}.png"
        try:
            write_index_png(path, index_map(result.masks, result.object_ids))
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Nothing is left to do."""


class GrowingFile:
    """A text file that ends in `tail` after every `append`, and is cut back to its last good end on a failure."""

    def __init__(self, path: Path, head: str, tail: str = "") -> None:
        self._tail = tail.encode()
        self._end = 0
        self._file = path.open("wb")
        self.append(head)

    def append(self, text: str) -> None:
        """Add `text` before the tail; OSError leaves the file as it was."""
        try:
            self._put(text.encode())
        except OSError:
            self._put(b"")
            raise

    def _put(self, text: bytes) -> None:
        self._file.seek(self._end)
        self._file.truncate()
        self._file.write(text + self._tail)
        self._file.flush()
        self._end += len(text)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RleTracks:
    """`tracks.json`: a line a frame; per object COCO run lengths, box (x, y, w, h), area, score, presence."""

    def __init__(self, folder: Path, info: VideoInfo) -> None:
        width, height = info.size_wh
        video = {"name": info.name, "width": width, "height": height, "rate": str(info.rate)}
        head = f'{{"format": "samvideo-tracks-1", "video": {json.dumps(video)}, "frames": ['
        self._file = GrowingFile(folder / "tracks.json", head, "\n]}\n")
        self._comma = ""

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Append one frame."""
        objects = []
        for row, object_id in enumerate(result.object_ids):
            x1, y1, x2, y2 = mask_box(result.masks[row]) or (0, 0, 0, 0)
            objects.append(
                {
                    "id": object_id,
                    "present": bool(result.present[row]),
                    "score": round(float(result.scores[row]), 4),
                    "area": int(result.masks[row].sum()),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "segmentation": encode_rle(result.masks[row]),
                }
            )
        line = {"index": frame.index, "seconds": round(frame.seconds, 6), "objects": objects}
        self._file.append(f"{self._comma}\n{json.dumps(line)}")
        self._comma = ","

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CsvTable:
    """`tracks.csv`: a row per frame and object; box and centroid are empty where the mask is."""

    def __init__(self, folder: Path) -> None:
        self._file = GrowingFile(folder / "tracks.csv", CSV_COLUMNS + "\n")

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Append one frame's rows."""
        rows = []
        for object_id, mask, score, present in zip(
            result.object_ids, result.masks, result.scores, result.present, strict=True
        ):
            place = [*(mask_box(mask) or [""] * 4), *(mask_centroid(mask) or [""] * 2)]
            cells = [f"{value:.2f}".rstrip("0").rstrip(".") if value != "" else "" for value in place]
            start = [frame.index, f"{frame.seconds:.6f}", object_id, int(present), f"{score:.4f}", int(mask.sum())]
            rows.append(",".join(map(str, [*start, *cells])) + "\n")
        self._file.append("".join(rows))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


MAKERS: dict[str, tuple[str, Callable[[Path, VideoInfo, Path | None], Output]]] = {
    "overlay": ("overlay.mp4", OverlayVideo),
    "masks": ("masks", lambda folder, info, audio: MaskFolder(folder)),
    "rle": ("tracks.json", lambda folder, info, audio: RleTracks(folder, info)),
    "csv": ("tracks.csv", lambda folder, info, audio: CsvTable(folder)),
}


class Outputs:
    """All files of one run in one folder, each written on a thread of its own.

    Args:
        folder: made when it is not there.
        kinds: some of `overlay`, `masks`, `rle`, `csv`.
        info: of the source.
        audio_from: the file whose sound goes into the overlay.
        overwrite: replace the results of an earlier run; other files in the folder stay.

    Raises:
        ConfigError: unknown kind, or the folder holds files and `overwrite` is off.
        OutputError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        kinds: Iterable[str],
        info: VideoInfo,
        *,
        audio_from: Path | None = None,
        overwrite: bool = False,
    ) -> None:
        kinds = list(dict.fromkeys(kinds))
        if unknown := [kind for kind in kinds if kind not in MAKERS]:
            raise ConfigError(f"cannot save {unknown[0]!r}; expected some of {', '.join(MAKERS)}")
        self.folder = folder
        self.files = {kind: folder / MAKERS[kind][0] for kind in kinds}
        self.seconds = dict.fromkeys(kinds, 0.0)
        self.frames = 0
        self._stack = ExitStack()
        self._queues: list[Background[tuple[Frame, FrameResult]]] = []
        try:
            _prepare(folder, overwrite)
            for kind in kinds:
                self._start(kind, MAKERS[kind][1](folder, info, audio_from))
        except OSError as error:
            self._stack.close()
            raise OutputError(f"cannot write into {folder}: {error.strerror}; choose another folder") from error

    def _start(self, kind: str, output: Output) -> None:
        def write(item: tuple[Frame, FrameResult]) -> None:
            begin = time.perf_counter()
            try:
                output.write(*item)
            except OSError as error:
                raise _failed(self.files[kind], error) from error
            self.seconds[kind] += time.perf_counter() - begin

        def close() -> None:
            try:
                output.close()
            except OSError as error:
                raise _failed(self.files[kind], error) from error

        self._stack.callback(close)
        queue = Background(write)
        self._stack.callback(queue.close)
        self._queues.append(queue)

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Hand one frame to every writer; waits only for one that is 8 frames behind.

        Raises:
            OutputError: a writer failed; what it wrote before is readable.
        """
        for queue in self._queues:
            queue.put((frame, result))
        self.frames += 1

    def close(self) -> None:
        """Finish what is queued and finalise every file, also when one of them fails."""
        self._stack.close()

    def describe(self, **facts: Any) -> None:
        """Write `run.json`: the given facts."""
        path = self.folder / "run.json"
        try:
            path.write_text(json.dumps(facts, indent=2) + "\n")
        except OSError as error:
            raise _failed(path, error) from error

    def __enter__(self) -> "Outputs":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except SamVideoError:
            if error is None:  # an error under way is the cause, and is what the user should read
                raise


class Anonymous:
    """`Outputs` that do not tell where the frames come from: numbered from 0, their times counted from the first.

    The video is called NAME and has no sound, for voices tell who speaks; size and rate stay.
    """

    NAME = "video"

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._first: tuple[int, float] | None = None

    @classmethod
    def info(cls, info: VideoInfo) -> VideoInfo:
        """What the outputs may know of the source."""
        return VideoInfo(cls.NAME, info.size_wh, info.rate)

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Hand one frame on; see `Outputs.write`."""
        self._first = self._first or (frame.index, frame.seconds)
        index, seconds = frame.index - self._first[0], frame.seconds - self._first[1]
        self._outputs.write(
            replace(frame, index=index, seconds=seconds), replace(result, index=index, seconds=seconds)
        )

    def __enter__(self) -> "Anonymous":
        self._outputs.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outputs.__exit__(kind, error, trace)


def _failed(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}; the frames before are complete. "
        "Free some space or choose another folder with -o"
    )


def _prepare(folder: Path, overwrite: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not overwrite:
        raise ConfigError(
            f"the folder {folder} is not empty: choose another with -o, or replace its results with --overwrite"
        )
    for name in ("run.json", "overlay.mp4", "tracks.json", "tracks.csv"):
        (folder / name).unlink(missing_ok=True)
    for mask in (folder / "masks").glob("*.png"):
        mask.unlink()
