"""`samvideo search`: a vision transformer that is as fast as wanted on this machine."""

from pathlib import Path

import typer

from samvideo.cli.common import verb
from samvideo.cli.models import WEIGHTS_HELP
from samvideo.cli.slimming import (
    DATA_HELP,
    HELD_HELP,
    MODEL_HELP,
    OUT_HELP,
    STEPS_HELP,
    TEST_HELP,
    check_target,
    finish,
    load_sam,
    training_report,
)
from samvideo.errors import ConfigError

SHARE_HELP = "The encoder's milliseconds, as a share of what they are now [0.6]."


@verb
def search(
    model: str | None = typer.Argument(None, help=MODEL_HELP),
    weights: Path | None = typer.Option(None, help=WEIGHTS_HELP),
    data: Path = typer.Option(..., metavar="DIR", help=DATA_HELP),
    out: Path = typer.Option(..., "-o", "--out", metavar="FILE", help=OUT_HELP),
    budget_ms: float | None = typer.Option(None, min=0.0, help="The encoder's milliseconds for one picture."),
    budget_share: float | None = typer.Option(None, min=0.0, max=1.0, help=SHARE_HELP),
    generations: int = typer.Option(12, min=1, help="Of the evolution, of 24 candidates each."),
    images: int = typer.Option(16, min=1, help="Pictures on which candidates are compared."),
    steps: int = typer.Option(1000, min=0, help=STEPS_HELP),
    batch: int = typer.Option(4, min=1, help="Pictures of a step."),
    rate: float = typer.Option(1e-4, min=0.0, help="Learning rate at the beginning."),
    test: Path | None = typer.Option(None, metavar="DIR", help=TEST_HELP),
    held: int = typer.Option(32, min=1, help=HELD_HELP),
    seed: int = typer.Option(0, min=0, max=2**31 - 1, help="Of everything random; times are measured."),
    device: str = typer.Option("cpu", help="cpu or cuda."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the file if it exists."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Neither progress nor the table."),
) -> None:
    """Choose blocks and widths of MLPs of a vision transformer under a budget of time, as SuperSAM; then distil."""
    if budget_ms is not None and budget_share is not None:
        raise ConfigError("the budget is given twice: leave --budget-ms or --budget-share out")
    from samvideo.cli.progress import VideoProgress
    from samvideo.comparison import Comparison, Pictures, open_data
    from samvideo.compress.distil import Training, distil
    from samvideo.compress.search import Search, part_of, search_encoder

    loaded, source = load_sam(model, weights, device, quiet=quiet)
    check_target(out, overwrite, source)
    found = open_data(data, held, test)
    comparison, pictures = Comparison(loaded, found), Pictures(found.learned, loaded)
    teacher = loaded.encoder
    share = 0.6 if budget_share is None else budget_share
    settings = Search(generations=generations, images=images, seed=seed)
    with VideoProgress("search", quiet=quiet) as progress:
        report = training_report(progress, "error")
        best = search_encoder(
            teacher, pictures, budget_ms=budget_ms, budget_share=share, search=settings, report=report
        )
    encoder = part_of(teacher, best.candidate)
    comparison.add("searched", encoder)
    if not quiet:
        shown = ", ".join("-" if width is None else str(width) for width in best.candidate)
        typer.echo(f"{best.ms:.1f} of {best.whole_ms:.1f} ms; widths of MLPs: {shown}", err=True)
    if steps:
        with VideoProgress("distillation", quiet=quiet) as progress:
            training = Training(steps, batch, rate, seed)
            distil(encoder, teacher, pictures, training, report=training_report(progress))
        comparison.add("distilled", encoder)
    finish(out, comparison, encoder, source, blocks=best.blocks, quiet=quiet)
