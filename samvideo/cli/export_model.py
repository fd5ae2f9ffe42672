"""`samvideo export-model`: a model as graphs for other runtimes."""

from pathlib import Path

import typer

from samvideo.cli.common import verb
from samvideo.cli.models import WEIGHTS_HELP
from samvideo.cli.policies import POLICY_HELP, check_policy
from samvideo.cli.weights import download_progress
from samvideo.errors import ConfigError

FORMATS = ("onnx",)


@verb
def export_model(
    model: str | None = typer.Argument(None, help="A published model, or NAME=FILE [what --weights holds]."),
    weights: Path | None = typer.Option(None, help=WEIGHTS_HELP),
    out: Path = typer.Option(..., "-o", "--out", metavar="DIR", help="Folder to write."),
    to: str = typer.Option("onnx", help=f"Format of the graphs: {', '.join(FORMATS)}."),
    policy: str | None = typer.Option(None, help=POLICY_HELP),
    size: int | None = typer.Option(None, min=64, help="Side of the input in pixels [the model's own]."),
    objects: int | None = typer.Option(None, min=1, help="Graphs take exactly so many objects at a time [any]."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier export."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Export a model, to track or segment with `--runtime onnx --weights DIR` or elsewhere."""
    if to not in FORMATS:
        raise ConfigError(f"no format of graphs is called {to!r}: {', '.join(FORMATS)} expected")
    if model is None and weights is None:
        raise ConfigError("name a model, such as edgetam, or give --weights FILE")
    policy = check_policy(policy)
    from samvideo.io.files import check_empty, check_writable

    check_empty(out, overwrite, "export")
    check_writable(out)
    from samvideo.checkpoints import load_any
    from samvideo.deploy.bundle import export_model as write
    from samvideo.image_model import ImageModel

    with download_progress((model or "").partition("=")[0], quiet=quiet) as progress:
        loaded = load_any(model, weights=weights, policy=policy, input_size=size, progress=progress.advance)
    if not isinstance(loaded, ImageModel):
        raise ConfigError(
            f"{loaded.name} cannot be exported: it has a network of its own, not an encoder with SAM's heads"
        )
    write(loaded, out, objects=objects, progress=lambda name: None if quiet else typer.echo(name, err=True))
    if not quiet:
        typer.echo(f"written to {out}", err=True)
