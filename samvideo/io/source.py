"""`open_video`, which chooses the reader of a source, and `clip`, which reads a part of it."""

import math
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from glob import glob, has_magic
from itertools import chain
from os import PathLike, fspath
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from samvideo.errors import ConfigError, VideoError
from samvideo.io.base import VideoSource as VideoSource
from samvideo.io.camera import CameraSource
from samvideo.io.container import is_address, url_of
from samvideo.io.images import SUFFIXES, ArraySource, ImageSource, animation_of, check_companions, find_images
from samvideo.io.random_access import DecordSource
from samvideo.io.stream import StreamSource
from samvideo.io.timeline import TIME_TOLERANCE
from samvideo.io.volumes import VolumeSource, is_volume
from samvideo.types import Frame


def open_video(
    source: Any,
    *,
    rate: Fraction | float | None = None,
    reader: str = "stream",
    window: tuple[float, float] | None = None,
) -> VideoSource:
    """Open anything that has frames.

    Args:
        source: a video file; a folder of images (natural order, other files ignored); a glob of images; a camera
            index (0, or "0" where no file or folder has that name); an address (rtsp://, http://, ...); "-" for a
            video on stdin; a NIfTI volume, whose slices become frames (extra `samvideo[medical]`); uint8 RGB
            arrays (H, W, 3) in a sequence or iterator; or an open VideoSource.
        rate: frames per second of images, volumes and arrays [24]. A video has its own times.
        reader: "stream" (PyAV), or "decord" for a file (extra `samvideo[decord]`); both seek exactly.
        window: the intensities of a volume that become black and white [the 0.5 and 99.5 percentiles].

    Raises:
        VideoError: the source does not exist, is not a video, or has no frame.
        ConfigError: an unknown `reader`, or an option that does not apply to the source.
    """
    if reader not in ("stream", "decord"):
        raise ConfigError(f"reader must be 'stream' or 'decord', not {reader!r}")
    if rate is not None and not rate > 0:
        raise ConfigError(f"rate is frames per second, above 0, not {rate}")
    exact_rate = None if rate is None else Fraction(rate).limit_denominator(1001)
    if window is not None and not (math.isfinite(window[0]) and math.isfinite(window[1]) and window[0] < window[1]):
        raise ConfigError(f"window is a low and a higher intensity, not {window}")
    opened = _open(source, exact_rate, reader, window)
    stills = opened.info.codec in ("images", "arrays", "nifti")
    if (rate is not None and (not stills or opened is source)) or (reader == "decord" and stills):
        opened.close()
        raise ConfigError(
            f"{opened.info.name} ({opened.info.codec}): rate is for images and arrays, reader='decord' for video "
            "files; leave it out"
        )
    if window is not None and (opened.info.codec != "nifti" or opened is source):
        opened.close()
        raise ConfigError(f"{opened.info.name} ({opened.info.codec}): a window is for volumes; leave it out")
    return opened


