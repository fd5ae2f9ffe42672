"""`samvideo segment`: segments the prompted objects of images, one image at a time."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from samvideo.errors import PromptError, SamVideoError, VideoError
from samvideo.interrupt import Interrupt
from samvideo.io.container import MOVIES, is_address
from samvideo.io.images import read_still, size_stated, warn_of_depth
from samvideo.io.locks import folder_lock
from samvideo.io.prefetch import prefetch
from samvideo.io.source import find_stills
from samvideo.object_prompts import ObjectPrompt, group_prompts
from samvideo.outputs import check_ids, check_kinds
from samvideo.prompt_syntax import ImagePrompts, prompt_files
from samvideo.prompters.base import AutoPrompter
from samvideo.run_base import OpenRun, Progress, StageTimer, Status, end_run, recorded, summary_entry, write_record
from samvideo.run_folder import RECORD
from samvideo.search_settings import SearchSettings
from samvideo.segment_folder import (
    JOURNAL,
    KINDS,
    by_kind,
    check_segment_folder,
    check_stems,
    discard_segment_folder,
    prepare_segment_folder,
)
from samvideo.segment_outputs import SegmentedImage, SegmentOutputs
from samvideo.segmenters.base import Segmentation, Segmenter
from samvideo.trackers.stills import segment_objects
from samvideo.types import Frame, FrameResult, Prompt, UInt8Array

log = logging.getLogger(__name__)

Answer: TypeAlias = Callable[[Path, UInt8Array], SegmentedImage]
"""Segments an image of a path."""
AHEAD = 2  # images read in advance: each may have hundreds of megabytes


@dataclass(frozen=True)
class SegmentSettings:
    """The arguments of one `samvideo segment`.

    With a `search` there are no prompts.
    """

    sources: tuple[str, ...]
    model: str
    options: Mapping[str, str | None]
    out: Path | None
    save: tuple[str, ...]
    prompts: ImagePrompts
    prompt_texts: tuple[str, ...] = ()
    multimask: bool = False
    overwrite: bool = False
    search: SearchSettings | None = None
    labelled: bool = False  # objects may get labels that `prompts` do not give


@dataclass(frozen=True)
class Images:
    """What `samvideo segment` works on.

    Attributes:
        paths: the images, each once, in order.
        name: a short name of all.
    """

    paths: tuple[Path, ...]
    name: str

    def folder(self, settings: SegmentSettings) -> Path:
        """Return the folder of the results."""
        return settings.out or Path(f"{self.name}_segmented")


@dataclass(frozen=True)
class SegmentSummary:
    """The outcome of `samvideo segment`."""

    status: Status
    source: str
    model: str
    images: int  # images whose results were written
    skipped: int  # images that cannot be read
    objects: int  # masks
    empty: int  # objects that were not found
    seconds: Mapping[str, Any]  # total, read, segment, write by kind
    out: Path
    files: Mapping[str, Path]  # by kind
    error: str | None = None

    @property
    def amount(self) -> str:
        """What was done, in words."""
        return f"{self.images} images, {self.objects} objects"

    def to_json(self) -> dict[str, Any]:
        """See `summary_entry`."""
        return summary_entry(self)


def find_images(sources: Sequence[str]) -> Images:
    """Find the images of files, folders and globs.

    Raises:
        VideoError: a source does not exist, or holds no image.
    """
    found: dict[Path, Path] = {}
    name = ""
    for source in sources:
        _check_source(source)
        try:
            paths, own = find_stills(Path(source).expanduser())
        except (OSError, RuntimeError, ValueError) as error:
            raise VideoError(f"{source} cannot be read: {getattr(error, 'strerror', None) or error}") from error
        name = own if len(sources) == 1 else paths[0].parent.resolve().name
        for path in paths:
            found.setdefault(path.resolve(), path)
    return Images(tuple(found.values()), name or "images")


def _check_source(source: str) -> None:
    """Raise VideoError for what is not a path of images."""
    if not source.strip():  # an unset variable of a shell; Path("") is the current folder
        raise VideoError(f"an image is {source!r}: the path of an image or folder expected")
    if is_address(source) or source == "-":
        raise VideoError(f"{source}: images are read from files only; save it as one, and give its path")
    if Path(source).suffix.lower() in MOVIES:
        raise VideoError(f"{source} is a video: `samvideo track` takes it; `segment` takes images")


class SegmentRun(OpenRun[SegmentSummary]):
    """The results of one `samvideo segment`: `open`, then `add` every image, then `finish`.

    On the page, where the images are frames, `write` adds them.
    """

    outputs: SegmentOutputs

    def __init__(self, settings: SegmentSettings, images: Images, timer: StageTimer) -> None:
        super().__init__(images.folder(settings), timer)
        self._settings, self._source = settings, images
        self._images = self._objects = self._empty = 0
        self._write_record({"status": "running", "source": images.name, "model": settings.model}, [])
        labelled, layered = settings.labelled or settings.prompts.labelled, settings.search is not None
        self.outputs = SegmentOutputs(self.folder, settings.save, settings.multimask, labelled, layered)

    @classmethod
    def open(cls, settings: SegmentSettings, images: Images, timer: StageTimer) -> "SegmentRun":
        """Open the result files. Raises as `check_results`; nothing has changed then."""
        check_results(settings, images)
        prepare_segment_folder(images.folder(settings))
        try:
            return cls(settings, images, timer)
        except SamVideoError:
            discard_segment_folder(images.folder(settings))
            raise

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Add the image that is a frame of the page, if it has objects."""
        found = [
            Segmentation(object_id, mask[None], result.scores[row : row + 1])
            for row, (object_id, mask, _, _) in enumerate(result.rows())
        ]
        if found:
            name = self._source.paths[frame.index].name
            self.add(SegmentedImage(name, frame.rgb, found, result.labels))

    def add(self, image: SegmentedImage) -> None:
        """Add one image; see `SegmentOutputs.write`."""
        self.outputs.write(image)
        self._images += 1
        self._objects += len(image.found)
        self._empty += sum(not one.best.any() for one in image.found)

    def _record_end(self, summary: SegmentSummary) -> None:
        self._write_record(summary.to_json(), self.outputs.names)
        (self.folder / JOURNAL).unlink(missing_ok=True)

    def _write_record(self, entry: dict[str, Any], names: Iterable[str]) -> None:
        settings = self._settings
        entry |= {"command": "segment", "files": by_kind(names)}
        entry["settings"] = {"save": settings.save, "multimask": settings.multimask}
        if settings.search is not None:
            entry["settings"]["search"] = settings.search.record()
        entry["settings"] |= recorded(settings.prompt_texts, settings.options)
        write_record(self.folder / RECORD, entry)

    def _summary(self, status: Status, failure: SamVideoError | None, skipped: int) -> SegmentSummary:
        spent = self.timer.seconds
        seconds: dict[str, Any] = {name: round(spent[name], 3) for name in ("total", "read", "segment")}
        seconds["write"] = {kind: round(value, 3) for kind, value in self.outputs.seconds.items()}
        return SegmentSummary(
            status=status,
            source=self._source.name,
            model=self._settings.model,
            images=self._images,
            skipped=skipped,
            objects=self._objects,
            empty=self._empty,
            seconds=seconds,
            out=self.folder,
            files=self.files,
            error=None if failure is None else str(failure),
        )


