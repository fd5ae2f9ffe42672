"""`tracks.json`: the whole run as one JSON document, as written at the end of a run."""

from dataclasses import replace

from samvideo.exports.base import Format, Job
from samvideo.io.tracks import write_document


def _write(job: Job) -> None:
    write_document(job.tracks, job.out, replace(job.tracks.info, name=job.title), job.labels)


ABOUT = "one JSON document: RLE masks, boxes, areas and scores per frame"
VARIANTS = {"tracks": Format(_write, ".json", ABOUT, restores=True)}
