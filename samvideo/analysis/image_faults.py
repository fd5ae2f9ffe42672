"""Detect images that show no operation (black, dirty or wiped lens, smoke) by simple statistics."""

from collections import deque

import cv2
import numpy as np

from samvideo.types import UInt8Array

WIDTH = 256  # pixels; faults fill the view, and noise averages out
HISTORY = 250  # images that define the normal state; the median tolerates faults in fewer than half of them
BLACK = 40  # of 255; in a view that shows anything, a tenth of the pixels are brighter
BLURRED = 0.25  # of the normal sharpness
HAZE = 1.35  # of the normal darkness floor, with FADED of the saturation: smoke is grey and covers everything
FADED = 0.75


class ImageFaultDetector:
    """Names the fault of each image: `black`, `blurred` (wiped, dirty or defocused lens), `smoke` or "".

    Blur and smoke are relative to the median of the preceding images (10 seconds at 25 frames per second), so the
    first image is never called blurred, and a scene that stays hazy becomes normal. Sharpness is the variance of
    the Laplacian (Pech-Pacheco et al., ICPR 2000), the darkness floor the mean of the darkest channel (the dark
    channel of He et al., CVPR 2009).
    """

    def __init__(self) -> None:
        self._history: deque[tuple[float, float, float]] = deque(maxlen=HISTORY)

    def detect(self, rgb: UInt8Array) -> str:
        """Name the fault of the next image, uint8 (H, W, 3)."""
        height = max(1, round(rgb.shape[0] * WIDTH / rgb.shape[1]))
        small = cv2.resize(rgb, (WIDTH, height), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        if np.percentile(grey, 90) < BLACK:
            return "black"
        lit = grey >= BLACK / 2  # the rim around a round view stays black in smoke
        darkest, brightest = small.min(2)[lit].astype(float), small.max(2)[lit].astype(float)
        sharpness = float(cv2.Laplacian(grey, cv2.CV_64F)[lit].var())
        floor = float(darkest.mean())
        saturation = float(((brightest - darkest) / np.maximum(brightest, 1)).mean())
        normal = np.median(self._history, 0) if self._history else (sharpness, floor, saturation)
        self._history.append((sharpness, floor, saturation))
        if floor > HAZE * normal[1] and saturation < FADED * normal[2]:
            return "smoke"
        return "blurred" if sharpness < BLURRED * normal[0] else ""
