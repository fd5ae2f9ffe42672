"""`samvideo bench`: how fast the models are on this machine."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import typer

from samvideo.cli.common import verb
from samvideo.errors import ConfigError


@verb
def bench(
    models: list[str] = typer.Argument(None, help="Names from `samvideo models` [edgetam]."),
    sizes: str = typer.Option("", "--sizes", metavar="512,1024", help="Input sides [the model's own]."),
    dtypes: str = typer.Option("auto", "--dtypes", metavar="fp32,bf16", help="auto, fp32, bf16, fp16."),
    devices: str = typer.Option("auto", "--devices", metavar="cpu,cuda", help="auto, cpu, cuda, mps."),
    objects: str = typer.Option("1", "--objects", metavar="1,2,4", help="How many objects are followed."),
    prompted: str = typer.Option("1", "--prompted", metavar="1,2,4", help="How many first frames are prompted."),
    frames: int = typer.Option(6, min=1, help="Frames that are timed."),
    warmup: int = typer.Option(8, min=1, help="Frames before those; 8 fill the memory of frames."),
    source: str | None = typer.Option(None, help="A video [a synthetic clip of 854x480]."),
    weights: Path | None = typer.Option(None, help="A checkpoint [random weights, which take the same time]."),
    peer: str | None = typer.Option(None, help="transformers: Hugging Face's model beside ours, frame by frame."),
    peer_dtype: str = typer.Option("fp32", help="What the peer computes in: fp32, its default, bf16, or same."),
    threads: int | None = typer.Option(None, min=1, help="Threads of the CPU [PyTorch's choice]."),
    out: Path | None = typer.Option(None, "-o", "--out", help="Write the numbers here, JSON."),
    plot: Path | None = typer.Option(None, help="Draw speed, and accuracy where it is known, here, SVG."),
    accuracy: list[Path] = typer.Option([], help="results.json of `evaluate`, for the plot. Repeatable."),
    as_json: bool = typer.Option(False, "--json", help="Print the numbers as one object on stdout."),
) -> None:
    """Time models on a clip: per frame, stage by stage, FLOPs, share of the machine's peak, memory, and a peer."""
    from samvideo.evaluation.threads import limit_loaded

    if peer_dtype not in ("fp32", "bf16", "fp16", "same"):
        raise ConfigError(f"--peer-dtype is fp32, bf16, fp16 or same, not {peer_dtype!r}")
    counts, said = numbers(objects, "--objects"), numbers(prompted, "--prompted")
    sides: list[int | None] = [*numbers(sizes, "--sizes")] or [None]

    from samvideo.evaluation.bench import HEADER
    from samvideo.evaluation.bench import bench as run_bench
    from samvideo.evaluation.bench_inputs import Case, Plan

    if threads is not None:
        limit_loaded(threads)
    asked = product(models or ["edgetam"], sides, words(devices), words(dtypes), counts, said)
    cases = [Case(*choice) for choice in asked]
    plan = Plan(frames, warmup, source, weights, peer, peer_dtype)

    def say(text: str) -> None:
        if not as_json:
            typer.echo(text)

    say(HEADER)
    document = run_bench(cases, plan, say)
    text = json.dumps(document, indent=2) + "\n"
    if out is not None:
        out.write_text(text)
    if plot is not None:
        _write_plot(plot, document, accuracy)
    if as_json:
        typer.echo(text, nl=False)


def _write_plot(path: Path, document: dict[str, Any], accuracy: list[Path]) -> None:
    from samvideo.evaluation.bench_chart import (
        draw,
    )  # after the measurement: it loads matplotlib, which takes memory

    path.write_text(draw(document, accuracy), encoding="utf-8")


def words(text: str) -> list[str]:
    """`cpu, cuda` as a list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str, option: str) -> list[int]:
    """`1,2` as numbers.

    Raises:
        ConfigError: anything else.
    """
    if not all(part.isdecimal() and int(part) > 0 for part in words(text)):
        raise ConfigError(f"{option} takes numbers from 1, separated by commas, not {text!r}")
    return [int(part) for part in words(text)]
