"""`samvideo bench`: the speed of models on this machine."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import typer

from samvideo.cli.common import comma_list, completing, numbers, verb
from samvideo.cli.models import COMPILE_HELP
from samvideo.cli.policies import POLICY_HELP, check_policies
from samvideo.errors import ConfigError

MODELS_HELP = "Names from `samvideo models`, or NAME=FILE [edgetam; sam-vit-b]."
EVERYTHING_HELP = (
    "Time the prompter grid, which finds all objects: against the network alone, and the peer's pipeline."
)
RUNTIMES_HELP = "Time the exported model on these, in fp32, the precision named or as in =DIR; and compare masks."


@verb
def bench(
    models: list[str] = typer.Argument(None, help=MODELS_HELP, autocompletion=completing("trackers")),
    sizes: str = typer.Option("", "--sizes", metavar="512,1024", help="Input sides [the model's own]."),
    dtypes: str = typer.Option("auto", "--dtypes", metavar="fp32,bf16", help="auto, fp32, bf16, fp16."),
    devices: str = typer.Option("auto", "--devices", metavar="cpu,cuda", help="auto, cpu, cuda, mps."),
    objects: str = typer.Option("1", "--objects", metavar="1,2,4", help="Number of tracked objects."),
    prompted: str = typer.Option("1", "--prompted", metavar="1,2,4", help="Number of prompted first frames."),
    policy: list[str] = typer.Option([], help=f"{POLICY_HELP} Repeatable: to time them alternately."),
    runtimes: str = typer.Option("", "--runtimes", metavar="torch,onnx=DIR,openvino:bf16", help=RUNTIMES_HELP),
    frames: int = typer.Option(6, min=1, help="Timed frames."),
    warmup: int = typer.Option(8, min=1, help="Frames before the timed ones; 8 fill the memory."),
    source: str | None = typer.Option(None, help="A video [a synthetic clip of 854x480]."),
    weights: Path | None = typer.Option(None, help="A checkpoint [random weights, which are as fast]."),
    peer: str | None = typer.Option(None, help="Time beside it: transformers, for encoders of images also timm."),
    everything: bool = typer.Option(False, "--everything", help=EVERYTHING_HELP),
    points_per_side: int = typer.Option(32, min=1, help="Clicks along each side, for --everything."),
    peer_dtype: str = typer.Option("fp32", help="Dtype of the peer: fp32 (its default), bf16, fp16 or same."),
    static_shapes: bool = typer.Option(False, "--static-shapes", help="Pad memories to a fixed capacity."),
    compiled: bool = typer.Option(False, "--compile", help=COMPILE_HELP),
    threads: int | None = typer.Option(None, min=1, help="CPU threads [PyTorch's default]."),
    out: Path | None = typer.Option(None, "-o", "--out", help="Write the numbers to this JSON file."),
    plot: Path | None = typer.Option(None, help="Draw speed, and accuracy if known, into this SVG file."),
    accuracy: list[Path] = typer.Option([], help="results.json of `evaluate` for the plot. Repeatable."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace these files if they exist."),
    as_json: bool = typer.Option(False, "--json", help="Print the numbers as one object on stdout."),
) -> None:
    """Time models: per frame and stage, with FLOPs, share of the machine's peak, memory, and a peer."""
    from samvideo.evaluation.threads import limit_loaded

    if peer_dtype not in ("fp32", "bf16", "fp16", "same"):
        raise ConfigError(f"--peer-dtype is fp32, bf16, fp16 or same, not {peer_dtype!r}")
    counts, prompted_frames = numbers(objects, "--objects"), numbers(prompted, "--prompted")
    sides: list[int | None] = [*numbers(sizes, "--sizes")] or [None]
    names, weights = _names_and_weights(models or ["sam-vit-b" if everything else "edgetam"], weights)
    from samvideo.evaluation.bench import bench as run_bench
    from samvideo.evaluation.bench_inputs import Case, Plan

    if everything and plot is not None:
        raise ConfigError("--plot draws the speed of encoders and trackers: leave it out with --everything")
    _check_files([out, plot], accuracy, overwrite)
    if threads is not None:
        limit_loaded(threads)
    places = product(
        names, sides, comma_list(devices), comma_list(dtypes), counts, prompted_frames, [check_policies(policy)]
    )
    points, others = points_per_side if everything else None, tuple(comma_list(runtimes))
    plan = Plan(frames, warmup, source, weights, peer, peer_dtype, static_shapes, others, points, compiled)
    echo = (lambda text: None) if as_json else typer.echo
    document = run_bench([Case(*place) for place in places], plan, echo)
    _write(document, out, plot, accuracy, as_json)


def _write(
    document: dict[str, Any], out: Path | None, plot: Path | None, accuracy: list[Path], as_json: bool
) -> None:
    """Write and print what was measured."""
    from samvideo.io.files import write_atomically

    text = json.dumps(document, indent=2) + "\n"
    if out is not None:
        write_atomically(out, text)
    if as_json:
        typer.echo(text, nl=False)
    if plot is not None:  # last: there may be nothing to draw
        from samvideo.evaluation.bench_chart import draw  # after the measurement: matplotlib takes memory

        write_atomically(plot, draw(document, accuracy))


def _names_and_weights(models: list[str], weights: Path | None) -> tuple[list[str], Path | None]:
    """Split what was given as NAME=FILE; all models are read from one file, or have random weights."""
    from samvideo.weights.naming import is_random, split_name

    named = [split_name(model, weights) for model in models]
    if len({file for _, file in named}) > 1:
        raise ConfigError("bench reads one checkpoint for all models: run it once for each NAME=FILE")
    file = named[0][1]
    return [name for name, _ in named], None if is_random(file) else file


def _check_files(targets: list[Path | None], accuracy: list[Path], overwrite: bool) -> None:
    """Raise the errors of files before the measurement."""
    from samvideo.evaluation.results import read_results
    from samvideo.io.files import check_new, check_writable

    for path in accuracy:
        read_results(path)
    for target in filter(None, targets):
        check_new(target, overwrite, keep=accuracy)
        if target.is_dir() or targets.count(target) > 1:
            raise ConfigError(f"{target} is not a valid path for a result: one file for each expected")
        check_writable(target.parent)