def _open(source: Any, rate: Fraction | None, reader: str, window: tuple[float, float] | None) -> VideoSource:
    if isinstance(source, VideoSource):
        return source
    if isinstance(source, int):
        return CameraSource(source)
    if not isinstance(source, (str, PathLike)):
        if not isinstance(source, Iterable):
            raise VideoError(
                f"a {type(source).__name__} is not a video source: a path, address, index or arrays expected"
            )
        return ArraySource(source, rate=rate)
    text = fspath(source)
    if isinstance(source, str):
        if not text.strip():  # an unset variable of a shell; Path("") is the current folder
            raise VideoError(f"the source is {text!r}: a path, address or camera index expected")
        if text == "-":
            if sys.stdin is None:
                raise VideoError("stdin is closed: pipe a video into it, or give the path of a file")
            # An object with `read` only, so that FFmpeg does not try to seek.
            return StreamSource(SimpleNamespace(read=sys.stdin.buffer.read), "stdin")
        if re.fullmatch(r"\d{1,3}", text) and not Path(text).exists():
            return CameraSource(int(text))
        if is_address(text):
            return StreamSource(text, _name_of(text))
    try:
        return _open_path(Path(text).expanduser(), rate, reader, window)
    except (OSError, RuntimeError, ValueError) as error:
        raise VideoError(f"{text} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _name_of(address: str) -> str:
    try:
        return Path(urlsplit(address).path).stem or "stream"
    except ValueError as error:
        raise VideoError(f"{address} is not an address: {error}") from error


def _no_images(folder: Path) -> VideoError:
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    remedy = f"it holds folders: give one, such as {inner[0]}; " if inner else ""
    return VideoError(
        f"folder {folder} holds no images: {remedy}files ending in {', '.join(sorted(SUFFIXES))} expected"
    )


def find_stills(path: Path) -> tuple[list[Path], str]:
    """Return the images of a folder or glob, or the file itself, and a name for them.

    Raises:
        VideoError: there are none, or masks are among them.
    """
    if path.exists() and not path.is_dir():
        return [path], path.stem
    if path.is_dir():
        images, name = find_images(path.iterdir()), path.resolve().name
        if not images:
            raise _no_images(path)
    else:
        if not has_magic(str(path)):
            raise VideoError(f"{path} does not exist: check the spelling and the folder you are in")
        images = find_images(Path(found) for found in glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        if not images:
            raise VideoError(f"no image matches {path}: quote the pattern so that the shell does not expand it")
        name = images[0].parent.resolve().name
    check_companions(images)
    return images, name


def _open_path(path: Path, rate: Fraction | None, reader: str, window: tuple[float, float] | None) -> VideoSource:
    if path.is_dir() or not path.exists():
        return ImageSource(*find_stills(path), rate)
    if is_volume(path) and path.is_file():
        return VolumeSource(path, rate, window)
    kind = animation_of(path) if path.is_file() else None
    # FFmpeg reads animated PNG, GIF and AVIF, but neither WebP nor pages of TIFF.
    if kind in ("WEBP", "TIFF") or (kind is None and path.suffix.lower() in SUFFIXES):
        return ImageSource([path], path.stem, rate)
    if reader == "decord":
        return DecordSource(path)
    source = StreamSource(url_of(path), path.stem)
    source.files = (path,)
    return source


def clip(
    source: VideoSource, start: float | None = None, end: float | None = None, stride: int = 1
) -> Iterator[Frame]:
    """Yield every `stride`-th frame of a range, with their indices in the source.

    Args:
        source: read from its current position if `start` is None.
        start: the first frame: an int is its index, a float a time at which it is shown, in seconds from the start
            of the source.
        end: where to stop: before the frame with that index, or before the first frame that begins at that time or
            later. The frame shown at a `start` before `end` is always there.
        stride: 1 for every frame.

    Raises:
        VideoError: the source ends before `start`.
        ConfigError: a negative start, a range without frames, or a stride below 1.
    """
    if stride < 1:
        raise ConfigError(f"stride must be at least 1, not {stride}")
    first, stop = frame_range(source, start, end)
    frames = iter(source)
    if first is not None:
        with suppress(VideoError):  # a source that cannot seek is read from where it is
            source.seek(first)
    elif start is not None:
        frames = _shown_from(frames, start, float(1 / source.info.rate))
    begin = None
    for frame in frames:
        if first is not None and frame.index < first:
            continue
        if _ends_before(frame, end if stop is None else stop):
            if begin is not None:
                break
            if not _are_times(start, end):
                raise _no_frames(start, end)
        if begin is None:
            begin = frame.index
        if (frame.index - begin) % stride == 0:
            yield frame
    if begin is None and start:
        length = source.info.duration
        known = "" if length is None else f", after {length:.2f} s"
        raise VideoError(f"{source.info.name} ends before {_describe(start)}{known}: an earlier start expected")


def frame_range(source: VideoSource, start: float | None, end: float | None) -> tuple[int | None, int | None]:
    """Return the first frame that `clip` reads and the one that it stops before.

    Each is None if it is not limited, or is a time whose frame is only known after decoding. Raises as `clip`.
    """
    for name, value in (("start", start), ("end", end)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} must be a frame or a time from 0 on, not {value}")
    alike = not start or isinstance(start, float) == isinstance(end, float)
    if end is not None and alike and end <= (start or 0):
        raise _no_frames(start, end)
    first = source.index_at(start) if isinstance(start, float) else start
    stop = _first_from(source, end) if isinstance(end, float) else end
    if start and first is not None:
        count = source.length()
        if count is not None and first >= count:
            raise VideoError(
                f"{source.info.name} has {count} frames, {float(count / source.info.rate):.2f} s: a start before "
                f"that expected, not {_describe(start)}"
            )
    if first is not None and stop is not None and stop <= first:
        if not _are_times(start, end):
            raise _no_frames(start, end)
        stop = first + 1
    return first, stop


def _first_from(source: VideoSource, seconds: float) -> int | None:
    """Return the first frame that begins at a time or later; None if that requires decoding."""
    last = source.index_at(seconds - 2 * TIME_TOLERANCE)  # which begins at most one tolerance before that time
    return None if last is None else last + 1


def _ends_before(frame: Frame, end: float | None) -> bool:
    """Whether a range with this end stops before the frame."""
    if end is None:
        return False
    return frame.seconds > end - TIME_TOLERANCE if isinstance(end, float) else frame.index >= end


def _shown_from(frames: Iterator[Frame], seconds: float, period: float) -> Iterator[Frame]:
    """Yield the frame that is shown at a time, for `period` if it is the last one, and all frames after it."""
    shown: Frame | None = None
    for frame in frames:
        if frame.seconds > seconds + TIME_TOLERANCE:
            yield from chain([frame] if shown is None else [shown, frame], frames)
            return
        shown = frame
    if shown is not None and shown.seconds + period > seconds + TIME_TOLERANCE:
        yield shown


def _are_times(start: float | None, end: float | None) -> bool:
    return isinstance(start, float) and isinstance(end, float)


def _no_frames(start: float | None, end: float | None) -> ConfigError:
    after = "the beginning" if start is None else _describe(start)
    return ConfigError(
        f"there is no frame from {after} to {_describe(end or 0)}: the end must come after the start"
    )


def _describe(place: float) -> str:
    return f"frame {place}" if isinstance(place, int) else f"{place:g} s"
