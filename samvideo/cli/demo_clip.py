"""`samvideo demo-clip`: write a synthetic clip for first experiments."""

import json
from fractions import Fraction
from pathlib import Path

import typer

from samvideo.cli.common import verb
from samvideo.errors import ConfigError


@verb
def demo_clip(
    out: Path = typer.Argument(Path("demo.mp4"), help="The video to write; prompts go to NAME.prompts.json."),
    frames: int = typer.Option(90, min=1, help="Number of frames, at 25 per second."),
    width: int = typer.Option(854, min=16),
    height: int = typer.Option(480, min=16),
    objects: int = typer.Option(3, min=1, max=8, help="Number of objects; the last two of eight enter later."),
    truth: Path | None = typer.Option(None, help="Folder for the ground-truth masks, one palette PNG per frame."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace existing files."),
) -> None:
    """Write a clip of shapes that occlude each other, and a box prompt for each of the first frame."""
    from samvideo.io.files import check_empty, check_new, check_writable

    if out.suffix.lower() != ".mp4":
        raise ConfigError(
            f"{str(out)!r} is not a valid clip name: a file ending in .mp4 expected, such as demo.mp4"
        )
    prompts = out.with_suffix(".prompts.json")
    for path in (out, prompts):
        check_new(path, overwrite)
    check_writable(out.parent)
    if truth is not None:
        check_writable(truth)
        check_empty(truth, overwrite, "masks")
    write_demo(out, frames, (width, height), prompts, truth, objects)
    typer.echo(f"{out}: {frames} frames, {width}x{height}\n{prompts}: a box for each object of the first frame")


def write_demo(
    out: Path,
    frames: int = 90,
    size_wh: tuple[int, int] = (854, 480),
    prompts: Path | None = None,
    truth: Path | None = None,
    objects: int = 3,
) -> Path:
    """Write the clip and, if paths are given, a file of prompts and a folder of ground-truth masks."""
    from samvideo.demo import demo_frames
    from samvideo.geometry import mask_box
    from samvideo.io.masks import index_map, write_index_png
    from samvideo.io.sink import VideoWriter

    if truth:
        truth.mkdir(parents=True, exist_ok=True)
    with VideoWriter(out, size_wh, Fraction(25)) as writer:
        for index, (rgb, masks) in enumerate(demo_frames(frames, size_wh, objects)):
            writer.write(rgb, index / 25)
            if truth:
                write_index_png(truth / f"{index:05d}.png", index_map(masks, range(1, len(masks) + 1)))
            if index == 0 and prompts:
                boxes = [(row + 1, mask_box(mask)) for row, mask in enumerate(masks)]
                entries = [{"object_id": i, "frame": 0, "box": box} for i, box in boxes if box]
                prompts.write_text(json.dumps({"prompts": entries}, indent=2) + "\n", encoding="utf-8")
    return out
