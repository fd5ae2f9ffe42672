"""The folder layout of DAVIS 2017 (Pont-Tuset et al., arXiv 1704.00675): one palette PNG per frame."""

import cv2

from samvideo.errors import OutputError, VideoError
from samvideo.exports.base import Format, Job
from samvideo.io.masks import index_map, write_index_png


def _write(job: Job) -> None:
    masks = job.out / "Annotations" / "480p" / job.title
    listed = job.out / "ImageSets" / "2017" / "val.txt"
    for folder in (masks, listed.parent):
        folder.mkdir(parents=True, exist_ok=True)
    for frame in job.tracks:
        result = frame.result(job.tracks.info.size_wh).select(frame.visible())
        index_hw = index_map(result.masks, result.object_ids, result.scores.tolist())
        write_index_png(masks / f"{frame.index:05d}.png", index_hw)
    listed.write_text(job.title + "\n", encoding="utf-8")
    if job.video is not None:
        _write_images(job)


def _write_images(job: Job) -> None:
    folder = job.out / "JPEGImages" / "480p" / job.title
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    try:
        for frame, tracked in job.frames():
            path = folder / f"{tracked.index:05d}.jpg"  # as its mask
            written.append(path)
            if not cv2.imwrite(str(path), frame.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]):
                raise OutputError(f"cannot write {path}: is the disk full?")
    except VideoError:  # they may be those of other masks
        for path in written:
            path.unlink()
        raise


VARIANTS = {"davis": Format(_write, "", "folders of DAVIS 2017; with --video also its frames")}
