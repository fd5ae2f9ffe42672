"""`samvideo prune`: a narrower vision transformer."""

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

KEEP_HELP = "Share of every width that stays; weights and work shrink by about its square."


@verb
def prune(
    model: str | None = typer.Argument(None, help=MODEL_HELP),
    weights: Path | None = typer.Option(None, help=WEIGHTS_HELP),
    data: Path = typer.Option(..., metavar="DIR", help=DATA_HELP),
    out: Path = typer.Option(..., "-o", "--out", metavar="FILE", help=OUT_HELP),
    keep: float = typer.Option(0.5, help=KEEP_HELP),
    uneven: bool = typer.Option(False, "--uneven", help="Rank the channels within all blocks together."),
    steps: int = typer.Option(2000, min=0, help=STEPS_HELP),
    batch: int = typer.Option(4, min=1, help="Pictures of a step."),
    rate: float = typer.Option(1e-4, min=0.0, help="Learning rate at the beginning."),
    test: Path | None = typer.Option(None, metavar="DIR", help=TEST_HELP),
    held: int = typer.Option(32, min=1, help=HELD_HELP),
    seed: int = typer.Option(0, min=0, max=2**31 - 1, help="Of everything random."),
    device: str = typer.Option("cpu", help="cpu or cuda."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the file if it exists."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Neither progress nor the table."),
) -> None:
    """Make a vision transformer narrower as SlimSAM does: cut what matters least, and distil, twice."""
    from samvideo.cli.progress import VideoProgress
    from samvideo.comparison import Comparison, Pictures, open_data
    from samvideo.compress.distil import Training
    from samvideo.compress.prune import Pruning
    from samvideo.compress.prune import prune as stages

    pruning = Pruning(keep, uneven)
    loaded, source = load_sam(model, weights, device, quiet=quiet)
    check_target(out, overwrite, source)
    found = open_data(data, held, test)
    comparison = Comparison(loaded, found)
    training, encoder = Training(steps, batch, rate, seed), loaded.encoder
    with VideoProgress("distillation", quiet=quiet) as progress:
        pictures = Pictures(found.learned, loaded)
        for stage in stages(encoder, pictures, pruning, training, training_report(progress)):
            row = comparison.add(stage.name, encoder := stage.encoder)
            if not quiet:
                typer.echo(f"{row.stage}: {row.parameters:.2f} M parameters, error {row.error:.4f}", err=True)
    finish(out, comparison, encoder, source, blocks=None, quiet=quiet)
