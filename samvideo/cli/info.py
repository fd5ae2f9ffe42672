"""`samvideo info`: the properties of a source."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from samvideo.cli.common import verb

if TYPE_CHECKING:
    from samvideo.types import VideoInfo


@verb
def info(
    source: str = typer.Argument(help="Video file, folder or glob of images, camera index, address, or -."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Print size, rate, frames, codec, rotation and duration of a source."""
    from samvideo.io.source import open_video

    with open_video(source) as video:
        found = video.info
    if as_json:
        typer.echo(json.dumps(_facts(found)))
        return
    for label, value in _lines(found).items():
        typer.echo(f"{label:12} {value}")


def _facts(info: "VideoInfo") -> dict[str, object]:
    facts = asdict(info)
    width, height = facts.pop("size_wh")
    rate = facts.pop("rate")
    facts["pixel_aspect"] = str(facts["pixel_aspect"])
    return {"name": facts.pop("name"), "width": width, "height": height, "rate": round(float(rate), 4), **facts}


def _lines(info: "VideoInfo") -> dict[str, object]:
    """What is printed, with units; shape of pixels and kind of source only where they are unusual."""
    width, height = info.size_wh
    lines: dict[str, object] = {
        "name": info.name,
        "width": f"{width} pixels",
        "height": f"{height} pixels",
        "rate": f"{float(info.rate):.4g} frames per second",
        "frames": "unknown" if info.frame_count is None else info.frame_count,
        "duration": "unknown" if info.duration is None else f"{info.duration:.2f} s",
        "codec": info.codec,
        "rotation": f"{info.rotation} degrees clockwise, already applied" if info.rotation else "none",
        "audio": "yes" if info.has_audio else "no",
    }
    if info.pixel_aspect != 1:
        lines["shown as"] = f"{round(width * info.pixel_aspect)} x {height} pixels: its pixels are not square"
    if info.live:
        lines["live"] = "yes: it cannot be read again"
    return lines
