"""`samvideo weights`: the published checkpoints and the cache."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from samvideo.cli.common import verb

if TYPE_CHECKING:
    from samvideo.weights.catalog import Checkpoint

weights = typer.Typer(
    help="List, fetch and verify published checkpoints.", no_args_is_help=True, rich_markup_mode=None
)


@weights.command("list")
@verb
def list_weights() -> None:
    """Every published checkpoint: size, licence, where it comes from, and whether it is cached."""
    from samvideo.weights.catalog import CATALOG
    from samvideo.weights.fetch import cached_path

    for row in CATALOG.values():
        state = "cached" if cached_path(row).exists() else "" if row.url else "local file only"
        typer.echo(f"{row.name:20} {row.megabytes:4} MB  {row.licence:12} {row.origin:28} {state}".rstrip())


@weights.command("get")
@verb
def get_weights(
    names: list[str] = typer.Argument(help="Names from `samvideo weights list`."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Fetch checkpoints into the cache; an interrupted download goes on where it stopped."""
    from samvideo.weights.catalog import checkpoint

    for row in [checkpoint(name) for name in names]:
        typer.echo(fetch_with_progress(row, quiet=quiet))


@weights.command("verify")
@verb
def verify_weights(names: list[str] = typer.Argument(None, help="Default: all that are cached.")) -> None:
    """Hold cached files to their published checksums, or to those of their first download."""
    from samvideo.errors import WeightsError
    from samvideo.weights.catalog import CATALOG, checkpoint
    from samvideo.weights.fetch import cached_path, verify

    rows = [checkpoint(name) for name in names or []] or [r for r in CATALOG.values() if cached_path(r).exists()]
    failures = []
    for row in rows:
        try:
            verify(row)
            typer.echo(f"{row.name:20} good")
        except WeightsError as error:
            typer.echo(f"{row.name:20} BAD")
            failures.append(error)
    if failures:
        raise WeightsError("; ".join(map(str, failures)))
    if not rows:
        typer.echo("nothing is cached", err=True)


@weights.command("where")
@verb
def where() -> None:
    """Print the cache folder; SAMVIDEO_HOME moves it."""
    from samvideo.weights.fetch import weights_folder

    typer.echo(weights_folder())


def fetch_with_progress(row: "Checkpoint", *, quiet: bool) -> Path:
    """Fetch one checkpoint; says its size and licence before the first download, and draws a bar on stderr."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    from samvideo.weights.fetch import cached_path, fetch

    if cached_path(row).exists() or row.url is None:
        return fetch(row)
    typer.echo(f"fetching {row.name}: about {row.megabytes} MB from {row.origin}, licence {row.licence}", err=True)
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(row.file_name, total=None)
        return fetch(row, progress=lambda have, total: bar.update(task, completed=have, total=total))
