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

    Labels are in `data["class_name"]` and numbered as `class_id`; an object without one is a class of its own,
    "object 1". If no object has a label, the class of all is 0.
    """
    try:
        import supervision
    except ImportError as error:
        raise ConfigError("supervision is not installed: pip install supervision") from error
    seen = result.select([i for i, mask, _, present in result.rows() if present and mask.any()])
    names = [result.labels.get(i, f"object {i}") for i in seen.object_ids] if result.labels else []
    classes = list(dict.fromkeys([*result.labels.values(), *names]))
    return supervision.Detections(
        xyxy=np.array([mask_box(mask) for mask in seen.masks], np.float32).reshape(-1, 4),
        mask=seen.masks,
        confidence=seen.scores,
        tracker_id=np.array(seen.object_ids, int),
        class_id=np.array([classes.index(name) for name in names] or [0] * len(seen.object_ids), int),
        data={"class_name": np.array(names)} if names else {},
    )
