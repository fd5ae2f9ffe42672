"""Exports of a run to other formats; each file offers some formats as `VARIANTS`."""

from collections.abc import Mapping
from pathlib import Path

from samvideo.errors import ConfigError, OutputError
from samvideo.exports.base import Format, Job
from samvideo.io.tracks import open_masks
from samvideo.registry import Registry

FORMATS = Registry("export format", "samvideo.exports", spec=Format)


def export_run(
    folder: Path,
    name: str,
    out: Path | None = None,
    *,
    video: str | None = None,
    labels: Mapping[int, str] | None = None,
    strip_source: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a run in another format.

    Args:
        folder: of the run, with its `tracks.json`.
        name: one of `FORMATS`.
        out: file or folder to write, by the format; in `folder` when left out.
        video: the source, for formats that need its pictures.
        labels: object id -> class; "object 1" where there is none.
        strip_source: leave the name of the source out.
        overwrite: replace what is at `out`.

    Returns:
        what was written.

    Raises:
        ConfigError: there is no such format, a video is needed, or `out` exists and `overwrite` is off.
        VideoError: the run or the video cannot be read, or do not belong together.
        OutputError: it cannot be written.
    """
    chosen = FORMATS.find(name)
    if chosen.needs_video and video is None:
        raise ConfigError(f"{name} is made of the source's pictures: give the video that was tracked with --video")
    tracks = open_masks(folder)
    base = folder if folder.is_dir() else folder.parent
    target = out or base / (f"{name}{chosen.suffix}")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists: choose another place with -o, or replace it with --overwrite")
    title = "video" if strip_source else Path(tracks.info.name).name or "video"
    job = Job(tracks, target, title, dict(labels or {}), video)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        chosen.write(job)
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}; free some space, or choose another place with -o"
        ) from error
    return target
