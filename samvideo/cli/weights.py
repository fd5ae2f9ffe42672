"""`samvideo weights`: published checkpoints and their cache."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from samvideo.cli.common import verb

if TYPE_CHECKING:
    from samvideo.cli.progress import DownloadProgress

weights = typer.Typer(
    help="List, download, verify and convert published checkpoints.", no_args_is_help=True, rich_markup_mode=None
)


@weights.command("list")
@verb
def list_weights() -> None:
    """List the published checkpoints: size, licence, origin, and whether they are cached."""
    from samvideo.weights.catalog import CATALOG
    from samvideo.weights.fetch import cached_path

    for row in CATALOG.values():
        state = "cached" if cached_path(row).exists() else "" if row.url else "local file only"
        typer.echo(f"{row.name:20} {row.megabytes:4} MB  {row.licence:25} {row.origin:32} {state}".rstrip())


@weights.command("get")
@verb
def get_weights(
    names: list[str] = typer.Argument(help="Names from `samvideo weights list`."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Download checkpoints into the cache; an interrupted download is resumed."""
    from samvideo.weights.catalog import checkpoint
    from samvideo.weights.fetch import fetch

    for row in [checkpoint(name) for name in names]:
        with download_progress(row.name, quiet=quiet) as progress:
            typer.echo(fetch(row, progress=progress.advance))


@weights.command("verify")
@verb
def verify_weights(names: list[str] = typer.Argument(None, help="Default: all that are cached.")) -> None:
    """Hash cached files; compare them with published checksums, or with those of their first download."""
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


@weights.command("convert")
@verb
def convert_weights(
    source: Path = typer.Argument(metavar="IN", help="A checkpoint, or a folder with model.safetensors."),
    target: Path = typer.Argument(metavar="OUT", help="The folder for transformers, or the .pt file to write."),
    model: str | None = typer.Option(None, help="Whose weights these are [detected from keys and shapes]."),
    to: str | None = typer.Option(None, help="published or transformers [the one that IN is not]."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier conversion."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No line about what was written."),
) -> None:
    """Convert weights between a published checkpoint and a folder for Hugging Face transformers.

    SAM, SlimSAM, SAM 2, SAM 2.1 and EdgeTAM have both. Writing the folder needs the extra [detect].
    """
    from samvideo.interchange import convert

    done = convert(source, target, model=model, to=to, overwrite=overwrite)
    if not quiet:
        typer.echo(f"{done.model} in the layout {done.layout!r} written to {target}", err=True)


def download_progress(name: str, *, quiet: bool) -> "DownloadProgress":
    """Show a download: first size and licence of the weights, then a bar; nothing if there is none."""
    from samvideo.cli.progress import DownloadProgress
    from samvideo.weights.catalog import CATALOG

    row = CATALOG.get(name)
    if row is None:
        return DownloadProgress(name, f"downloading the weights of {name}", quiet=quiet)
    announcement = f"downloading {name}: about {row.megabytes} MB from {row.origin}, licence {row.licence}"
    return DownloadProgress(row.file_name, announcement, quiet=quiet)