def check_results(settings: SegmentSettings, images: Images) -> None:
    """Raise ConfigError or OutputError if the results cannot be written; nothing is changed."""
    check_kinds(settings.save, KINDS)
    check_stems(images.paths, settings.multimask)
    prompts = prompt_files(settings.prompt_texts)
    check_segment_folder(images.folder(settings), settings.save, settings.overwrite, images.paths, prompts)


def run_segmentation(
    settings: SegmentSettings,
    make_segmenter: Callable[[], Segmenter],
    progress: Callable[[str, int | None], Progress],
    make_prompter: Callable[[Segmenter], AutoPrompter] | None = None,
) -> tuple[SegmentSummary | None, SamVideoError | None]:
    """Segment all images until the end, an error or a signal; the result files are finalised in every case.

    An image that cannot be read is logged, counted and left out.

    `make_segmenter` is called once sources and prompts have been checked, since it may take long; `progress` gets a
    name and the number of images. `make_prompter` is needed for settings with a search.

    Returns the summary, or None if a signal came before the first result, and the error that ended the work early,
    if one did. A SamVideoError is raised only before the first result, when nothing was written.
    """
    images = find_images(settings.sources)
    prompted: dict[Path, tuple[Prompt, ...]] = {}
    search = settings.search
    if search is None:
        prompted = prompts_by_image(settings.prompts, images.paths)
        for prompts in prompted.values():
            check_ids(prompts, settings.save)
    check_results(settings, images)
    _check_sizes(prompted)
    paths = tuple(prompted) if search is None else images.paths
    with folder_lock(images.folder(settings)):
        segmenter = make_segmenter()
        if search is None:
            answer = _to_prompts(segmenter, prompted, settings.multimask)
        else:
            assert make_prompter is not None
            answer = _everything(make_prompter(segmenter), search.most)
        work = _Segmenting(settings, images, answer)
        with progress(images.name, len(paths)) as bar, Interrupt() as interrupt:
            work.segment(paths, bar, interrupt)
            return work.finish(interrupt.requested)


