"""`samvideo export`: convert a run to the format of another tool."""

from pathlib import Path

import typer

from samvideo.cli.common import FIRST_HELP, completing, verb


@verb
def export(
    run: Path = typer.Argument(metavar="OUT_DIR", help="The folder that `samvideo track` wrote."),
    format: str = typer.Option(
        ..., "--format", "-f", help="One of {formats}.", autocompletion=completing("formats")
    ),
    out: Path | None = typer.Option(None, "-o", "--out", help="File or folder to write [OUT_DIR/FORMAT…]."),
    video: str | None = typer.Option(None, help="The source video; needed for cut-outs."),
    first: int | None = typer.Option(None, "--from", min=0, metavar="FRAME", help=FIRST_HELP),
    label: list[str] = typer.Option(
        [], metavar="ID=NAME", help="Class of an object: 1=grasper [its label]. Repeatable."
    ),
    strip_source: bool = typer.Option(False, "--strip-source", help="Omit the name of the source."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace existing files."),
) -> None:
    """Convert a run for COCO tools, CVAT, Label Studio, video editors and others."""
    from samvideo.cli.analyze import parse_labels
    from samvideo.exports import export_run

    written = export_run(
        run,
        format,
        out,
        video=video,
        first=first,
        labels=parse_labels(label),
        strip_source=strip_source,
        overwrite=overwrite,
    )
    typer.echo(f"written to {written}", err=True)
