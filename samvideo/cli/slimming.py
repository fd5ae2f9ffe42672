"""What `prune` and `search` share: options, loading, progress."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from samvideo.cli.weights import download_progress
from samvideo.errors import ConfigError

if TYPE_CHECKING:
    from samvideo.cli.progress import VideoProgress
    from samvideo.comparison import Comparison
    from samvideo.encoders.base import ImageEncoder
    from samvideo.image_model import ImageModel

MODEL_HELP = "A model with a plain ViT, SAM's ViT or Hiera, or NAME=FILE [what --weights holds]."
DATA_HELP = "Folder of pictures; of its folders {images,masks}, objects are prompted by boxes for the table."
STEPS_HELP = "Steps of distillation, for which pictures need no masks; 0 for none."
TEST_HELP = "Folder of pictures for the table, as of --data [an eighth of --data, which is not learned from]."
HELD_HELP = "Pictures of the table at most."
OUT_HELP = "Weights to write, .safetensors; read them with --weights FILE."


def check_target(out: Path, overwrite: bool, source: Path | None) -> None:
    """Raise the errors of the file to write before the work."""
    from samvideo.io.files import check_new, check_writable

    if out.suffix != ".safetensors" or out.is_dir():
        raise ConfigError(f"{out}: a file ending in .safetensors expected")
    check_new(out, overwrite, keep=[] if source is None else [source])
    check_writable(out.parent)


def load_sam(
    model: str | None, weights: Path | None, device: str, *, quiet: bool
) -> tuple["ImageModel", Path | None]:
    """A model whose encoder can be cut, and the file that it was read from if one was given."""
    from samvideo.checkpoints import load_any
    from samvideo.compress.slim import check_source, find_transformer
    from samvideo.image_model import ImageModel
    from samvideo.torch_runtime import resolve_device
    from samvideo.weights.naming import is_random, split_name

    if model is None and weights is None:
        raise ConfigError("name a model, such as efficienttam-ti-512, or give --weights FILE")
    name, file = (None, weights) if model is None else split_name(model, weights)
    source = None if is_random(file) else file
    check_source(source)
    place, _ = resolve_device(device, "fp32")
    with download_progress(name or "", quiet=quiet) as progress:
        loaded = load_any(name, weights=file, progress=progress.advance)
    if not isinstance(loaded, ImageModel):
        raise ConfigError(f"{loaded.name} is a network of its own kind: a SAM or a video model expected")
    find_transformer(loaded.encoder)
    return loaded.to(place), source


def training_report(progress: "VideoProgress", name: str = "loss") -> Callable[[int, int, float], None]:
    """Show the steps of a distillation or search, and the value of that name."""
    return lambda step, total, value: progress.advance(f"{name} {value:.4f}", step, total)


def finish(
    out: Path,
    comparison: "Comparison",
    encoder: "ImageEncoder",
    source: Path | None,
    *,
    blocks: list[int] | None,
    quiet: bool,
) -> None:
    """Write the model with another encoder, measure its time, and print the table unless `quiet`.

    `blocks` are those that stayed, None for all.
    """
    from samvideo.comparison import table, with_encoder
    from samvideo.compress.slim import left_of, save_slim

    save_slim(out, with_encoder(comparison.model, encoder), source, left_of(encoder, blocks))
    if not quiet:
        comparison.time(encoder)
        typer.echo(table(comparison.rows))
        typer.echo(f"written to {out}", err=True)
