"""Conversion of results to supervision (Roboflow), which is imported only when used."""

from typing import TYPE_CHECKING

import numpy as np

from samvideo.errors import ConfigError
from samvideo.geometry import mask_box
from samvideo.types import FrameResult

if TYPE_CHECKING:
    import supervision


def to_supervision(result: FrameResult) -> "supervision.Detections":
    """Convert the visible objects to `supervision.Detections`: boxes, masks, confidence, ids as `tracker_id`.

    Raises:
        ConfigError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ConfigError("supervision is not installed: pip install supervision") from error
    rows = [row for row, mask in enumerate(result.masks) if result.present[row] and mask.any()]
    boxes = [mask_box(result.masks[row]) for row in rows]
    return supervision.Detections(
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        mask=result.masks[rows],
        confidence=result.scores[rows],
        tracker_id=np.array([result.object_ids[row] for row in rows], int),
        class_id=np.zeros(len(rows), int),
    )
