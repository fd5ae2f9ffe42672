"""`samvideo report`: compare evaluations on one page."""

from pathlib import Path

import typer

from samvideo.cli.common import verb


@verb
def report(
    results: list[Path] = typer.Argument(help="results.json files of `evaluate` or `score`, or their folders."),
    out: Path = typer.Option(
        Path("report.html"), "-o", "--out", help="The page; tables are written beside it, .md and .tex."
    ),
    charts: Path | None = typer.Option(None, help="Folder for the charts as SVG files."),
) -> None:
    """Compare evaluations with each other and with published numbers."""
    from samvideo.evaluation.report import write_report

    for path in write_report(results, out, charts):
        typer.echo(f"written to {path}")
