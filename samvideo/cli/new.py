"""`samvideo new`."""

from pathlib import Path

import typer

from samvideo.cli.common import verb


@verb
def new(
    kind: str = typer.Argument(help="encoder, policy or dataset."),
    name: str = typer.Argument(help="Of the component, such as my-net."),
    out: Path | None = typer.Option(None, "-o", "--out", metavar="FOLDER", help="New folder [samvideo-NAME]."),
) -> None:
    """Write the package of a plug-in: an encoder, memory policy or data set of your own, with tests that pass."""
    from samvideo.scaffold import write_plugin

    folder = write_plugin(kind, name, out)
    typer.echo(f"{folder}: pip install -e {folder} makes samvideo find {name!r}; README.md says what is next")
