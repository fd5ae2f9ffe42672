"""Video writer with transparency: VP9 in WebM for browsers, ProRes 4444 in QuickTime for editors."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from samvideo.errors import ConfigError, OutputError
from samvideo.io.container import url_of
from samvideo.io.files import unfinished
from samvideo.io.sink import AV_ERRORS, WHERE, reason_of
from samvideo.types import UInt8Array

TIME_BASE = Fraction(1, 1000)  # WebM's
CODECS = {
    ".webm": (
        "libvpx-vp9",
        "yuva420p",
        # alt-ref frames do not work with an alpha plane; the rest is good speed for little loss
        {"crf": "24", "b": "0", "auto-alt-ref": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
    ),
    ".mov": ("prores_ks", "yuva444p10le", {"profile": "4444", "vendor": "apl0", "alpha_bits": "16"}),
}


class AlphaWriter:
    """Writes RGBA frames, not premultiplied, at the given times; leaving the `with` block finishes the file.

    The file, .webm or .mov (else ConfigError), is written as `.NAME.part` and moved to `path` when complete;
    without frames there is none. A .mov keeps the `pixel_aspect` (see `VideoInfo`); frames of a .webm, where PyAV
    cannot set it, are stretched to square pixels. Odd sizes lose their last column or row in WebM (4:2:0 colour).

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(
        self, path: Path, size_wh: tuple[int, int], rate: Fraction, pixel_aspect: Fraction = Fraction(1)
    ) -> None:
        if path.suffix not in CODECS:
            raise ConfigError(f"{path}: a name ending in {' or '.join(CODECS)} expected")
        codec, self._pixels, options = CODECS[path.suffix]
        self._path, self._part = path, unfinished(path)
        web = path.suffix == ".webm"
        width, height = size_wh
        if web:  # the side that is too short grows
            width, height = round(width * max(pixel_aspect, 1)), round(height / min(pixel_aspect, 1))
        self._full = width, height
        self._size = tuple(side - side % 2 if web and side > 1 else side for side in self._full)
        self._last, self._start = -1, 0.0
        try:
            self._container: Any = av.open(url_of(self._part), "w", format=path.suffix[1:])
            self._stream: Any = self._container.add_stream(codec, rate=rate, options=options)
            context: Any = self._stream.codec_context
            context.width, context.height = self._size
            context.sample_aspect_ratio = Fraction(1) if web else pixel_aspect
            context.pix_fmt, context.time_base = self._pixels, TIME_BASE
            context.color_range, context.colorspace = ColorRange.MPEG, 1
            self._stream.time_base = TIME_BASE
        except AV_ERRORS as error:
            raise self._failed(error) from error

    def write(self, rgba: UInt8Array, seconds: float) -> None:
        """Append one frame: uint8 (H, W, 4), shown from `seconds`; times count from the first frame."""
        if self._last < 0:
            self._start = seconds
        width, height = self._size
        if rgba.shape[1::-1] != self._full:
            rgba = cv2.resize(rgba, self._full).astype(np.uint8, copy=False)
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgba[:height, :width]), format="rgba").reformat(
            format=self._pixels, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        self._last = max(self._last + 1, round((seconds - self._start) / TIME_BASE))
        frame.pts, frame.time_base = self._last, TIME_BASE
        self._mux(frame)

    def _mux(self, frame: VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux_one(packet)
        except AV_ERRORS as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OutputError:
        return OutputError(f"{self._path} cannot be written: {reason_of(error, WHERE)}")

    def __enter__(self) -> "AlphaWriter":
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        complete = kind is None and self._last >= 0
        try:
            if complete:
                self._mux(None)
            self._container.close()
            if complete:
                self._part.replace(self._path)
        except AV_ERRORS as failure:
            if kind is None:
                raise self._failed(failure) from failure
        finally:
            self._part.unlink(missing_ok=True)
