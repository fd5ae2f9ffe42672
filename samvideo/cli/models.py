"""`samvideo models`, and how a model is chosen and made ready."""

from typing import TYPE_CHECKING

import typer

from samvideo.cli.common import verb
from samvideo.cli.weights import fetch_with_progress

if TYPE_CHECKING:
    from samvideo.trackers.base import Tracker


@verb
def models() -> None:
    """List the models: encoder, memory, parameters, input, licence, and whether the weights are cached."""
    from samvideo.models import count_spec_parameters
    from samvideo.specs import SPECS
    from samvideo.weights.catalog import CATALOG
    from samvideo.weights.fetch import cached_path

    rows = [("name", "encoder", "memory", "policy", "parameters", "input", "licence", "cached")]
    rows.append(("nano", "evidence", "crops", "-", "0.7 M", "any", "Apache-2.0", "built in"))
    rows.append(("flow", "evidence", "-", "-", "0", "any", "Apache-2.0", "built in"))
    for name, spec in SPECS.items():
        row = CATALOG[name]
        size = "x".join(map(str, spec.input_wh))
        parameters = f"{count_spec_parameters(spec) / 1e6:.1f} M"
        cached = "yes" if cached_path(row).exists() else "no"
        rows.append((name, spec.encoder, spec.memory, str(spec.policy), parameters, size, row.licence, cached))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for cells in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        typer.echo(line.rstrip())


def announce_choice(quiet: bool) -> str:
    """What `--model auto` means here, said in one line on stderr."""
    from samvideo.trackers.factory import choose_model

    name, reason = choose_model()
    if not quiet:
        typer.echo(f"model {name}: {reason}; --model NAME takes another (`samvideo models`)", err=True)
    return name


def ready_tracker(model: str, *, quiet: bool, **options: str | None) -> "Tracker":
    """A tracker whose weights, if they must be fetched, are fetched with a progress bar."""
    from samvideo.trackers.factory import create_tracker
    from samvideo.weights.catalog import CATALOG

    if model in CATALOG and options.get("weights") is None:
        from samvideo.torch_runtime import resolve_device

        resolve_device(options.get("device") or "auto", options.get("dtype") or "auto")  # before a long download
        fetch_with_progress(CATALOG[model], quiet=quiet)
    return create_tracker(model, **options)  # type: ignore[arg-type]
