"""Pictures that show no operation: black, fouled or wiped lens, smoke; by simple statistics."""

from collections import deque

import cv2
import numpy as np

from samvideo.types import UInt8Array

WIDTH = 256  # pixels: faults fill the view, and noise goes away
MEMORY = 250  # pictures that say what is usual; the median stands up to faults in fewer than half of them
BLACK = 40  # of 255: a view that shows anything has a tenth of its pixels above
BLURRED = 0.25  # of the usual sharpness
HAZE = 1.35  # of the usual darkness floor, with FADED of the usual colour: smoke is grey and lies over everything
FADED = 0.75


class PictureWatch:
    """Tells what is wrong with each picture: `black`, `blurred` (wiped, fouled or defocused lens), `smoke` or "".

    Blur and smoke are told against the median of the pictures before (10 seconds at 25 a second), so a first
    picture is never called blurred, and a scene that stays hazy becomes the usual one. Sharpness is the variance
    of the Laplacian (Pech-Pacheco et al., ICPR 2000), the floor the mean of the darkest channel (the dark channel
    of He et al., CVPR 2009).
    """

    def __init__(self) -> None:
        self._usual: deque[tuple[float, float, float]] = deque(maxlen=MEMORY)

    def look(self, rgb: UInt8Array) -> str:
        """What is wrong with the next picture, uint8 (H, W, 3)."""
        height = max(1, round(rgb.shape[0] * WIDTH / rgb.shape[1]))
        small = cv2.resize(rgb, (WIDTH, height), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        if np.percentile(grey, 90) < BLACK:
            return "black"
        lit = grey >= BLACK / 2  # the rim around a round view stays black in smoke
        darkest, brightest = small.min(2)[lit].astype(float), small.max(2)[lit].astype(float)
        sharpness = float(cv2.Laplacian(grey, cv2.CV_64F)[lit].var())
        floor = float(darkest.mean())
        colour = float(((brightest - darkest) / np.maximum(brightest, 1)).mean())
        usual = np.median(self._usual, 0) if self._usual else (sharpness, floor, colour)
        self._usual.append((sharpness, floor, colour))
        if floor > HAZE * usual[1] and colour < FADED * usual[2]:
            return "smoke"
        return "blurred" if sharpness < BLURRED * usual[0] else ""
