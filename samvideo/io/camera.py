"""Cameras by index through OpenCV, which numbers them in the same way on every system."""

import sys
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from samvideo.errors import VideoError
from samvideo.io.base import VideoSource
from samvideo.types import Frame, UInt8Array, VideoInfo


class CameraSource(VideoSource):
    """Frames of a camera as they arrive; `seconds` is the time since the first. It cannot seek."""

    def __init__(self, index: int) -> None:
        name = f"camera {index}"
        if sys.platform.startswith("linux") and not Path(f"/dev/video{index}").exists():
            raise VideoError(f"{name} does not exist: no /dev/video{index}; found: {_found()}")
        logs = cv2.utils.logging
        level = logs.setLogLevel(logs.LOG_LEVEL_SILENT)  # OpenCV would print its own messages
        try:
            self._camera = cv2.VideoCapture(index)
        finally:
            logs.setLogLevel(level)
        rgb = self._grab() if self._camera.isOpened() else None
        if rgb is None:
            self._camera.release()
            raise VideoError(f"{name} returns no frame: check that it is connected, free and accessible")
        self._first: UInt8Array | None = rgb
        self._index = 0
        self._started = time.monotonic()
        rate = Fraction(self._camera.get(cv2.CAP_PROP_FPS) or 30).limit_denominator(1001)
        self.info = VideoInfo(f"camera{index}", (rgb.shape[1], rgb.shape[0]), rate, codec="camera", live=True)

    def _grab(self) -> UInt8Array | None:
        got, bgr = self._camera.read()
        if not got:
            return None
        rgb: UInt8Array = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
        return rgb

    def _read(self) -> Frame | None:
        if self._first is not None:
            rgb, seconds, self._first = self._first, 0.0, None
        else:
            grabbed, seconds = self._grab(), time.monotonic() - self._started
            if grabbed is None:
                raise VideoError(f"{self.info.name} broke off after {self._index} frames: was it unplugged?")
            rgb = grabbed
        self._index += 1
        return Frame(self._index - 1, seconds, rgb)

    def seek(self, index: int) -> None:
        """Raise VideoError unless `index` is the next frame."""
        if index != self._index:
            raise VideoError(f"{self.info.name} is at frame {self._index}, not {index}: a camera cannot seek")

    def _release(self) -> None:
        self._camera.release()


def _found() -> str:
    return ", ".join(sorted(path.name for path in Path("/dev").glob("video*"))) or "none"
