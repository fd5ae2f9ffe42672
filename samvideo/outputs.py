"""The result files of a run: overlay video, mask images, RLE tracks and a table.

Every file is complete and readable after each frame, so an interrupted or failed run loses nothing.
"""

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from samvideo.errors import ConfigError, OutputError
from samvideo.geometry import mask_box, mask_centroid
from samvideo.io.background import Background
from samvideo.io.base import Closing
from samvideo.io.files import check_empty, replacing
from samvideo.io.masks import MAX_ID, index_map, write_index_png
from samvideo.io.sink import VideoWriter
from samvideo.io.tracks import LINES_FORMAT, FrameRecord, TracksFile, header_of, write_document
from samvideo.object_prompts import number_prompts
from samvideo.render import overlay
from samvideo.types import Frame, FrameResult, Prompt, VideoInfo

CSV_COLUMNS = "frame,seconds,object,present,score,area,x1,y1,x2,y2,centroid_x,centroid_y"
RESULT_FILES = ("run.json", "overlay.mp4", "tracks.jsonl", "tracks.json", "tracks.csv")


class Output(Protocol):
    """One kind of result; `write` is called once per frame, `close` once."""

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Add one frame; OSError leaves what was written before complete."""

    def close(self) -> None:
        """Finalise the file."""


class OverlayVideo:
    """`overlay.mp4`: the frames with their masks, at the times of the source, with its audio."""

    def __init__(self, folder: Path, info: VideoInfo, audio_from: Path | str | None) -> None:
        self._writer = VideoWriter(
            folder / "overlay.mp4", info.size_wh, info.rate, audio_from=audio_from, pixel_aspect=info.pixel_aspect
        )

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Append one frame."""
        self._writer.write(overlay(frame.rgb, result), frame.seconds)

    def close(self) -> None:
        """Finalise the file."""
        self._writer.close()


class MaskFolder:
    """`masks/00000.png`: one palette PNG per frame whose pixels are object ids, as in DAVIS."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "masks"
        self._folder.mkdir(exist_ok=True)

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Write one PNG, named by the frame's index in the source."""
        with replacing(self._folder / f"{frame.index:05d}.png") as part:
            write_index_png(part, index_map(result.masks, result.object_ids))

    def close(self) -> None:
        """Do nothing: every PNG is complete."""


