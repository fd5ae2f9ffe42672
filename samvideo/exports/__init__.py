"""Export formats of a run; each module of this folder offers some as `VARIANTS`."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from samvideo.errors import ConfigError, VideoError
from samvideo.exports.base import Format, Job
from samvideo.io.files import making, writing
from samvideo.io.locks import folder_lock
from samvideo.io.paired import RunVideo
from samvideo.io.tracks import open_masks
from samvideo.registry import Registry
from samvideo.targets import check_target, complete
from samvideo.types import check_label

FORMATS = Registry("export format", "samvideo.exports", spec=Format)


def export_run(
    folder: str | os.PathLike[str],
    name: str,
    out: str | os.PathLike[str] | None = None,
    *,
    video: str | None = None,
    first: int | None = None,
    labels: Mapping[int, str] | None = None,
    strip_source: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a run in another format and return the path that was written.

    Args:
        folder: of the run, or its `tracks.jsonl` or `tracks.json`.
        name: one of `FORMATS`.
        out: file or folder to write, depending on the format; in `folder` by default.
        video: the source, for formats that contain frames.
        first: index in `video` of the first frame of the run, if the run does not know it; see `RunVideo`.
        labels: class by object id; by default the label that the run has, or else "object 1".
        strip_source: omit the name of the source.
        overwrite: replace an existing `out`; of a folder, the files of an earlier export.

    Raises:
        ConfigError: there is no such format or labelled object, a video or `first` is needed, `out` exists and
            `overwrite` is off, or it is not a file of an earlier export, such as the source or a file of the run.
        VideoError: the run or the video cannot be read, or do not belong together.
        OutputError: it cannot be written.
    """
    chosen = FORMATS.find(name)
    if chosen.needs_video and video is None:
        raise ConfigError(f"{name} contains frames of the source: give the tracked video with --video")
    tracks = open_masks(folder)
    target = Path(out) if out else tracks.path.parent / f"{name}{chosen.suffix}"
    kind = None if chosen.suffix else "export"
    check_target(target, tracks.path, overwrite, video=video, folder=kind, restores=chosen.restores)
    if next(iter(tracks), None) is None:
        raise VideoError(f"{tracks.path} holds no frame: there is nothing to export")
    tracks.check_masks()
    classes = tracks.labels() | _checked_labels(labels or {}, tracks.object_ids())
    title = "video" if strip_source else _title(tracks.info.name)
    own = chosen.restores and target.resolve().parent == tracks.path.resolve().parent
    with (
        folder_lock(target.parent) if own else nullcontext(),  # a run that goes on writes it
        nullcontext() if video is None else RunVideo(tracks, video, first) as source,
    ):
        _write(chosen, Job(tracks, target, title, classes, source))
    return target


def _checked_labels(labels: Mapping[int, str], object_ids: Sequence[int]) -> dict[int, str]:
    if unknown := sorted(labels.keys() - object_ids):
        raise ConfigError(f"a label is for object {unknown[0]}, but the run has only {list(object_ids)}")
    return {number: check_label(label, ConfigError) for number, label in labels.items()}


def _write(chosen: Format, job: Job) -> None:
    if chosen.suffix == ".mp4":  # one that broke off plays as far as it was written, and is kept
        with writing(job.out), making(job.out.parent):
            chosen.write(job)
    else:
        with writing(job.out), complete(job.out) as part:
            chosen.write(replace(job, out=part))


def _title(name: str) -> str:
    """Return the file name of a source, of whatever system, as text that names a file in every format."""
    last = "".join(letter if letter.isprintable() else "_" for letter in PureWindowsPath(name).name)
    return last if last.strip(". ") else "video"
