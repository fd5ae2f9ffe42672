"""Detect images that show no operation (black, dirty or wiped lens, smoke) by simple statistics."""

from collections import deque

import cv2
import numpy as np

from samvideo.types import UInt8Array

WIDTH = 256  # pixels; faults fill the view, and noise averages out
HISTORY = 250  # images that define the normal state; the median tolerates faults in fewer than half of them
DARK = 40  # of 255; in a well lit view, a tenth of the pixels are brighter
FADED_OUT = 0.5  # of the usual brightness; a view that is always dim is not black
FLAT = 8  # levels between the darkest and the brightest tenth; a dim view that shows something has more
UNLIT = 16  # of 255; darker images never become usual, however long they last
BLURRED = 0.25  # of the normal sharpness
HAZE = 1.35  # of the normal darkness floor, with FADED of the saturation: smoke is grey and covers everything
FADED = 0.75


class ImageFaultDetector:
    """Names the fault of each image: `black`, `blurred` (wiped, dirty or defocused lens), `smoke` or "".

    All are relative to the preceding images (10 seconds at 25 frames per second): the first image has no fault, and
    a scene that stays hazy or dim becomes normal. A black image is dark, much darker than the images before it, and
    shows hardly any structure; blur and smoke are compared with the median. Sharpness is the variance of the
    Laplacian (Pech-Pacheco et al., ICPR 2000) over the squared brightness, so dimming is not blur; the darkness
    floor is the mean of the darkest channel (the dark channel of He et al., CVPR 2009).
    """

    def __init__(self) -> None:
        self._history: deque[tuple[float, float, float]] = deque(maxlen=HISTORY)
        self._brightness: deque[float] = deque(maxlen=HISTORY)

    def detect(self, rgb: UInt8Array) -> str:
        """Name the fault of the next image, uint8 (H, W, 3)."""
        height = max(1, round(rgb.shape[0] * WIDTH / rgb.shape[1]))
        small = cv2.resize(rgb, (WIDTH, height), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        low, high = np.percentile(grey, (10, 90))  # not moved by a few bright pixels, such as drawn masks
        usual = np.percentile(self._brightness, 90) if self._brightness else high
        black = high < DARK and high < FADED_OUT * usual and high - low < FLAT
        if not black or high >= UNLIT:
            self._brightness.append(float(high))
        if black:
            return "black"
        lit = grey >= min(DARK, high) / 2  # the rim around a round view stays black in smoke
        darkest, brightest = small.min(2)[lit].astype(float), small.max(2)[lit].astype(float)
        sharpness = float(cv2.Laplacian(grey, cv2.CV_64F)[lit].var() / max(1.0, grey[lit].mean()) ** 2)
        floor = float(darkest.mean())
        saturation = float(((brightest - darkest) / np.maximum(brightest, 1)).mean())
        normal = np.median(self._history, 0) if self._history else (sharpness, floor, saturation)
        self._history.append((sharpness, floor, saturation))
        if floor > HAZE * normal[1] and saturation < FADED * normal[2]:
            return "smoke"
        return "blurred" if sharpness < BLURRED * normal[0] else ""