class AppendOnlyFile(Closing):
    """A text file that is complete after every `append`, also when the disk is full."""

    def __init__(self, path: Path, head: str) -> None:
        self._file: Any = path.open("wb", buffering=0)
        self.append(head)

    def append(self, text: str) -> None:
        """Write `text` at the end; OSError leaves the file as it was."""
        start = self._file.tell()
        rest = memoryview(text.encode())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.seek(start)
            self._file.truncate()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RleTracks:
    """`tracks.jsonl`: per frame and object the COCO RLE, box (x, y, w, h), area, score and presence.

    `close` writes the same as one document, `tracks.json`.
    """

    def __init__(self, folder: Path, info: VideoInfo) -> None:
        self._path = folder / "tracks.jsonl"
        self._file = AppendOnlyFile(self._path, _line(header_of(info, LINES_FORMAT)))

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Append the line of one frame."""
        self._file.append(_line(FrameRecord.from_result(result).to_json()))

    def close(self) -> None:
        """Write the document."""
        self._file.close()
        write_document(TracksFile(self._path), self._path.with_suffix(".json"))


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"


class CsvTable(AppendOnlyFile):
    """`tracks.csv`: one row per frame and object; box and centroid are empty if the mask is."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "tracks.csv", CSV_COLUMNS + "\n")

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Append the rows of one frame."""
        rows = []
        for object_id, mask, score, present in result.rows():
            position = [*(mask_box(mask) or [""] * 4), *(mask_centroid(mask) or [""] * 2)]
            cells = [f"{value:.2f}".rstrip("0").rstrip(".") if value != "" else "" for value in position]
            start = [frame.index, f"{frame.seconds:.6f}", object_id, int(present), f"{score:.4f}", int(mask.sum())]
            rows.append(",".join(map(str, [*start, *cells])) + "\n")
        self.append("".join(rows))


MAKERS: dict[str, tuple[str, Callable[[Path, VideoInfo, Path | str | None], Output]]] = {
    "overlay": ("overlay.mp4", OverlayVideo),
    "masks": ("masks", lambda folder, info, audio: MaskFolder(folder)),
    "rle": ("tracks.json", lambda folder, info, audio: RleTracks(folder, info)),
    "csv": ("tracks.csv", lambda folder, info, audio: CsvTable(folder)),
}


def check_outputs(folder: Path, kinds: Collection[str], overwrite: bool) -> None:
    """Raise ConfigError for an unknown kind, or if the folder holds files and `overwrite` is off."""
    if unknown := [kind for kind in kinds if kind not in MAKERS]:
        raise ConfigError(f"cannot save {unknown[0]!r}; expected some of {', '.join(MAKERS)}")
    check_empty(folder, overwrite)


def check_ids(prompts: Iterable[Prompt], kinds: Collection[str]) -> None:
    """Raise ConfigError if the prompts make an object whose id one of the kinds cannot hold."""
    highest = max((prompt.object_id or 0 for prompt in number_prompts(prompts)), default=0)
    if "masks" in kinds and highest > MAX_ID:
        raise ConfigError(
            f"mask images hold object ids 1 to {MAX_ID}, not {highest}: give the objects lower ids, or save "
            f"{', '.join(kind for kind in kinds if kind != 'masks') or 'rle'} only (--save), which hold any id"
        )


class Outputs(Closing):
    """The result files of a run in one folder, each written on its own thread.

    Args:
        folder: created if it does not exist.
        kinds: some of `MAKERS`.
        info: of the source.
        audio_from: the file whose audio is copied into the overlay.
        overwrite: replace the results of an earlier run; other files in the folder stay.

    Attributes:
        files, seconds: path of the result and time spent writing, by kind.

    Raises:
        ConfigError: unknown kind, or the folder holds files and `overwrite` is off.
        OutputError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        kinds: Collection[str],
        info: VideoInfo,
        *,
        audio_from: Path | str | None = None,
        overwrite: bool = False,
    ) -> None:
        kinds = dict.fromkeys(kinds)
        self.folder = folder
        self.seconds = dict.fromkeys(kinds, 0.0)
        self._queues: list[Background[tuple[Frame, FrameResult]]] = []
        try:
            check_outputs(folder, kinds, overwrite)
            self.files = {kind: folder / MAKERS[kind][0] for kind in kinds}
            _remove_earlier_results(folder)
            with ExitStack() as stack:
                for kind in kinds:
                    self._start(kind, MAKERS[kind][1](folder, info, audio_from), stack)
                self._stack = stack.pop_all()
        except OSError as error:
            raise OutputError(f"cannot write into {folder}: {error.strerror}; choose another folder") from error

    def _start(self, kind: str, output: Output, stack: ExitStack) -> None:
        def write(item: tuple[Frame, FrameResult]) -> None:
            begin = time.perf_counter()
            with self._failures(kind):
                output.write(*item)
            self.seconds[kind] += time.perf_counter() - begin

        def close() -> None:
            with self._failures(kind):
                output.close()

        stack.callback(close)
        self._queues.append(stack.enter_context(Background(write)))

    @contextmanager
    def _failures(self, kind: str) -> Iterator[None]:
        """Raise OutputError for an OSError."""
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"cannot write {self.files[kind]}: {error.strerror or error}; the frames before are complete. "
                "Free some space or choose another folder with -o"
            ) from error

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Pass one frame to every writer; OutputError if one has failed: what it wrote before is readable."""
        for queue in self._queues:
            queue.put((frame, result))

    def close(self) -> None:
        """Write everything that is queued and finalise every file, also if one of them fails."""
        self._stack.close()


def _remove_earlier_results(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in RESULT_FILES:
        (folder / name).unlink(missing_ok=True)
    for mask in (folder / "masks").glob("*.png"):
        mask.unlink()
