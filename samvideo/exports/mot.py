"""MOTChallenge (Dendorfer et al., arXiv 2003.09003): one line per box, 1-based; and `seqinfo.ini`."""

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


def _write(job: Job) -> None:
    info = job.tracks.info
    with job.out.open("w", encoding="utf-8") as file:
        for frame in job.tracks:
            for entry in frame.visible().values():
                x, y, width, height = entry.bbox_xywh
                file.write(
                    f"{frame.index + 1},{entry.object_id},{x + 1:g},{y + 1:g},{width:g},{height:g},"
                    f"{entry.score:g},-1,-1,-1\n"
                )
    width, height = info.size_wh
    text = INFO.format(name=job.title, rate=float(info.rate), length=job.length, width=width, height=height)
    job.out.with_name("seqinfo.ini").write_text(text)


VARIANTS = {"mot": Format(_write, ".txt", "boxes as a MOTChallenge csv, seqinfo.ini beside it")}
