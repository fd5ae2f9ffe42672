"""Export formats of a run; each module of this folder offers some as `VARIANTS`."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from samvideo.errors import ConfigError, OutputError
from samvideo.exports.base import Format, Job
from samvideo.io.files import check_new
from samvideo.io.paired import RunVideo
from samvideo.io.tracks import open_masks
from samvideo.registry import Registry

FORMATS = Registry("export format", "samvideo.exports", spec=Format)


def export_run(
    folder: Path,
    name: str,
    out: Path | None = None,
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
        labels: class by object id; "object 1" by default.
        strip_source: omit the name of the source.
        overwrite: replace an existing `out`.

    Raises:
        ConfigError: there is no such format, a video or `first` is needed, or `out` exists and `overwrite` is off.
        VideoError: the run or the video cannot be read, or do not belong together.
        OutputError: it cannot be written.
    """
    chosen = FORMATS.find(name)
    if chosen.needs_video and video is None:
        raise ConfigError(f"{name} contains frames of the source: give the tracked video with --video")
    tracks = open_masks(folder)
    target = out or tracks.path.parent / f"{name}{chosen.suffix}"
    check_new(target, overwrite)
    title = "video" if strip_source else Path(tracks.info.name).name or "video"
    with nullcontext() if video is None else RunVideo(tracks, video, first, out=target) as source:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            chosen.write(Job(tracks, target, title, dict(labels or {}), source))
        except OSError as error:
            raise OutputError(
                f"cannot write {target}: {error.strerror or error}; free some space, or choose another path with -o"
            ) from error
    return target
