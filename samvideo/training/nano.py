"""Training of the bundled tracker: the prompt network, then rounds of recording and training the fusion."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from samvideo.errors import ConfigError
from samvideo.evaluation.datasets.davis2016 import all_sequences
from samvideo.io.files import check_writable, replacing
from samvideo.nano.network import EVIDENCE, Fusion, Prompted
from samvideo.nano.runtime import PROMPT_SIDE
from samvideo.training import first_masks, fusion
from samvideo.training.clips import list_recorded, load_recorded
from samvideo.training.collecting import RecordedClip
from samvideo.training.first_masks import Still
from samvideo.training.fitting import Log, TrainingStage
from samvideo.training.recording import record_clips, record_stills

RECIPE = "recipe.json"
# Recordings of older versions may differ.
_KEPT = {"planes": EVIDENCE, "stills": [field.name for field in fields(Still)]}


@dataclass(frozen=True)
class Recipe:
    """Settings of a training; with the same data and machine, a recipe always gives the same weights.

    Attributes:
        seed: of the initial weights and of the samples of each step.
        leave_out: names of sequences that are not trained on.
        rounds: of recording the tracker and training the fusion network on it.
        clips: generated per round, including those that show a sequence left out.
        length: frames of a clip; every fourth clip is longer by two thirds.
        steps: of training in a round.
        stills: generated for the prompt network, including those that show a sequence left out.
        prompt_steps: of the prompt network, on coarse crops.
        fine_steps: of the prompt network afterwards, on crops as in use.
        batch: samples per step.
    """

    seed: int = 1
    leave_out: tuple[str, ...] = ()
    rounds: int = 1
    clips: int = 440
    length: int = 24
    steps: int = 1000
    stills: int = 5000
    prompt_steps: int = 4000
    fine_steps: int = 600
    batch: int = 16


def train(
    root: Path,
    output: Path,
    recipe: Recipe,
    log: Log,
    workers: int = 1,
    device: str = "cpu",
    recordings: Path | None = None,
) -> None:
    """Train both networks on a DAVIS folder and write them to a safetensors file.

    Intermediate results are in a folder next to the output, ending in `.work`; an interrupted training resumes from
    there, and replaces the file of an earlier one. The first recordings depend neither on the seed nor on the
    sequences left out, so that several trainings may share them in the folder `recordings`. Raises ConfigError if
    the folder has the results of another recipe or `output` is another file, DatasetError for broken data.
    """
    work = output.with_suffix(".work")
    check_output(output)
    recordings, names = recordings or work, all_sequences(root).sequences()
    _claim(work / RECIPE, asdict(recipe))
    _claim(recordings / "recordings.json", {"data": names, "length": recipe.length} | _KEPT)
    log(f"{len(names)} sequences, {len(set(names) & set(recipe.leave_out))} left out; {recipe}")
    torch.manual_seed(recipe.seed)
    prompted, fused = Prompted().to(device), Fusion().to(device)

    def train_prompts(name: str, steps: int, rate: float, seed: int, size: int) -> None:
        record_stills(root, recordings / "stills", recipe.stills, workers, log)
        stills = list_recorded(recordings / "stills", recipe.stills, recipe.leave_out)
        stage = TrainingStage(name, steps, recipe.batch, rate, seed, work / f"{name}.pt")
        first_masks.fit(prompted, stills, stage, log, size, 0 if device == "cpu" else workers)

    def train_round(number: int) -> None:
        followed = (number, work / f"round{number - 1}.safetensors") if number else None
        folders = [recordings / "clips", *(work / f"clips{k}" for k in range(1, number + 1))]
        record_clips(root, folders[-1], recipe.clips, recipe.length, workers, log, followed)
        files = [file for part in folders for file in list_recorded(part, recipe.clips, recipe.leave_out)]
        recorded = [load_recorded(RecordedClip, file) for file in files]
        rate, seed = 3e-3 if number == 0 else 2e-3, recipe.seed * 100 + number
        stage = TrainingStage(f"round {number}", recipe.steps, recipe.batch, rate, seed, work / "fusion.pt")
        fusion.fit(fused, recorded, stage, log)

    coarse = partial(train_prompts, "prompts", recipe.prompt_steps, 3e-3, recipe.seed, first_masks.COARSE)
    _once(work / "prompts.safetensors", prompted, coarse)
    fine = partial(train_prompts, "prompts-fine", recipe.fine_steps, 1e-3, recipe.seed + 1000, PROMPT_SIDE)
    _once(work / "prompts-fine.safetensors", prompted, fine)
    for number in range(recipe.rounds):
        _once(work / f"round{number}.safetensors", fused, partial(train_round, number))
    _write(output, fused, prompted, recipe)
    log(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")


def check_output(output: Path) -> None:
    """Raise ConfigError unless `output` is new or of an earlier training, OutputError if it cannot be written."""
    if output.suffix != ".safetensors":
        raise ConfigError(f"{str(output)!r} is no name for weights: a file ending in .safetensors expected")
    work = output.with_suffix(".work")
    for path in (output, output.with_suffix(".log"), work):
        if path.exists() and not (work / RECIPE).is_file():
            raise ConfigError(f"{path} exists, and is not of an earlier training: choose another path with -o")
    check_writable(output.parent)


def _write(output: Path, fused: Fusion, prompted: Prompted, recipe: Recipe) -> None:
    state = {f"fusion.{k}": v for k, v in fused.state_dict().items()}
    state |= {f"prompted.{k}": v for k, v in prompted.state_dict().items()}
    named = {"recipe": json.dumps(asdict(recipe)), "format": "samvideo-nano-6"}
    with replacing(output) as part:
        save_file({k: v.cpu().contiguous() for k, v in state.items() if "num_batches" not in k}, part, named)


def _claim(file: Path, settings: dict[str, object]) -> None:
    text = json.dumps(settings, indent=1)
    if file.exists() and file.read_text() != text:
        raise ConfigError(
            f"{file.parent} holds the work of another recipe ({file.name}): give the same options to resume "
            "it, another folder, or remove it"
        )
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".part{os.getpid()}")  # another training may create the same file at this moment
        part.write_text(text)
        part.replace(file)


def _once(file: Path, network: nn.Module, fit: Callable[[], None]) -> None:
    """Train a network, or load the result if its file exists."""
    if file.exists():
        network.load_state_dict(load_file(file))
        return
    fit()
    with replacing(file) as part:
        save_file({k: v.cpu().contiguous() for k, v in network.state_dict().items()}, part)
