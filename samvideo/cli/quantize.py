"""`samvideo quantize`: a model with weights and activations of few bits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from samvideo.cli.common import verb
from samvideo.cli.models import WEIGHTS_HELP
from samvideo.cli.weights import download_progress
from samvideo.errors import ConfigError

if TYPE_CHECKING:
    from samvideo.calibrate import Shot
    from samvideo.compress.fake import FakeQuantised
    from samvideo.image_model import ImageModel
    from samvideo.types import BoolArray

METHODS = ("minmax", "dynamic", "w8a8", "ptq4sam", "pqsam")
METHOD_HELP = f"How ranges are found: {', '.join(METHODS)}."
CALIBRATE_HELP = "A video, picture, or folder of pictures or of images/ and masks/. Repeatable."
BUDGET_HELP = "Give each layer 4, 6 or 8 bits by what it costs, with so many per weight on average [all --bits]."
SENSITIVITY_HELP = "Print so many of the layers that cost most mask IoU when they alone are quantised."


@verb
def quantize(
    model: str | None = typer.Argument(None, help="A model, or NAME=FILE [what --weights holds]."),
    weights: Path | None = typer.Option(None, help=WEIGHTS_HELP),
    method: str = typer.Option("w8a8", help=METHOD_HELP),
    bits: int = typer.Option(8, min=2, max=16, help="Of weights and activations."),
    calibrate: list[Path] = typer.Option(..., metavar="PATH", help=CALIBRATE_HELP),
    out: Path = typer.Option(..., "-o", "--out", metavar="FILE", help="Write this .safetensors file."),
    budget: float | None = typer.Option(None, metavar="BITS", help=BUDGET_HELP),
    sensitivity: int = typer.Option(0, min=0, metavar="N", help=SENSITIVITY_HELP),
    pictures: int = typer.Option(16, min=1, help="Pictures of each folder to calibrate with."),
    frames: int = typer.Option(8, min=1, help="Frames of each video to calibrate with."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the file if it exists."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print nothing but the table of --sensitivity."),
) -> None:
    """Quantise a model, and say what that costs in masks; the file is used as --weights FILE.

    In PyTorch, its values are those of integers, but computed in floating point: no faster, to see what they cost.
    """
    _check(model, weights, method, out, overwrite)
    from samvideo.calibrate import mean_iou, read_shots, true_masks
    from samvideo.compress.fake import quantise
    from samvideo.compress.quantised import METHODS as CLASSES
    from samvideo.compress.quantised import Base
    from samvideo.weights.naming import split_name

    loaded = _load(model, weights, quiet)
    base = Base(loaded, split_name(model or "", weights)[1])
    shots = read_shots(calibrate, loaded, pictures=pictures, frames=frames)
    say: Callable[[str], None] = (lambda text: None) if quiet else partial(typer.echo, err=True)
    with _running(loaded, shots, quiet) as run:
        before, truth = run(), true_masks(loaded, shots)

        def score() -> float:
            return mean_iou(run(), before)

        if budget is None:
            quantised, chosen = quantise(loaded, CLASSES[method](bits), run), None
        else:
            quantised, chosen = _mixed(loaded, CLASSES[method], run, score, budget, say)
        base.save(out, loaded, method, quantised)
        after = run()
        table = _table(quantised, score, chosen, sensitivity) if sensitivity else []
    _report(say, quantised, mean_iou(after, before), [mean_iou(x, truth) for x in (before, after) if truth])
    typer.echo("".join(f"{line}\n" for line in table), nl=False)
    say(f"written to {out}; quantised values are computed in floating point")


@contextmanager
def _running(model: "ImageModel", shots: "list[Shot]", quiet: bool) -> "Iterator[Callable[[], list[BoolArray]]]":
    """What runs the model on the shots, with progress."""
    from samvideo.calibrate import predict
    from samvideo.cli.progress import VideoProgress

    with VideoProgress("frames", quiet=quiet) as progress:
        yield lambda: predict(model, shots, partial(progress.advance, ""))


def _check(model: str | None, weights: Path | None, method: str, out: Path, overwrite: bool) -> None:
    """Raise ConfigError or OutputError for options that cannot work, before anything is loaded."""
    if method not in METHODS:
        raise ConfigError(f"no method is called {method!r}: {', '.join(METHODS)} expected")
    if model is None and weights is None:
        raise ConfigError("name a model, such as edgetam, or give --weights FILE")
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out} is to be a file ending in .safetensors")
    from samvideo.io.files import check_new, check_writable

    check_new(out, overwrite)
    check_writable(out.parent)


def _report(say: Callable[[str], None], quantised: "FakeQuantised", kept: float, true: list[float]) -> None:
    """What was lost, where it was calibrated; `true` are the IoUs with the annotation before and after, if any."""
    say(f"mask IoU with the model before, on what it was calibrated with: {kept:.4f}")
    if true:
        say(f"mask IoU with the annotation: {true[1]:.4f}, before {true[0]:.4f}")
    for name in quantised.left:
        say(f"stays in floating point: {name}")


def _load(model: str | None, weights: Path | None, quiet: bool) -> "ImageModel":
    from samvideo.checkpoints import load_any
    from samvideo.image_model import ImageModel

    with download_progress((model or "").partition("=")[0], quiet=quiet) as progress:
        loaded = load_any(model, weights=weights, progress=progress.advance)
    if not isinstance(loaded, ImageModel):
        raise ConfigError(f"{model} cannot be quantised: a SAM or a video model expected")
    return loaded


def _mixed(
    model: "ImageModel",
    method: Callable[[int], Any],
    run: Callable[[], object],
    score: Callable[[], float],
    budget: float,
    say: Callable[[str], None],
) -> "tuple[FakeQuantised, dict[str, int]]":
    from samvideo.compress.mixed import mean_bits, quantise_mixed

    quantised, chosen = quantise_mixed(model, method, run, score, budget)
    sizes = {site.name: site.layer.weight.numel() for site in quantised.sites if site.layer is not None}
    for count in sorted(set(chosen.values())):
        say(f"{list(chosen.values()).count(count)} layers with {count} bits")
    say(f"{mean_bits(chosen, sizes):.2f} bits per weight")
    return quantised, chosen


def _table(
    quantised: "FakeQuantised", score: Callable[[], float], chosen: dict[str, int] | None, rows: int
) -> list[str]:
    from samvideo.compress.fake import sensitivity

    lines = ["loss    layer"]
    for name, loss in sensitivity(quantised, score)[:rows]:
        lines.append(f"{loss:6.4f}  {name}{f'  {chosen[name]} bits' if chosen and name in chosen else ''}")
    return lines
