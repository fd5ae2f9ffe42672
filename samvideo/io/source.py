"""`open_video`, which chooses the reader of a source, and `clip`, which reads a part of it."""

import math
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from glob import glob, has_magic
from os import PathLike, fspath
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from samvideo.errors import ConfigError, VideoError
from samvideo.io.base import VideoSource as VideoSource
from samvideo.io.camera import CameraSource
from samvideo.io.container import is_address, url_of
from samvideo.io.images import SUFFIXES, ArraySource, ImageSource, animation_of, check_companions, find_images
from samvideo.io.random_access import DecordSource
from samvideo.io.stream import StreamSource
from samvideo.types import Frame

EARLY = 1e-6  # seconds; tolerance at limits, since times are rounded


@runtime_checkable
class Timed(Protocol):
    """A source that knows the times of its frames without decoding them."""

    def index_at(self, seconds: float) -> int:
        """Return the first frame shown at or after `seconds`."""
        ...


def open_video(source: Any, *, rate: Fraction | float | None = None, reader: str = "stream") -> VideoSource:
    """Open anything that has frames.

    Args:
        source: a video file; a folder of images (natural order, other files ignored); a glob of images; a camera
            index (0, or "0" where no file or folder has that name); an address (rtsp://, http://, ...); "-" for a
            video on stdin; uint8 RGB arrays (H, W, 3) in a sequence or iterator; or an open VideoSource.
        rate: frames per second of images and arrays [24]. A video has its own times.
        reader: "stream" (PyAV), or "decord" for exact random access to a file where decord is installed.

    Raises:
        VideoError: the source does not exist, is not a video, or has no frame.
        ConfigError: an unknown `reader`, or an option that does not apply to the source.
    """
    if reader not in ("stream", "decord"):
        raise ConfigError(f"reader must be 'stream' or 'decord', not {reader!r}")
    if rate is not None and not rate > 0:
        raise ConfigError(f"rate is frames per second, above 0, not {rate}")
    exact_rate = None if rate is None else Fraction(rate).limit_denominator(1001)
    opened = _open(source, exact_rate, reader)
    stills = opened.info.codec in ("images", "arrays")
    if (rate is not None and (not stills or opened is source)) or (reader == "decord" and stills):
        opened.close()
        raise ConfigError(
            f"{opened.info.name} ({opened.info.codec}): rate is for images and arrays, reader='decord' for video "
            "files; leave it out"
        )
    return opened


def _open(source: Any, rate: Fraction | None, reader: str) -> VideoSource:
    if isinstance(source, VideoSource):
        return source
    if isinstance(source, int):
        return CameraSource(source)
    if not isinstance(source, (str, PathLike)):
        if not isinstance(source, Iterable):
            raise VideoError(
                f"a {type(source).__name__} is no video source: a path, address, index or arrays expected"
            )
        return ArraySource(source, rate=rate)
    text = fspath(source)
    if isinstance(source, str):
        if text == "-":
            # An object with `read` only, so that FFmpeg does not try to seek.
            return StreamSource(SimpleNamespace(read=sys.stdin.buffer.read), "stdin")
        if re.fullmatch(r"\d{1,3}", text) and not Path(text).exists():
            return CameraSource(int(text))
        if is_address(text):
            return StreamSource(text, _name_of(text))
    try:
        return _open_path(Path(text).expanduser(), rate, reader)
    except (OSError, RuntimeError, ValueError) as error:
        raise VideoError(f"{text} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _name_of(address: str) -> str:
    try:
        return Path(urlsplit(address).path).stem or "stream"
    except ValueError as error:
        raise VideoError(f"{address} is no address: {error}") from error


def _open_path(path: Path, rate: Fraction | None, reader: str) -> VideoSource:
    if path.is_dir():
        images = find_images(path.iterdir())
        if not images:
            raise VideoError(
                f"folder {path} holds no images: files ending in {', '.join(sorted(SUFFIXES))} expected"
            )
        check_companions(images)
        return ImageSource(images, path.resolve().name, rate)
    if not path.exists():
        if not has_magic(str(path)):
            raise VideoError(f"{path} does not exist: check the spelling and the folder you are in")
        images = find_images(Path(found) for found in glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        if not images:
            raise VideoError(f"no image matches {path}: quote the pattern so that the shell does not expand it")
        check_companions(images)
        return ImageSource(images, images[0].parent.resolve().name, rate)
    kind = animation_of(path) if path.is_file() else None
    if kind != "PNG" and (kind or path.suffix.lower() in SUFFIXES):  # FFmpeg reads animated PNG only
        return ImageSource([path], path.stem, rate)
    if reader == "decord":
        return DecordSource(path)
    return StreamSource(url_of(path), path.stem)


def clip(
    source: VideoSource, start: float | None = None, end: float | None = None, stride: int = 1
) -> Iterator[Frame]:
    """Yield every `stride`-th frame from `start` to `end` (exclusive), with their indices in the source.

    Args:
        source: read from its current position if `start` is None.
        start, end: an int is a frame index, a float seconds from the start of the source.
        stride: 1 for every frame.

    Raises:
        VideoError: the source ends before `start`.
        ConfigError: a negative start, an end not after a start of the same kind, or a stride below 1.
    """
    _check_clip(start, end, stride)
    if start is not None:
        _approach(source, start)
    first = None
    for frame in source:
        if end is not None and (frame.index if isinstance(end, int) else frame.seconds + EARLY) >= end:
            break
        if first is None:
            if start is not None and (frame.index if isinstance(start, int) else frame.seconds + EARLY) < start:
                continue
            first = frame.index
        if (frame.index - first) % stride == 0:
            yield frame
    else:
        if first is None and start:
            raise VideoError(f"{source.info.name} ends before {_describe(start)}: an earlier start expected")


def _check_clip(start: float | None, end: float | None, stride: int) -> None:
    if stride < 1:
        raise ConfigError(f"stride must be at least 1, not {stride}")
    for name, value in (("start", start), ("end", end)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} must be a frame or a time from 0 on, not {value}")
    if start is not None and end is not None and isinstance(start, int) == isinstance(end, int) and end <= start:
        raise ConfigError(f"the end, {_describe(end)}, must come after the start, {_describe(start)}")


def _approach(source: VideoSource, start: float) -> None:
    """Seek if the source can; otherwise `clip` reads and skips the frames before `start`."""
    if not isinstance(start, int):
        if not isinstance(source, Timed):
            return
        start = source.index_at(start)
    count = source.info.frame_count
    if count is not None and start >= count:
        raise VideoError(f"{source.info.name} has {count} frames: a start before that expected, not frame {start}")
    with suppress(VideoError):
        source.seek(start)


def _describe(place: float) -> str:
    return f"frame {place}" if isinstance(place, int) else f"{place:g} s"
