"""`samvideo train`: train the weights that ship with the package, or your own."""

import time
from pathlib import Path

import typer

from samvideo.cli.common import comma_list, verb
from samvideo.errors import ConfigError

train = typer.Typer(help="Train the bundled tracker's networks.", no_args_is_help=True)
SHIPPED_WITHOUT = ("dog-agility", "drift-turn", "motocross-bumps")  # under other licences


@train.callback()
def _root() -> None:
    pass


@train.command()
@verb
def nano(
    data: Path = typer.Option(..., "--data", help="A DAVIS folder (JPEGImages, Annotations)."),
    output: Path = typer.Option(..., "-o", "--output", help="Safetensors file to write."),
    leave_out: str = typer.Option(
        ",".join(SHIPPED_WITHOUT), help="Sequences not to train on, separated by commas."
    ),
    fold: str | None = typer.Option(None, help="K/N: leave out fold K of N instead, for cross-validation."),
    seed: int = typer.Option(1, min=0, help="Random seed."),
    rounds: int = typer.Option(1, min=1, help="Rounds of on-policy data collection and training."),
    clips: int = typer.Option(440, min=1, help="Synthetic clips per round."),
    length: int = typer.Option(24, min=8, help="Frames per clip."),
    steps: int = typer.Option(1000, min=1, help="Training steps per round."),
    stills: int = typer.Option(5000, min=1, help="Synthetic frames to train the prompted network on."),
    prompt_steps: int = typer.Option(4000, min=1, help="Training steps of the prompted network."),
    fine_steps: int = typer.Option(600, min=1, help="Its further steps on larger crops."),
    batch: int = typer.Option(16, min=2, help="Batch size."),
    workers: int = typer.Option(1, min=1, help="Processes that collect data, and that load it for a GPU."),
    threads: int | None = typer.Option(None, min=1, help="Training threads [all cores]."),
    recordings: Path | None = typer.Option(None, help="Folder of collected data, shared by several trainings."),
    device: str = typer.Option("auto", help="auto, cpu or cuda: where the networks are trained."),
) -> None:
    """Train nano on DAVIS: hours on a CPU, minutes on a GPU. The same command resumes after an interruption."""
    import torch

    from samvideo.evaluation.datasets.davis2016 import all_sequences
    from samvideo.torch_runtime import resolve_device
    from samvideo.training.folds import fold as left_out
    from samvideo.training.nano import Recipe, check_output
    from samvideo.training.nano import train as run

    without = tuple(comma_list(leave_out))
    if fold:
        without = left_out(all_sequences(data).sequences(), *_fold(fold))
    if threads:
        torch.set_num_threads(threads)
    recipe = Recipe(seed, without, rounds, clips, length, steps, stills, prompt_steps, fine_steps, batch)
    began, journal = time.monotonic(), output.with_suffix(".log")
    check_output(output)

    def log(message: str) -> None:
        line = f"{time.monotonic() - began:7.0f} s  {message}"
        typer.echo(line, err=True)
        with journal.open("a") as file:
            file.write(line + "\n")

    run(data, output, recipe, log, workers, resolve_device(device)[0].type, recordings)


def _fold(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise ConfigError(f"cannot read the fold {text!r}: K/N expected, for example 1/3")
    return int(number), int(count)
