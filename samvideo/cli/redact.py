"""`samvideo redact`: make tracked objects unrecognisable."""

from pathlib import Path

import typer

from samvideo.cli.common import FIRST_HELP, numbers, verb


@verb
def redact(
    run: Path = typer.Argument(metavar="OUT_DIR", help="The folder that `samvideo track` wrote."),
    video: str = typer.Option(..., help="The video that was tracked."),
    first: int | None = typer.Option(None, "--from", min=0, metavar="FRAME", help=FIRST_HELP),
    out: Path | None = typer.Option(None, "-o", "--out", metavar="FILE.mp4", help="[OUT_DIR/redacted.mp4]"),
    objects: str = typer.Option("", metavar="1,2", help="Redact only these objects [all]."),
    mode: str = typer.Option("blur", help="blur, pixelate or fill."),
    margin: int = typer.Option(8, help="Pixels to redact around the masks."),
    hold: int = typer.Option(5, help="Frames before and after to redact at the same position."),
    keep_sound: bool = typer.Option(
        False, "--keep-sound", help="Keep the audio; omitted by default because voices identify people."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing file."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No summary."),
) -> None:
    """Write the video with faces, names or other tracked objects blurred; review it before sharing it."""
    from samvideo.redaction import Redaction, redact_run

    redaction = Redaction(frozenset(numbers(objects, "--objects")), mode, margin, hold, keep_sound)
    target = out or (run if run.is_dir() else run.parent) / "redacted.mp4"
    done = redact_run(run, video, target, redaction, first=first, overwrite=overwrite)
    if not quiet:
        left_out = max(0, (done.video_frames or 0) - done.frames)
        rest = f"; {left_out} frames of the video were not tracked and are left out" if left_out else ""
        typer.echo(
            f"{target}: {done.frames} frames, {done.unmasked} of them with nothing to redact{rest}", err=True
        )
