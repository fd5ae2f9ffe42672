"""Objects of images as COCO instances (Lin et al., arXiv 1405.0312)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samvideo.geometry import mask_box
from samvideo.io.files import stream_json
from samvideo.io.masks import encode_rle
from samvideo.segmenters.base import Segmentation

OBJECT = "object"
"""Category of objects without a name."""


class CocoInstances:
    """Collects the objects of images; `write` writes all of them."""

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}

    def add(
        self, name: str, size_wh: tuple[int, int], found: Sequence[Segmentation], labels: Mapping[int, str]
    ) -> None:
        """Add an image and its objects; those without a mask are left out. Labels, by object, are categories."""
        width, height = size_wh
        image = len(self._images) + 1
        self._images.append({"id": image, "file_name": name, "width": width, "height": height})
        for one in found:
            box = mask_box(one.best)
            if box is None:
                continue
            x1, y1, x2, y2 = box
            category = labels.get(one.object_id, OBJECT)
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image,
                    "category_id": self._categories.setdefault(category, len(self._categories) + 1),
                    "object_id": one.object_id,
                    "segmentation": encode_rle(one.best),
                    "area": int(one.best.sum()),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "iscrowd": 0,
                    "score": round(float(one.quality_n[one.chosen]), 4),
                }
            )

    def write(self, path: Path) -> None:
        """Write the file."""
        categories = [
            {"id": number, "name": name, "supercategory": ""} for name, number in self._categories.items()
        ]
        head = {"info": {"description": "samvideo segment"}, "licenses": [], "categories": categories}
        stream_json(path, head, {"images": self._images, "annotations": self._annotations})
