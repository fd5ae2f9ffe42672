"""MOTChallenge (Dendorfer et al., arXiv 2003.09003): one line per box, 1-based; and, in a folder, `seqinfo.ini`."""

from pathlib import Path

from samvideo.exports.base import Format, Job

INFO = """[Sequence]
name={name}
imDir=img1
frameRate={rate:g}
seqLength={length}
imWidth={width}
imHeight={height}
imExt=.jpg
"""


def _write_boxes(job: Job, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for frame in job.tracks:
            for entry in frame.visible().values():
                x, y, width, height = entry.bbox_xywh
                file.write(
                    f"{frame.index + 1},{entry.object_id},{x + 1:g},{y + 1:g},{width:g},{height:g},"
                    f"{entry.score:g},-1,-1,-1\n"
                )


def _write_folder(job: Job) -> None:
    job.out.mkdir()
    _write_boxes(job, job.out / "mot.txt")
    info = job.tracks.info
    width, height = info.size_wh
    text = INFO.format(name=job.title, rate=float(info.rate), length=job.length, width=width, height=height)
    (job.out / "seqinfo.ini").write_text(text, encoding="utf-8")


VARIANTS = {
    "mot": Format(lambda job: _write_boxes(job, job.out), ".txt", "boxes as a MOTChallenge csv"),
    "mot-sequence": Format(_write_folder, "", "a folder with the boxes, mot.txt, and seqinfo.ini"),
}
