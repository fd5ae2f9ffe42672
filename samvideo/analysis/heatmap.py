"""Images of where an object worked."""

import cv2
import numpy as np

from samvideo.analysis.mask_geometry import Floats
from samvideo.types import UInt8Array


def heat_image(heat: Floats, size_wh: tuple[int, int], background: UInt8Array | None) -> UInt8Array:
    """Draw a heat map over a grey, faded frame.

    Args:
        heat: (rows, columns), seconds in each square cell; the cells cover the frame, and may overhang it.
        size_wh: width and height of the frames of the video.
        background: a frame, or None for plain grey.

    Returns:
        uint8 (H, W, 3), at most 640 pixels wide.
    """
    width = min(640, max(size_wh))
    height = max(1, round(size_wh[1] * width / size_wh[0]))
    ground = np.full((height, width, 3), 235, np.uint8)
    if background is not None:
        small = cv2.resize(background, (width, height), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        ground = cv2.cvtColor((110 + 0.5 * grey).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    cell = max(size_wh) / max(heat.shape) * width / size_wh[0]
    smooth = cv2.GaussianBlur(heat, (0, 0), 0.8)
    large_wh = round(heat.shape[1] * cell), round(heat.shape[0] * cell)
    large = cv2.resize(smooth, large_wh, interpolation=cv2.INTER_CUBIC)[:height, :width]
    large = np.pad(large, ((0, height - large.shape[0]), (0, width - large.shape[1])))
    # The square root makes rarely visited places visible.
    strength = np.sqrt(np.clip(large / max(float(large.max()), 1e-9), 0, 1))
    colours = cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = np.clip(1.6 * strength, 0, 0.9)[..., None]
    return (ground * (1 - weight) + colours * weight).astype(np.uint8)