def _to_prompts(segmenter: Segmenter, prompted: Mapping[Path, Sequence[Prompt]], multimask: bool) -> Answer:
    """Segment the prompted objects of an image."""

    def answer(path: Path, rgb: UInt8Array) -> SegmentedImage:
        grouped = _grouped(path, prompted[path], (rgb.shape[1], rgb.shape[0]))
        found = segment_objects(segmenter.embed(rgb), grouped, multimask=True if multimask else None)
        labels = {prompt.object_id: prompt.label for prompt in grouped if prompt.label is not None}
        return SegmentedImage(path.name, rgb, found, labels)

    return answer


def _everything(prompter: AutoPrompter, most: int) -> Answer:
    """Find the objects of an image; they are numbered in the order of the prompter."""

    def answer(path: Path, rgb: UInt8Array) -> SegmentedImage:
        proposals = dict(enumerate(prompter.propose(rgb)[:most], 1))
        found = [
            Segmentation(number, one.mask[None], np.array([one.quality], np.float32))
            for number, one in proposals.items()
        ]
        labels = {number: one.label for number, one in proposals.items() if one.label is not None}
        return SegmentedImage(path.name, rgb, found, labels)

    return answer


def prompts_by_image(prompts: ImagePrompts, paths: Sequence[Path]) -> dict[Path, tuple[Prompt, ...]]:
    """Return the prompts of every image that has some; images without, and names without image, are logged.

    Raises:
        PromptError: no image has any.
    """
    prompted = {path: own for path in paths if (own := prompts.of(path.name))}
    unknown = sorted(prompts.named.keys() - {path.name for path in paths})
    if unknown:
        log.warning("no image is named %s: its prompts are not used", _listing(unknown))
    if not prompted:
        raise PromptError(f"no image has a prompt: give --prompt, or a JSON file that names {paths[0].name}")
    if bare := [path.name for path in paths if path not in prompted]:
        log.warning("%s: no prompt, left out", _listing(bare))
    return prompted


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check_sizes(prompted: Mapping[Path, Sequence[Prompt]]) -> None:
    """Raise PromptError for prompts that do not fit their image, as far as its header tells, or each other."""
    for path, prompts in prompted.items():
        if (size_wh := size_stated(path)) is not None:
            _grouped(path, prompts, size_wh)


def _grouped(path: Path, prompts: Sequence[Prompt], size_wh: tuple[int, int]) -> list[ObjectPrompt]:
    try:
        return group_prompts(prompts, (), size_wh)
    except PromptError as error:
        raise PromptError(f"{path}: {error}") from error


class _Segmenting:
    """Opens the result files with the first result, so that a refused command leaves nothing behind."""

    def __init__(self, settings: SegmentSettings, images: Images, answer: Answer) -> None:
        self._settings, self._images, self._answer = settings, images, answer
        self._timer, self._skipped = StageTimer(), 0
        self._run: SegmentRun | None = None
        self._failure: SamVideoError | None = None
        self._unread: VideoError | None = None

    def segment(self, paths: Sequence[Path], bar: Progress, interrupt: Interrupt) -> None:
        """Segment and write until the end, an error or a signal."""
        try:
            with self._timer.measure("total"), closing(prefetch(self._read(paths), AHEAD)) as pictures:
                for path, rgb in interrupt.awaited(pictures):
                    bar.advance(self._segment(path, rgb))
                    if interrupt.requested:
                        break
        except SamVideoError as error:
            self._failure = error
        except KeyboardInterrupt:
            interrupt.requested = True

    def _read(self, paths: Iterable[Path]) -> Iterator[tuple[Path, UInt8Array]]:
        for path in paths:
            try:
                with self._timer.measure("read"):
                    rgb = read_still(path)
            except VideoError as error:
                log.warning("%s; left out", error)
                self._skipped += 1
                self._unread = error
                continue
            yield path, rgb

    def _segment(self, path: Path, rgb: UInt8Array) -> FrameResult:
        with self._timer.measure("segment"):
            image = self._answer(path, rgb)
        if self._run is None:
            warn_of_depth(path, path.name)
            self._run = SegmentRun.open(self._settings, self._images, self._timer)
        self._run.add(image)
        return image.result()

    def finish(self, interrupted: bool) -> tuple[SegmentSummary | None, SamVideoError | None]:
        """Record how the work ended; see `run_segmentation`."""
        if self._run is None and self._failure is None and self._unread is not None and not interrupted:
            self._failure = VideoError(f"no image can be read: {self._unread}")
        return end_run(self._run, self._failure, interrupted, self._skipped)
