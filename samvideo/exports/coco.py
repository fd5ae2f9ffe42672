"""COCO instances of images (Lin et al., arXiv 1405.0312) and of videos as in YouTube-VIS (arXiv 1905.04804)."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from samvideo.exports.base import Format, Job
from samvideo.io.files import stream_json
from samvideo.io.outlines import outlines
from samvideo.io.rle import decode_rle
from samvideo.io.tracks import ObjectRecord


def _head(job: Job) -> dict[str, Any]:
    categories = [{"id": number, "name": label, "supercategory": ""} for label, number in job.classes.items()]
    return {"info": {"description": job.title}, "licenses": [], "categories": categories}


def _images(job: Job) -> Iterator[dict[str, Any]]:
    width, height = job.tracks.info.size_wh
    for index in job.indices:
        yield {"id": index, "file_name": f"{index:05d}.jpg", "width": width, "height": height, "frame": index}


def _annotations(job: Job, polygons: bool) -> Iterator[dict[str, Any]]:
    number = 0
    for frame in job.tracks:
        for entry in frame.visible().values():
            number += 1
            yield {
                "id": number,
                "image_id": frame.index,
                "category_id": job.classes[job.label(entry.object_id)],
                "track_id": entry.object_id,
                "segmentation": _polygons(entry) if polygons else entry.rle,
                "area": entry.area,
                "bbox": entry.bbox_xywh,
                "iscrowd": 0,
                "score": entry.score,
            }


def _polygons(entry: ObjectRecord) -> Any:
    """Return the exact outlines, or RLE for a mask with holes, which polygons of COCO cannot have."""
    outer, holes = outlines(np.asarray(decode_rle(entry.rle)))
    return entry.rle if holes else [polygon.reshape(-1).tolist() for polygon in outer]


def _write_images(job: Job, polygons: bool) -> None:
    stream_json(job.out, _head(job), {"images": _images(job), "annotations": _annotations(job, polygons)})


def _write_videos(job: Job) -> None:
    width, height = job.tracks.info.size_wh
    names = [image["file_name"] for image in _images(job)]
    video = {"id": 1, "name": job.title, "width": width, "height": height, "length": len(names)}
    video["file_names"] = names
    stream_json(job.out, _head(job) | {"videos": [video]}, {"annotations": _masklets(job)})


def _masklets(job: Job) -> Iterator[dict[str, Any]]:
    width, height = job.tracks.info.size_wh
    for object_id in job.object_ids:
        entries = [entry for _, entry in job.of(object_id)]
        yield {
            "id": object_id,
            "video_id": 1,
            "category_id": job.classes[job.label(object_id)],
            "segmentations": [entry and entry.rle for entry in entries],
            "bboxes": [entry and entry.bbox_xywh for entry in entries],
            "areas": [entry and entry.area for entry in entries],
            "iscrowd": 0,
            "width": width,
            "height": height,
            "length": len(entries),
        }


VARIANTS = {
    "coco": Format(lambda job: _write_images(job, False), ".json", "COCO instances per image, RLE"),
    "coco-polygons": Format(lambda job: _write_images(job, True), ".json", "COCO instances per image, polygons"),
    "coco-video": Format(_write_videos, ".json", "COCO per video, as in YouTube-VIS"),
}
