"""`samvideo evaluate`: a model over a benchmark."""

from functools import partial
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from samvideo.cli.common import verb
from samvideo.errors import ConfigError

DATASETS = "davis2016, davis2017, sav, youtubevos, mose, lvos, endovis, cholecseg8k, folder"
PROTOCOLS = "mask, box, click1, click3, click5 on first appearance; online, offline: corrected where worst."


class EvaluateCommand(TyperCommand):
    """Lets `--ray` stand without an address, which typer's options cannot."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a `--ray` that is followed by nothing or by another option the address of a cluster made here."""
        following = [*args[1:], "-"]
        told = [
            "--ray=local" if a == "--ray" and b.startswith("-") else a for a, b in zip(args, following, strict=True)
        ]
        return super().parse_args(ctx, told)


@verb
def evaluate(
    dataset: str = typer.Argument(help=f"One of {DATASETS}."),
    root: Path = typer.Argument(help="Its folder, laid out as published."),
    split: str | None = typer.Option(None, help="Part of the data set [its validation split]."),
    model: str = typer.Option("nano", help="nano, flow, or any model that `track` knows."),
    weights: Path | None = typer.Option(None, help="A file to read the model from."),
    out: Path = typer.Option(..., "-o", "--out", help="Folder for masks and results; an unfinished run goes on."),
    protocol: str = typer.Option("mask", help=PROTOCOLS),
    objects: str | None = typer.Option(None, metavar="1,2", help="Follow and score these objects only."),
    sequences: str | None = typer.Option(None, metavar="A,B", help="Run these sequences only."),
    limit: int | None = typer.Option(None, min=1, help="Run the first N sequences only."),
    workers: int | None = typer.Option(
        None, min=1, help="Processes on this machine, or actors on the cluster [1]."
    ),
    ray: str | None = typer.Option(
        None,
        "--ray",
        metavar="[ADDRESS]",
        help="Run on this Ray cluster (auto: the one around), or start one here.",
    ),
    threads: int = typer.Option(1, min=1, help="Threads of each worker."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress, no summary."),
) -> None:
    """Run a model over a benchmark; the same command goes on where a run was cut off."""
    from samvideo.evaluation.threads import limit_unloaded

    limit_unloaded(threads)  # before anything that loads NumPy
    from samvideo.cli.scores import VideoProgress, summary
    from samvideo.evaluation.evaluate import Evaluation, choose_sequences, exit_code_of
    from samvideo.evaluation.evaluate import evaluate as run_evaluation
    from samvideo.evaluation.shard import LocalPool, Pool, RayPool, run_here
    from samvideo.evaluation.video import Task
    from samvideo.trackers.factory import create_tracker

    opened = Task(dataset, root, split or "", protocol, out).open()
    task = Task(dataset, root, opened.split, protocol, out, parse_objects(objects), threads)
    names = choose_sequences(opened, [part for part in (sequences or "").split(",") if part], limit)
    pool: Pool = run_here
    if ray is not None:
        pool = RayPool(None if ray == "local" else ray, workers)
    elif workers is not None and workers > 1:
        pool = LocalPool(workers)
    evaluation = Evaluation(task, model, partial(create_tracker, model, weights=weights), names)
    with VideoProgress(f"{dataset} {opened.split}", quiet=quiet) as progress:
        results = run_evaluation(evaluation, pool, progress.advance)
    if not quiet:
        typer.echo(summary(results, out / "results.json"))
    if code := exit_code_of(results):
        raise typer.Exit(code)


def parse_objects(text: str | None) -> tuple[int, ...]:
    """`1,2` as numbers.

    Raises:
        ConfigError: anything else.
    """
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"objects are numbers from 1, separated by commas, not {text!r}")
    return tuple(int(part) for part in parts)
