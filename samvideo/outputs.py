"""The result files of a run: overlay video, mask images, RLE tracks, a table, and the labels of a volume.

Every file is complete and readable after each frame, so an interrupted, failed or killed run loses nothing; but
`labels.nii.gz` is written when the run ends, and made again by one that is resumed.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

from samvideo.errors import ConfigError
from samvideo.geometry import mask_box, mask_centroid
from samvideo.io.background import Background
from samvideo.io.base import Closing
from samvideo.io.files import replacing, unfinished, writing
from samvideo.io.masks import MAX_ID, index_map, write_index_png
from samvideo.io.sink import VideoWriter
from samvideo.io.tracks import DOCUMENT_FORMAT, LINES_FORMAT, FrameRecord, header_of
from samvideo.io.volumes import LABELS, LabelVolume, is_volume
from samvideo.object_prompts import number_prompts
from samvideo.render import overlay
from samvideo.run_base import ResultFiles
from samvideo.run_folder import FILES, JOURNAL, MASKS, FrameRanges, check_folder
from samvideo.types import Frame, FrameResult, Prompt, VideoInfo

CSV_COLUMNS = "frame,seconds,object,present,score,area,x1,y1,x2,y2,centroid_x,centroid_y"


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
        self._folder = folder / MASKS
        self._folder.mkdir(exist_ok=True)
        self._journal = GrowingFile(folder / JOURNAL)
        self.frames = FrameRanges()

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Write one PNG, named by the frame's index in the source, which is noted in the journal before."""
        self._journal.append(f"{frame.index}\n")
        self.frames.add(frame.index)
        with replacing(self._folder / f"{frame.index:05d}.png") as part:
            write_index_png(part, index_map(result.masks, result.object_ids))

    def close(self) -> None:
        """Close the journal: every PNG is complete."""
        self._journal.close()


class GrowingFile(Closing):
    """A text file that is complete after every `append`, also when the disk is full.

    A file that exists is continued: what is appended is compared with what is there, and replaces the rest where
    they differ. A run that is resumed appends what it appended before, so its files never get shorter.

    Args:
        path: of the file.
        head: its start.
        tail: its end, moved by every `append`.
    """

    def __init__(self, path: Path, head: str = "", tail: str = "") -> None:
        self._file: Any = path.open("r+b" if path.exists() else "x+b", buffering=0)
        self._continued = path.stat().st_size > 0
        self._tail = tail.encode()
        self.append(head)

    def append(self, text: str) -> None:
        """Write `text` before the tail; OSError leaves the file as it was."""
        start, data = self._file.tell(), text.encode()
        if self._continued and data:
            if self._file.read(len(data)) == data:
                return
            self._continued = False
        try:
            self._put(start, data + self._tail)
        except OSError:
            self._put(start, self._tail)
            self._file.seek(start)
            raise
        self._file.seek(start + len(data))

    def _put(self, start: int, data: bytes) -> None:
        """Write `data` as the end of the file, in one call unless the disk is full: a kill does not tear it."""
        self._file.seek(start)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._file.truncate()

    def close(self) -> None:
        """Close the file; one that is continued, and was torn, gets its tail again."""
        if self._continued and self._tail:
            start = self._file.tell()
            if not self._file.read().endswith(self._tail):
                self._put(start, self._tail)
        self._file.close()


