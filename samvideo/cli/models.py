"""`samvideo models`, and how the commands choose and load a model."""

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from samvideo.cli.common import verb
from samvideo.cli.policies import echo_policies
from samvideo.cli.weights import download_progress

if TYPE_CHECKING:
    from samvideo.segmenters.base import Segmenter
    from samvideo.segmenters.specs import ModelFacts
    from samvideo.trackers.base import Tracker

MODEL_HELP = "auto, {trackers} (no download), one of `samvideo models`, or NAME=FILE."
COMPILE_HELP = "Compile the network: the first frames take a minute or more, the others less."
WEIGHTS_HELP = "Read the model from this file (.pt, .pth, .safetensors); random: untrained weights."
RUNTIME_HELP = (
    "torch, onnx (ONNX Runtime) or openvino, both without torch, with the folder of `samvideo export-model` as "
    "--weights, or a model that is exported once."
)

_choice: ContextVar[str] = ContextVar("choice", default="")
"""The line that `announce_choice` prints."""


@verb
def models(
    parts: bool = typer.Option(False, "--parts", help="List the parts that models are made of instead."),
    policies: bool = typer.Option(False, "--policies", help="Explain the memory policies instead."),
) -> None:
    """List the models, with licence and whether their weights are cached."""
    if policies:
        echo_policies()
        return
    if parts:
        _echo_parts()
        return
    from samvideo.segmenters.specs import SEGMENTERS
    from samvideo.trackers.specs import TRACKERS

    trackers = TRACKERS.all()
    _echo_table((name, spec.facts()) for name, spec in trackers.items())
    typer.echo("\nImage models; also for the first mask of a video. The video models above segment images, too.")
    segmenters = SEGMENTERS.all().items()
    _echo_table((name, spec.facts()) for name, spec in segmenters if name not in trackers)
    typer.echo("\nencoders, memory methods and policies to combine: samvideo models --parts, and --policies")


def _echo_parts() -> None:
    """Print the names of what `samvideo.build` combines. Imports torch, which takes seconds."""
    from samvideo.registry import ENCODERS, MEMORY_METHODS, MEMORY_POLICIES

    for title, parts in (("encoders", ENCODERS), ("memory", MEMORY_METHODS), ("policies", MEMORY_POLICIES)):
        typer.echo(f"{title + ':':9} {', '.join(parts.all())}")


def _echo_table(facts: Iterable[tuple[str, "ModelFacts"]]) -> None:
    """Print a row for each model, under the names of the fields of its facts; without fields that none has."""
    named = [{"name": name, **asdict(row)} for name, row in facts]
    columns = [key for key in named[0] if any(row[key] != "-" for row in named)]
    rows = [columns, *([row[key] for key in columns] for row in named)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        typer.echo(line.rstrip())


def choose_model(model: str, weights: Path | None, device: str, *, quiet: bool) -> tuple[str, Path | None]:
    """Name and weights of the model to use; what `auto` means here is printed by `announce_choice`."""
    from samvideo.trackers.factory import choose
    from samvideo.weights.naming import split_name

    model, weights = split_name(model, weights)
    choice = choose(model, weights=weights, device=device)
    name = choice.tracker.name
    text = f"model {name}: {choice.reason}; choose another with --model NAME (`samvideo models`)"
    _choice.set(text if choice.reason and not quiet else "")
    return name, weights


def announce_choice() -> None:
    """Print on stderr, once, what `auto` means; called after the checks of a run, whose errors then come alone."""
    if text := _choice.get():
        typer.echo(text, err=True)
        _choice.set("")


def with_runtime(options: Mapping[str, Any], runtime: str, compiled: bool = False) -> dict[str, Any]:
    """Options with runtime and --compile where they differ from the default; ConfigError for an unknown one."""
    from samvideo.deploy.runtimes import TORCH, check_runtime

    check_runtime(runtime)
    chosen: dict[str, Any] = {} if runtime == TORCH else {"runtime": runtime}
    return {**options, **chosen, **({"compiled": True} if compiled else {})}


def ready_segmenter(model: str, options: Mapping[str, str | None]) -> "Segmenter":
    """Create the segmenter of a tracker whose weights are there."""
    from samvideo.trackers.factory import create_segmenter
    from samvideo.trackers.specs import TrackerOptions

    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    runtime = given.pop("runtime", "torch")
    if "weights" in given:
        given["weights"] = Path(given["weights"])
    return create_segmenter(model, TrackerOptions(**given), runtime)


def ready_tracker(model: str, *, quiet: bool, first_mask: str | None = None, **options: str | None) -> "Tracker":
    """Create a tracker; if its weights or those of its segmenter must be downloaded, show a progress bar."""
    from samvideo.trackers.factory import create_tracker

    segmenter = None
    if first_mask is not None:
        places: dict[str, Any] = {key: value for key, value in options.items() if key in ("device", "dtype")}
        segmenter = image_segmenter(first_mask, quiet=quiet, **places)
    with download_progress(model, quiet=quiet) as progress:
        return create_tracker(
            model,
            first_mask=segmenter,
            progress=progress.advance,
            **options,  # type: ignore[arg-type]
        )


def image_segmenter(name: str, *, quiet: bool, **options: Any) -> "Segmenter":
    """`load_segmenter`; if weights must be downloaded, show a progress bar."""
    from samvideo.segmenters.factory import load_segmenter

    with download_progress(name.partition("=")[0], quiet=quiet) as progress:
        return load_segmenter(name, progress=progress.advance, **options)
