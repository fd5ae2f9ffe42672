"""`samvideo redact`: tracked objects made unrecognisable."""

from pathlib import Path

import typer

from samvideo.cli.common import verb


@verb
def redact(
    run: Path = typer.Argument(metavar="OUT_DIR", help="The folder that `samvideo track` wrote."),
    video: str = typer.Option(..., help="The video that was tracked."),
    out: Path | None = typer.Option(None, "-o", "--out", metavar="FILE.mp4", help="[OUT_DIR/redacted.mp4]"),
    objects: str = typer.Option("", metavar="1,2", help="Redact these only [all]."),
    mode: str = typer.Option("blur", help="blur, pixelate or fill."),
    margin: int = typer.Option(8, help="Pixels around the masks that are redacted too."),
    hold: int = typer.Option(5, help="Frames before and after that are redacted at the same place too."),
    keep_sound: bool = typer.Option(False, "--keep-sound", help="Voices tell who speaks: left out unless wanted."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing file."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No summary."),
) -> None:
    """Write the video with faces, names or other tracked objects blurred; look it through before sharing it."""
    from samvideo.cli.evaluate import parse_objects
    from samvideo.redaction import Redaction, redact_run

    redaction = Redaction(frozenset(parse_objects(objects)), mode, margin, hold, keep_sound)
    target = out or (run if run.is_dir() else run.parent) / "redacted.mp4"
    done = redact_run(run, video, target, redaction, overwrite=overwrite)
    if not quiet:
        typer.echo(f"{target}: {done.frames} frames, {done.bare} of them with nothing to redact", err=True)