class AlternatingFile(Closing):
    """A text file with a head and a tail that is complete at every moment, also when the process is killed.

    Of two copies the hidden one is brought up to date, and then takes the place of the other. Where files cannot
    have two names there is one copy, which may be torn by a kill.

    Args:
        path, head, tail: see `GrowingFile`, which also says how a file that exists is continued.
    """

    def __init__(self, path: Path, head: str, tail: str) -> None:
        self._path, self._hidden, self._kept = path, unfinished(path), path.with_name(f".{path.name}.whole")
        self._remove_hidden()
        self._copies = [GrowingFile(path, head, tail)]
        self._missing = ""  # in the hidden copy
        if os.name == "posix":  # elsewhere open files are not replaced
            with suppress(OSError):
                os.link(path, self._kept)
                self._kept.unlink()
                shutil.copyfile(path, self._hidden)
                self._copies.append(GrowingFile(self._hidden, head, tail))

    def append(self, text: str) -> None:
        """Write `text` before the tail; OSError leaves the file as it was."""
        self._copies[-1].append(self._missing + text)
        if len(self._copies) > 1:
            os.link(self._path, self._kept)
            self._hidden.replace(self._path)
            self._kept.replace(self._hidden)
            self._copies.reverse()
            self._missing = text

    def close(self) -> None:
        """Close the file."""
        for copy in self._copies:
            copy.close()
        self._remove_hidden()

    def _remove_hidden(self) -> None:
        for path in (self._hidden, self._kept):
            path.unlink(missing_ok=True)


class RleTracks:
    """`tracks.jsonl`: per frame and object the COCO RLE, box (x, y, w, h), area, score, presence, label if any.

    A thumbnail of each frame tells `RunVideo` whether another video is given.

    `tracks.json` holds the same as one document.
    """

    def __init__(self, folder: Path, info: VideoInfo) -> None:
        self._lines = GrowingFile(folder / "tracks.jsonl", json_line(header_of(info, LINES_FORMAT)))
        head = json.dumps(header_of(info, DOCUMENT_FORMAT))[:-1] + ', "frames": ['
        self._document = AlternatingFile(folder / "tracks.json", head, "\n]}\n")
        self._comma = ""

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Append one frame to both."""
        line = json_line(FrameRecord.from_result(result, frame.rgb).to_json())
        self._lines.append(line)
        self._document.append(f"{self._comma}\n{line[:-1]}")
        self._comma = ","

    def close(self) -> None:
        """Close both."""
        self._lines.close()
        self._document.close()


def json_line(entry: dict[str, Any]) -> str:
    """Return a JSON object as a line."""
    return json.dumps(entry) + "\n"


class CsvTable(GrowingFile):
    """`tracks.csv`: one row per frame and object; box and centroid are empty if the mask is.

    With `labelled` the last column is the label, empty for objects without one.
    """

    def __init__(self, folder: Path, labelled: bool = False) -> None:
        super().__init__(folder / "tracks.csv", CSV_COLUMNS + ",label" * labelled + "\n")
        self._labelled = labelled

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Append the rows of one frame."""
        rows = io.StringIO()
        writer = csv.writer(rows, lineterminator="\n")
        for object_id, mask, score, present in result.rows():
            position = [*(mask_box(mask) or [""] * 4), *(mask_centroid(mask) or [""] * 2)]
            cells = [f"{value:.2f}".rstrip("0").rstrip(".") if value != "" else "" for value in position]
            start = [frame.index, f"{frame.seconds:.6f}", object_id, int(present), f"{score:.4f}", int(mask.sum())]
            label = [result.labels.get(object_id, "")] if self._labelled else []
            writer.writerow([*start, *cells, *label])
        self.append(rows.getvalue())


