"""`samvideo finetune`: train a video model on annotated videos."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from samvideo.cli.common import THRESHOLD_HELP, VOID_HELP, comma_list, completing, verb
from samvideo.cli.training import log_to, training_device
from samvideo.errors import ConfigError, shown

if TYPE_CHECKING:
    from samvideo.evaluation.datasets.base import Dataset
    from samvideo.io.mask_pictures import MaskRule
    from samvideo.training.engine import Stage

MODEL_HELP = "A video model of the SAM 2 family, or nano."
DATA_HELP = (
    "NAME=FOLDER, a data set that `samvideo evaluate` reads: davis2017=DAVIS, folder=my_clips; or run=FOLDER, what "
    "`samvideo track` or the page has written: one run, or a folder of runs."
)
VIDEO_HELP = "For run=FOLDER: the video that was tracked; of several runs, the folder of their videos."
WEIGHTS_HELP = "Weights to start from [the published ones]; random: untrained ones."
TRAIN_HELP = (
    "What is trained: all, or some of decoder, memory, encoder and lora:RANK [decoder,memory; all from random "
    "weights]."
)
OUT_HELP = (
    "Folder of the run: model.safetensors, under the published names, .log, .recipe.json, TensorBoard events."
)
VALIDATE_HELP = "Sequences to measure J&F on [a tenth of them, of two at least]."
FRAMES_HELP = "Train on the frames FIRST to END - 1 only."
RATE_HELP = "Highest learning rate [5e-5; 8e-4 from random weights]."
CACHE_HELP = (
    "Folder that keeps the encoder's features of frames for later steps and runs, if the encoder is not trained; "
    "frames are then mirrored, but not made brighter or darker."
)
MEASURE_HELP = "Measure J&F on the frames FIRST to END - 1 only, from the masks on the first of them."
KEPT = 0.1
"""Share of the sequences that is kept for validation."""


@verb
def finetune(
    model: str = typer.Argument(help=MODEL_HELP, autocompletion=completing("trackers")),
    data: str = typer.Option(..., metavar="NAME=FOLDER", help=DATA_HELP),
    video: Path | None = typer.Option(None, metavar="PATH", help=VIDEO_HELP),
    split: str | None = typer.Option(None, help="Part of the data set [its first]."),
    weights: Path | None = typer.Option(None, help=WEIGHTS_HELP),
    train: str | None = typer.Option(None, "--train", help=TRAIN_HELP),
    out: Path = typer.Option(..., "-o", "--out", metavar="RUN", help=OUT_HELP),
    sequences: str | None = typer.Option(None, metavar="A,B", help="These sequences only."),
    validate: str | None = typer.Option(None, metavar="A,B", help=VALIDATE_HELP),
    frames: str | None = typer.Option(None, metavar="FIRST:END", help=FRAMES_HELP),
    measure: str | None = typer.Option(None, metavar="FIRST:END", help=MEASURE_HELP),
    steps: int | None = typer.Option(None, min=1, help="Steps [400]."),
    batch: int = typer.Option(1, min=1, help="Clips of a step."),
    length: int = typer.Option(8, min=2, help="Frames of a clip."),
    rate: float | None = typer.Option(None, min=1e-9, max=1.0, help=RATE_HELP),
    every: int = typer.Option(100, min=1, help="Steps between two validations."),
    patience: int | None = typer.Option(None, min=1, help="End after so many validations without a better one."),
    seed: int = typer.Option(1, min=0, max=2**31 - 1, help="Of everything random."),
    threshold: int | None = typer.Option(None, min=1, help=THRESHOLD_HELP),
    void: int | None = typer.Option(None, min=0, help=VOID_HELP),
    cache: Path | None = typer.Option(None, metavar="DIR", help=CACHE_HELP),
    nproc: int = typer.Option(1, min=1, help="Processes that share the clips of each step."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    threads: int | None = typer.Option(None, min=1, help="CPU threads [all cores]."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Fine-tune a video model on your own annotated videos; the same command resumes it.

    The bundled model, nano, is trained to track from masks; its answers to other prompts may change.
    """
    windows = _parse_frames("--frames", frames), _parse_frames("--measure", measure)
    from samvideo.evaluation.threads import limit_loaded
    from samvideo.io.mask_pictures import MaskRule
    from samvideo.training.finetune import RESULT, FinetuneRecipe, Resources, Sequences
    from samvideo.training.finetune import finetune as run
    from samvideo.weights.naming import is_random, split_name

    if threads is not None:
        limit_loaded(threads)
    opened = _opener(data, video, split, MaskRule(threshold, void))
    learned, measured = _split(opened().sequences(), comma_list(sequences), comma_list(validate))
    chosen = Sequences(opened, learned, measured, *windows)
    recipe = FinetuneRecipe(train or "decoder,memory", batch, every=every, patience=patience, seed=seed)
    if is_random(split_name(model, weights)[1]):
        recipe = replace(recipe.from_scratch(), train=train or "all")
    clip = replace(recipe.clip, length=length, gain=0.0 if cache else recipe.clip.gain)
    recipe = replace(recipe, clip=clip, fit=_changed(recipe.fit, steps, rate))
    resources = Resources(training_device(device), nproc, cache)
    run(model, weights, chosen, recipe, out, resources, log_to(out / RESULT, quiet=quiet))


def _opener(data: str, video: Path | None, split: str | None, rule: "MaskRule") -> "Callable[[], Dataset]":
    """What opens the data set, or the runs, of NAME=FOLDER; ConfigError if an option is for the other kind."""
    name, equals, root = data.partition("=")
    if not (name and equals and root):
        raise ConfigError(f"--data takes NAME=FOLDER, such as folder=my_clips, not {shown(data)}")
    from samvideo.evaluation.datasets import open_dataset
    from samvideo.io.mask_pictures import FROM_FILE
    from samvideo.training.runs import Runs

    if name != Runs.name:
        if video is not None:
            raise ConfigError(f"--video is for --data run=FOLDER, not for {name}: leave it out")
        return partial(open_dataset, name, Path(root), split, rule)
    if split is not None or rule != FROM_FILE:
        raise ConfigError("--split, --threshold and --void are for data sets, not for runs: leave them out")
    return partial(Runs, Path(root), video)


def _changed(fit: "Stage", steps: int | None, rate: float | None) -> "Stage":
    """The stage with another number of steps or rate."""
    return replace(fit, steps=steps or fit.steps, rate=rate or fit.rate)


def _split(known: list[str], wanted: list[str], kept: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the sequences to learn from and to measure on; ConfigError if one does not exist or none is left."""
    if missing := [name for name in [*wanted, *kept] if name not in known]:
        raise ConfigError(f"there is no sequence {shown(missing[0])}; there are: {', '.join(known[:20])}")
    wanted, kept = [*dict.fromkeys(wanted)], [*dict.fromkeys(kept)]
    names = [name for name in wanted or known if wanted or name not in kept]
    if not kept and len(names) > 1:
        kept = names[-max(1, round(KEPT * len(names))) :]
        names = names[: -len(kept)]
    if not names:
        raise ConfigError("every sequence is kept for validation: leave one to learn from")
    return tuple(names), tuple(kept)


def _parse_frames(option: str, text: str | None) -> tuple[int, int] | None:
    """Parse `0:48`; ConfigError for anything else than FIRST:END with FIRST before END."""
    if text is None:
        return None
    first, _, end = text.partition(":")
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ConfigError(f"{option} takes FIRST:END, such as 0:48, not {shown(text)}")
    return int(first), int(end)
