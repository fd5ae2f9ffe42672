"""Random access through decord, an extra (it has no wheel for Arm). `StreamSource` seeks as exactly without it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2

from samvideo.errors import ConfigError, VideoError
from samvideo.io.base import VideoSource
from samvideo.io.container import url_of
from samvideo.io.stream import StreamSource
from samvideo.io.timeline import shown_at
from samvideo.types import Frame

TOLERANCE = 4.0  # mean grey levels between the two readers' first frames; 10-bit files differ by about 1


class DecordSource(VideoSource):
    """A video file read by decord, with random access; sizes and times are those of `StreamSource`.

    8-bit files have the same pixels as well. decord does not rotate, mirror or tone-map, so a file whose first
    frame differs from the stream reader's is refused. A broken frame cannot be skipped and is an error.

    Raises:
        ConfigError: decord is not installed.
        VideoError: the file cannot be opened, or decord reads it differently.
    """

    def __init__(self, path: Path) -> None:
        try:
            import decord
        except ImportError as error:
            raise ConfigError(
                "reader='decord' needs decord, which is not installed: pip install 'samvideo[decord]' (x86 Linux "
                "and Windows only; elsewhere omit the option, the stream reader also seeks exactly)"
            ) from error
        decord.logging.set_level(decord.logging.QUIET)
        self._path, self._place, self._start = path, 0, 0.0
        with StreamSource(url_of(path), path.stem) as plain:
            first = next(iter(plain)).rgb
        try:
            self._reader: Any = decord.VideoReader(url_of(path), num_threads=1)
        except (decord.DECORDError, RuntimeError) as error:
            raise VideoError(f"{path} cannot be opened by decord: {_reason(error)}") from error
        self.info = replace(plain.info, frame_count=len(self._reader))
        decoded = self._fetch(0)
        self._start = decoded.seconds
        same = first.shape == decoded.rgb.shape and float(cv2.absdiff(first, decoded.rgb).mean()) <= TOLERANCE
        if self.info.rotation or not same:
            raise VideoError(
                f"{path} is read differently by decord, which does not rotate, mirror, deinterlace or tone-map "
                f"(rotation {self.info.rotation}): omit reader='decord'"
            )

    def _fetch(self, index: int) -> Frame:
        try:
            rgb = self._reader[index].asnumpy()
            seconds, _ = self._shown(index)
        except RuntimeError as error:  # DECORDError is one
            raise VideoError(
                f"{self._path} broke off at frame {index}, which decord cannot read: {_reason(error)}; "
                "the stream reader skips broken packets"
            ) from error
        return Frame(index, seconds, rgb)

    def _read(self) -> Frame | None:
        if self._place >= len(self._reader):
            return None
        frame = self._fetch(self._place)
        self._place += 1
        return frame

    def seek(self, index: int) -> None:
        """See `VideoSource.seek`."""
        self._check_index(index)
        self._place = index

    def index_at(self, seconds: float) -> int:
        """See `VideoSource.index_at`."""
        count = len(self._reader)
        return shown_at(seconds, lambda index: self._shown(index)[0], self._shown(count - 1)[1], count)

    def _shown(self, index: int) -> tuple[float, float]:
        """From when to when a frame is shown, in seconds."""
        # decord stores times in single precision; rounding to a microsecond restores them
        start, end = (round(float(time) - self._start, 6) for time in self._reader.get_frame_timestamp(index))
        return start, end

    def _release(self) -> None:
        self._reader = None


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