class Labels:
    """`labels.nii.gz`: the ids of objects at the voxels of the volume whose slices are tracked."""

    def __init__(self, folder: Path, volume: Path | str | None) -> None:
        self._labels = LabelVolume(folder / LABELS, Path(str(volume)).expanduser())

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Write one slice."""
        self._labels.write(frame.index, index_map(result.masks, result.object_ids))

    def close(self) -> None:
        """Write the file."""
        self._labels.close()


MAKERS: dict[str, Callable[[Path, VideoInfo, Path | str | None, bool], Output]] = {
    "overlay": lambda folder, info, source, _: OverlayVideo(folder, info, source if info.has_audio else None),
    "masks": lambda folder, info, source, _: MaskFolder(folder),
    "rle": lambda folder, info, source, _: RleTracks(folder, info),
    "csv": lambda folder, info, source, labelled: CsvTable(folder, labelled),
    "labels": lambda folder, info, source, _: Labels(folder, source),
}


def default_kinds(source: object) -> list[str]:
    """Return all kinds of results that a source has: labels are for volumes."""
    return [kind for kind in MAKERS if kind != "labels" or is_volume(source)]


def check_kinds(kinds: Collection[str], known: Collection[str] = MAKERS.keys()) -> None:
    """Raise ConfigError for a kind of result that is not known, or if there is none."""
    if not kinds:
        raise ConfigError(f"nothing to save; expected some of {', '.join(known)}")
    if unknown := [kind for kind in kinds if kind not in known]:
        raise ConfigError(f"cannot save {unknown[0]!r}; expected some of {', '.join(known)}")


def check_outputs(
    folder: Path,
    kinds: Collection[str],
    overwrite: bool,
    sources: Sequence[Path] = (),
    prompts: Sequence[Path] = (),
) -> None:
    """Raise ConfigError or OutputError if these results cannot be written to the folder; see `check_folder`."""
    check_kinds(kinds)
    if "labels" in kinds and not any(map(is_volume, sources)):
        raise ConfigError("labels are for NIfTI volumes (.nii, .nii.gz): leave them out of --save")
    check_folder(folder, overwrite, sources, prompts)


def check_ids(prompts: Iterable[Prompt], kinds: Collection[str]) -> None:
    """Raise ConfigError if the prompts make an object whose id one of the kinds cannot hold."""
    highest = max((prompt.object_id or 0 for prompt in number_prompts(prompts)), default=0)
    if "masks" in kinds and highest > MAX_ID:
        raise ConfigError(
            f"mask images hold object ids 1 to {MAX_ID}, not {highest}: give the objects lower ids, or save "
            f"{', '.join(kind for kind in kinds if kind != 'masks') or 'rle'} only (--save), which hold any id"
        )


class Outputs(ResultFiles):
    """The result files of a run in one folder, each written on its own thread.

    Args:
        folder: created if it does not exist. Files of the same names are replaced or continued: see
            `samvideo.run_folder.prepare_folder`.
        kinds: some of `MAKERS`.
        info: of the source.
        source: the file whose audio is copied into the overlay, and from whose voxels labels get their places.
        labelled: whether objects may have labels: the table has a column for them.

    Raises:
        ConfigError: unknown kind.
        OutputError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        kinds: Collection[str],
        info: VideoInfo,
        *,
        source: Path | str | None = None,
        labelled: bool = False,
    ) -> None:
        check_kinds(kinds)
        super().__init__(folder, {kind: folder / next(iter(FILES[kind]), MASKS) for kind in kinds}, "frames")
        self._queues: list[Background[tuple[Frame, FrameResult]]] = []
        self._masks: MaskFolder | None = None
        with writing(folder), ExitStack() as stack:
            folder.mkdir(parents=True, exist_ok=True)
            for kind in self.files:
                output = MAKERS[kind](folder, info, source, labelled)
                self._masks = output if isinstance(output, MaskFolder) else self._masks
                self._start(kind, output, stack)
            self._stack = stack.pop_all()

    @property
    def mask_frames(self) -> FrameRanges:
        """The frames whose masks were written."""
        return self._masks.frames if self._masks else FrameRanges()

    def _start(self, kind: str, output: Output, stack: ExitStack) -> None:
        def write(item: tuple[Frame, FrameResult]) -> None:
            with self._writing(kind):
                output.write(*item)

        def close() -> None:
            with self._writing(kind):
                output.close()

        stack.callback(close)
        self._queues.append(stack.enter_context(Background(write)))

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Pass one frame to every writer; OutputError if one has failed: what it wrote before is readable."""
        for queue in self._queues:
            queue.put((frame, result))
