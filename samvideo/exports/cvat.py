"""CVAT's XML 1.1 (docs.cvat.ai, XML annotation format), for video tasks with tracks or for images with masks.

A polygon of CVAT is one outline, so `cvat` contains the largest part of each mask, to half a pixel, as tracks;
`cvat-masks` contains the exact masks, which CVAT cannot link to tracks: `group_id` is the object.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from samvideo.exports.base import Format, Job
from samvideo.geometry import mask_box
from samvideo.io.outlines import outlines, signed_area, simplified
from samvideo.io.rle import decode_rle
from samvideo.io.tracks import ObjectRecord
from samvideo.render import object_colour

TOLERANCE = 0.5  # pixels by which simplification may move an outline


@contextmanager
def _document(job: Job, mode: str, kind: str) -> Iterator[IO[str]]:
    """Open the file and write everything but its annotations; `kind` is the shape of the labels."""
    width, height = job.tracks.info.size_wh
    count = job.length
    labels = "".join(
        f"<label><name>{escape(label)}</name><color>#{bytes(object_colour(number)).hex()}</color>"
        f"<type>{kind}</type><attributes></attributes></label>"
        for label, number in job.classes.items()
    )
    with job.out.open("w", encoding="utf-8") as file:
        file.write(
            f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task>'
            f"<name>{escape(job.title)}</name><size>{count}</size><mode>{mode}</mode><overlap>0</overlap>"
            f"<flipped>False</flipped><start_frame>0</start_frame><stop_frame>{max(0, count - 1)}</stop_frame>"
            f"<frame_filter></frame_filter><labels>{labels}</labels>"
            f"<original_size><width>{width}</width><height>{height}</height></original_size></task></meta>\n"
        )
        yield file
        file.write("</annotations>\n")


def _write_tracks(job: Job) -> None:
    with _document(job, "interpolation", "polygon") as file:
        for number, object_id in enumerate(job.object_ids):
            label = quoteattr(job.label(object_id))
            file.write(f'<track id="{number}" label={label} source="auto" group_id="{object_id}">\n')
            points, gone = "", True
            for frame, entry in job.of(object_id):
                if entry is None and gone:
                    continue
                points, gone = (_outline(entry), False) if entry is not None else (points, True)
                file.write(_polygon(frame.index, points, gone))
            if not gone and frame.index + 1 < job.length:  # else it stays until the end
                file.write(_polygon(frame.index + 1, points, True))
            file.write("</track>\n")


def _polygon(index: int, points: str, gone: bool) -> str:
    return (
        f'<polygon frame="{index}" keyframe="1" outside="{int(gone)}" occluded="0" '
        f'points="{points}" z_order="0"></polygon>\n'
    )


def _outline(entry: ObjectRecord) -> str:
    outer, _ = outlines(decode_rle(entry.rle))
    largest = simplified(max(outer, key=signed_area), TOLERANCE)
    return ";".join(f"{x:.2f},{y:.2f}" for x, y in largest)


def _write_masks(job: Job) -> None:
    width, height = job.tracks.info.size_wh
    with _document(job, "annotation", "mask") as file:
        for frame in job.tracks:
            file.write(
                f'<image id="{frame.index}" name="frame_{frame.index:06d}" width="{width}" height="{height}">\n'
            )
            for entry in frame.visible().values():
                mask = decode_rle(entry.rle)
                x, y, right, bottom = (int(side) for side in mask_box(mask) or (0, 0, 0, 0))
                counts = _row_counts(mask[y:bottom, x:right])
                label = quoteattr(job.label(entry.object_id))
                file.write(
                    f'<mask label={label} source="auto" occluded="0" rle="{counts}" left="{x}" top="{y}" '
                    f'width="{right - x}" height="{bottom - y}" z_order="0" group_id="{entry.object_id}"></mask>\n'
                )
            file.write("</image>\n")


def _row_counts(crop: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> str:
    """Return row-major run lengths within the box, starting with background."""
    flat = np.concatenate([[False], crop.reshape(-1)])
    changes = np.flatnonzero(np.diff(flat))
    return ", ".join(str(n) for n in np.diff([0, *changes.tolist(), crop.size]).tolist())


VARIANTS = {
    "cvat": Format(_write_tracks, ".xml", "CVAT for video 1.1: a polygon track per object"),
    "cvat-masks": Format(_write_masks, ".xml", "CVAT for images 1.1: exact masks"),
}
