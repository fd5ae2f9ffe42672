"""`samvideo info`: the properties of a source."""

import json
from dataclasses import asdict

import typer

from samvideo.cli.common import verb


@verb
def info(
    source: str = typer.Argument(help="Video file, folder or glob of images, camera index, address, or -."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Print size, rate, frames, codec, rotation and duration of a source."""
    from samvideo.io.source import open_video

    with open_video(source) as video:
        facts = asdict(video.info)
    width, height = facts.pop("size_wh")
    rate = facts.pop("rate")
    facts["pixel_aspect"] = str(facts["pixel_aspect"])
    facts = {"name": facts.pop("name"), "width": width, "height": height, "rate": round(float(rate), 4), **facts}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for key, value in facts.items():
        typer.echo(f"{key.replace('_', ' '):12} {'unknown' if value is None else value}")
