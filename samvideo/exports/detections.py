"""Conversion of results to supervision (Roboflow), which is imported only when used."""

from typing import TYPE_CHECKING

import numpy as np

from samvideo.errors import ConfigError
from samvideo.geometry import mask_box
from samvideo.types import FrameResult

if TYPE_CHECKING:
    import supervision


def to_supervision(result: FrameResult) -> "supervision.Detections":
    """Convert the visible objects to `supervision.Detections`: boxes, masks, confidence, ids as `tracker_id`."""
    try:
        import supervision
    except ImportError as error:
        raise ConfigError("supervision is not installed: pip install supervision") from error
    seen = result.select([i for i, mask, _, present in result.rows() if present and mask.any()])
    return supervision.Detections(
        xyxy=np.array([mask_box(mask) for mask in seen.masks], np.float32).reshape(-1, 4),
        mask=seen.masks,
        confidence=seen.scores,
        tracker_id=np.array(seen.object_ids, int),
        class_id=np.zeros(len(seen.object_ids), int),
    )
