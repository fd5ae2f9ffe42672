"""The training of the bundled tracker: prompts first, then rounds of watching the tracker and fitting to it."""

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from samvideo.errors import ConfigError
from samvideo.nano.network import Fusion, Prompted
from samvideo.nano.runtime import Networks
from samvideo.training import fusion, prompts
from samvideo.training.clips import load_sequences, make_clip
from samvideo.training.collecting import RecordingTracker, record
from samvideo.training.fitting import Course, Log


@dataclass(frozen=True)
class Recipe:
    """What a training is; two runs of the same recipe on the same data give the same weights on one machine.

    Attributes:
        seed: of everything random.
        leave_out: names of sequences that are not trained on.
        rounds: times that the tracker is watched and the network fitted to what it saw.
        clips: made-up clips watched in a round.
        length: their frames; every fourth is longer by two thirds.
        steps: of fitting in a round.
        prompt_steps: of the network that draws masks from prompts.
        batch: samples of a step.
    """

    seed: int = 1
    leave_out: tuple[str, ...] = ()
    rounds: int = 1
    clips: int = 140
    length: int = 24
    steps: int = 800
    prompt_steps: int = 5000
    batch: int = 16


def train(root: Path, output: Path, recipe: Recipe, log: Log, workers: int = 1, device: str = "cpu") -> None:
    """Train both networks on a DAVIS folder and write them to a safetensors file.

    What is done lies in a folder beside the output, with `.work` for its ending: an interrupted training goes on
    there.

    Raises:
        ConfigError: the folder holds the training of another recipe.
        DatasetError: the data cannot be read.
    """
    work = output.with_suffix(".work")
    work.mkdir(parents=True, exist_ok=True)
    _claim(work / "recipe.json", recipe)
    sequences = load_sequences(root, recipe.leave_out)
    log(f"{len(sequences)} sequences, {sum(len(s.rgb) for s in sequences)} frames; {recipe}")
    torch.manual_seed(recipe.seed)
    prompted, fused = Prompted().to(device), Fusion().to(device)
    course = partial(Course, batch=recipe.batch)
    stage = course("prompts", recipe.prompt_steps, rate=3e-3, seed=recipe.seed, checkpoint=work / "prompts.pt")
    _once(work / "prompts.safetensors", prompted, lambda: prompts.fit(prompted, sequences, stage, log))
    for number in range(recipe.rounds):
        done = work / f"round{number}.safetensors"
        if not done.exists():
            torch.save(fused.state_dict() if number else None, work / "current.pt")
            _watch(root, work, recipe, number, workers, log)
        rate, seed = 3e-3 if number == 0 else 2e-3, recipe.seed * 100 + number
        stage = course(f"round {number}", recipe.steps, rate=rate, seed=seed, checkpoint=work / "fusion.pt")
        folders = [work / f"round{k}" for k in range(number + 1)]
        _once(done, fused, lambda f=folders, s=stage: fusion.fit(fused, fusion.load_tracks(f), s, log))  # type: ignore[misc]
    state = {f"fusion.{k}": v for k, v in fused.state_dict().items()}
    state |= {f"prompted.{k}": v for k, v in prompted.state_dict().items()}
    named = {"recipe": json.dumps(asdict(recipe)), "format": "samvideo-nano-1"}
    save_file({k: v.cpu().contiguous() for k, v in state.items() if "num_batches" not in k}, output, named)
    log(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")


def _claim(file: Path, recipe: Recipe) -> None:
    text = json.dumps(asdict(recipe), indent=1)
    if file.exists() and file.read_text() != text:
        raise ConfigError(
            f"{file.parent} holds an unfinished training of another recipe ({file.name}): give the same options to "
            "go on with it, another -o, or remove the folder"
        )
    file.write_text(text)


def _once(file: Path, network: nn.Module, fit: Callable[[], None]) -> None:
    """Fit, unless a file already holds the result."""
    if file.exists():
        network.load_state_dict(load_file(file))
        return
    fit()
    part = file.with_suffix(".part")
    save_file({k: v.cpu().contiguous() for k, v in network.state_dict().items()}, part)
    part.replace(file)


def _watch(root: Path, work: Path, recipe: Recipe, number: int, workers: int, log: Log) -> None:
    """Record the tracker on the clips of one round, in processes of their own."""
    folder = work / f"round{number}"
    folder.mkdir(exist_ok=True)
    job = partial(_record, root, work, recipe, number)
    todo = [k for k in range(recipe.clips) if not (folder / f"{k:04}.npz").exists()]
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_single) as pool:
        for count, _ in enumerate(pool.map(job, todo), recipe.clips - len(todo) + 1):
            if count % 20 == 0 or count == recipe.clips:
                log(f"round {number}: watched {count}/{recipe.clips} clips")


def _single() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _record(root: Path, work: Path, recipe: Recipe, number: int, clip: int) -> None:
    sequences, tracker = _ready(root, work, recipe.leave_out, number)
    rng = np.random.default_rng((recipe.seed, number, clip))
    length = recipe.length if clip % 4 else recipe.length * 5 // 3
    track = record(tracker, make_clip(sequences, rng, length), rng)
    if track is not None:
        fusion.save_track(work / f"round{number}" / f"{clip:04}.npz", track)


@cache
def _ready(root: Path, work: Path, leave_out: tuple[str, ...], number: int) -> tuple[list, RecordingTracker]:  # type: ignore[type-arg]
    fused, state = Fusion(), torch.load(work / "current.pt", weights_only=True)
    if state is not None:
        fused.load_state_dict(state)
    return load_sequences(root, leave_out), RecordingTracker(Networks(deepcopy(fused), Prompted()), number > 0)
