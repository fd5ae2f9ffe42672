"""Export formats of a run, one module per family; `export_run` finds them by listing this folder.

A module has `FORMATS`, a dict from name to `Format`. A new format needs one file here and a row in
`tests/test_exports.py`.
"""

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from samvideo.errors import ConfigError, OutputError
from samvideo.exports.base import Format, Job
from samvideo.io.tracks import open_masks


def formats() -> dict[str, Format]:
    """Return all formats by name."""
    found: dict[str, Format] = {}
    for module in pkgutil.iter_modules(__path__):
        found.update(getattr(import_module(f"{__name__}.{module.name}"), "FORMATS", {}))
    return dict(sorted(found.items()))


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
        folder: of the run, or its `tracks.jsonl` or `tracks.json`.
        name: one of `formats()`.
        out: file or folder to write, depending on the format; in `folder` by default.
        video: the source, for formats that contain frames.
        labels: class by object id; "object 1" by default.
        strip_source: omit the name of the source.
        overwrite: replace an existing `out`.

    Returns:
        the path that was written.

    Raises:
        ConfigError: no such format, a video is needed, or `out` exists and `overwrite` is off.
        VideoError: the run or the video cannot be read, or do not belong together.
        OutputError: it cannot be written.
    """
    known = formats()
    if name not in known:
        raise ConfigError(f"there is no format {name!r}; there are: {', '.join(known)}")
    chosen = known[name]
    if chosen.needs_video and video is None:
        raise ConfigError(f"{name} contains frames of the source: give the tracked video with --video")
    tracks = open_masks(folder)
    base = folder if folder.is_dir() else folder.parent
    target = out or base / (f"{name}{chosen.suffix}")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists: choose another path with -o, or replace it with --overwrite")
    title = "video" if strip_source else Path(tracks.info.name).name or "video"
    job = Job(tracks, target, title, dict(labels or {}), video)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        chosen.write(job)
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}; free some space, or choose another path with -o"
        ) from error
    return target
