"""Fine-tuning of a video model of the SAM 2 family on annotated videos."""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samvideo.checkpoints import load
from samvideo.errors import ConfigError, DatasetError, shown
from samvideo.evaluation.datasets.base import Dataset
from samvideo.evaluation.metrics import score_masks
from samvideo.io.files import check_writable
from samvideo.models import VideoModel
from samvideo.specs import BUNDLED, SPECS
from samvideo.training.candidates import MaskWeights
from samvideo.training.clip_propagation import Losses, PromptRule, clip_losses, propagated
from samvideo.training.clip_sampler import ClipRule, ClipSampler, data_digest
from samvideo.training.engine import Log, Stage, Validation, backward, fit
from samvideo.training.feature_cache import cached_features
from samvideo.training.files import check_output, claimed, sha256, write
from samvideo.training.objective import Objective
from samvideo.training.parts import choose_parts, merge_parts
from samvideo.training.processes import average_gradients, check_shares, joined, share
from samvideo.training.scratch import initialise
from samvideo.weights.naming import is_random, split_name, weight_files

FORMAT = "samvideo-finetune-3"
RESULT = "model.safetensors"
"""Name of the weights in the folder of a run."""
NAMED = 10
"""Validated sequences that the log names."""
LEGEND = (
    "losses: of masks (focal, hard, dice or mask), target model (the classifier of an object's pixels, fitted to "
    "remembered frames), presence (whether the object is visible), quality (the predicted IoU); measured on the "
    "clips, 0 to 1: iou, presence accuracy"
)
"""Explains the values in the lines of the log."""


@dataclass(frozen=True)
class FinetuneRecipe:
    """What a fine-tuning depends on beside its inputs.

    Attributes:
        train: what learns, see `choose_parts`.
        batch: clips of a step, one after the other.
        clip: which clips are drawn.
        prompts: how objects are prompted.
        weights: of the losses; SAM 2's.
        fit: steps and rates; `trunk_rate` is the factor of the encoder's.
        every: steps between two validations.
        patience: see `Validation`.
        validated: annotated frames of a sequence that validation propagates through.
        saving: see `ClipMemory`.
        seed: of everything random.
    """

    train: str = "decoder,memory"
    batch: int = 1
    clip: ClipRule = field(default_factory=ClipRule)
    prompts: PromptRule = field(default_factory=PromptRule)
    weights: MaskWeights = field(default_factory=lambda: MaskWeights(squared=False))
    fit: Stage = field(default_factory=lambda: Stage(400, rate=5e-5, trunk_rate=0.6, decay=0.1, average=0.99))
    every: int = 100
    patience: int | None = None
    validated: int = 24
    saving: bool = True
    seed: int = 1

    def from_scratch(self) -> "FinetuneRecipe":
        """For random weights.

        SAM's focal loss teaches them slowly, a click says little about an object, and where only the best of
        several masks learns, each becomes that of another object in the picture, without a look at memory.
        """
        weights = replace(self.weights, focal=0, hard=1, spread=1)
        fit = replace(self.fit, rate=8e-4, trunk_rate=1.0, decay=0.01)
        return replace(self, prompts=PromptRule(0.75, 0.25, 1, 0), weights=weights, fit=fit)


@dataclass(frozen=True)
class Sequences:
    """What a fine-tuning reads.

    Attributes:
        opened: opens the data set, once in each process, such as a `partial` of `open_dataset`.
        train: names of the sequences to learn from.
        validation: names of those that are measured; none to measure nothing.
        frames: first index, and the one after the last, of the frames to learn from; None for all.
        measured: the same of those that are measured.
    """

    opened: Callable[[], Dataset]
    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    frames: tuple[int, int] | None = None
    measured: tuple[int, int] | None = None


@dataclass(frozen=True)
class Resources:
    """What a fine-tuning runs on; the result is the same but for rounding.

    Attributes:
        device: cpu or cuda.
        processes: that share the clips of each step.
        cache: folder of the features of frames, see `cached_features`; None to compute them again for every step.
    """

    device: str = "cpu"
    processes: int = 1
    cache: Path | None = None


def finetune(
    model: str,
    weights: Path | str | None,
    data: Sequences,
    recipe: FinetuneRecipe,
    run: Path,
    resources: Resources,
    log: Log,
) -> None:
    """Train a model and write `RESULT` under the published names; the same arguments resume it.

    Args:
        model: a published video model of the SAM 2 family, the bundled one, or NAME=FILE.
        weights: to start from, see `samvideo.load`; "random" for untrained ones.
        data: what it learns from.
        recipe: steps, rates, clips, prompts and losses.
        run: a folder.
        resources: device, processes and cached features.
        log: gets the progress.

    Raises:
        ConfigError: the folder is of another recipe, there is no such model, or the recipe is not for `resources`.
        OutputError: it cannot be written.
        DatasetError: broken or no data.
        WeightsError: the weights are not there, or are another model's.
        SamVideoError: the training diverged, or another process of it ended.
        KeyboardInterrupt: a signal asked for the end.
    """
    name, file = split_name(model, weights)
    if name not in SPECS | BUNDLED:
        raise ConfigError(f"{name!r} is not fine-tuned here; one of {', '.join(SPECS | BUNDLED)} expected")
    check_shares(recipe.batch, resources.processes)
    _check_measured(data, recipe)
    task = Task(name, file, data, recipe, resources)
    output, dataset = run / RESULT, data.opened()
    record = task.record(dataset)
    check_output(output, record)
    network, sampler = task.prepare(dataset)
    validation = Validation(_measure(network, dataset, data, recipe), recipe.every, recipe.patience)
    with claimed(output, record):
        begins = f"{name}, seed {recipe.seed}, on {resources.device}"
        log(f"{begins}; {_trained(network, len(data.train))}")
        if not output.exists():
            state = output.with_suffix(".state")
            with joined(resources.processes, help_learn, task, state):
                task.learn(network, sampler, state, log, validation, run / "events")
            merge_parts(network)
            write(output, {network.published(key): value for key, value in network.state_dict().items()}, record)
            state.unlink(missing_ok=True)
        log(f"{output} is finished ({output.stat().st_size / 1e6:.1f} MB)")


def help_learn(task: "Task", state: Path, rank: int, count: int) -> None:
    """What a further process does: all steps, with its own part of every batch; nothing is written."""
    network, sampler = task.prepare(task.data.opened())
    task.learn(network, sampler, state, lambda line: None, rank=rank)


@dataclass(frozen=True)
class Task:
    """A fine-tuning, as all of its processes know it; see `finetune`."""

    name: str
    weights: Path | None
    data: Sequences
    recipe: FinetuneRecipe
    resources: Resources

    def record(self, dataset: Dataset) -> str:
        """What the result depends on; DatasetError if the data cannot be read."""
        data = self.data
        whole = {
            "format": FORMAT,
            "model": self.name,
            "from": _origin(self.weights),
            "data": {
                "name": dataset.name,
                "split": dataset.split,
                "train": data.train,
                "validation": data.validation,
                "frames": data.frames,
                "measured": data.measured,
            },
            "reading": asdict(dataset.reading),
            "content": data_digest(dataset, (*data.train, *data.validation)),
            **asdict(self.recipe),
        }
        return json.dumps(whole, indent=1)

    def prepare(self, dataset: Dataset) -> tuple[VideoModel, ClipSampler]:
        """The model, and what it learns from."""
        model = load(self.name, weights=self.weights)
        if self.weights is not None and is_random(self.weights):
            initialise(model, self.recipe.seed)
        model.to(self.resources.device)
        torch.manual_seed(self.recipe.seed)
        choose_parts(model, self.recipe.train)
        if self.resources.cache is not None:
            _check_cache(self.resources.cache, model, self.recipe)
        return model, ClipSampler(dataset, self.data.train, model, self.data.frames)

    def learn(
        self,
        model: VideoModel,
        sampler: ClipSampler,
        state: Path,
        log: Log,
        validation: Validation | None = None,
        events: Path | None = None,
        rank: int = 0,
    ) -> None:
        """Train in place, as one of the processes."""
        recipe, cache = self.recipe, self.resources.cache
        log(_measuring(self.data))
        log(LEGEND)
        stage = replace(recipe.fit, seed=recipe.seed)
        steps = _gradients(model, sampler, recipe, rank, self.resources.processes)
        with cached_features(model, cache, log) if cache is not None else nullcontext():
            fit(model, steps, stage, state, log, model.encoder.parameters(), validation, events, rank)


def _origin(weights: Path | None) -> str | list[str]:
    """What the record says of the weights to start from: "published", "random", or the digests of files."""
    if weights is None:
        return "published"
    return str(weights) if is_random(weights) else [*map(sha256, weight_files(weights))]


def _check_measured(data: Sequences, recipe: FinetuneRecipe) -> None:
    """Raise ConfigError if nothing is measured, and an option says how; or if what is measured is learned from."""
    given = {"--patience": recipe.patience, "--measure": data.measured}
    if unused := [name for name, value in given.items() if value is not None and not data.validation]:
        raise ConfigError(f"{unused[0]} needs sequences to measure: name them with --validate, or leave it out")
    both = [name for name in data.validation if name in data.train]
    if both and not _are_disjoint(data.frames, data.measured):
        raise ConfigError(
            f"sequence {shown(both[0])} would be measured on frames that are learned from: leave it out of "
            "--sequences or of --validate, or choose frames without overlap, such as --frames 0:48 --measure 56:80"
        )


def _are_disjoint(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    """Whether two ranges of frames have none in common; None is all frames."""
    return one is not None and other is not None and (one[1] <= other[0] or other[1] <= one[0])


def _check_cache(folder: Path, model: VideoModel, recipe: FinetuneRecipe) -> None:
    """Raise ConfigError if the features of a frame differ from step to step, OutputError if none can be written."""
    if any(parameter.requires_grad for parameter in model.encoder.parameters()):
        raise ConfigError(
            f"--cache keeps features of an encoder that does not learn, and --train {recipe.train} changes it: "
            "leave --cache out, or take --train decoder,memory"
        )
    if recipe.clip.gain:
        raise ConfigError(
            "with a cache of features, frames are not made brighter at random: a gain of 0 expected, not "
            f"{recipe.clip.gain}"
        )
    check_writable(folder)


def _trained(model: VideoModel, sequences: int) -> str:
    count = sum(value.numel() for value in model.parameters() if value.requires_grad)
    return f"training {count / 1e6:.1f} M parameters on {sequences} sequence{'s' * (sequences != 1)}"


def _measuring(data: Sequences) -> str:
    """Which sequences are validated, at most `NAMED` of them."""
    if not data.validation:
        return (
            "no sequence is validated, nothing is measured: name one with --validate, or measure other frames of "
            "one that is learned from (--frames, --measure)"
        )
    names, more = data.validation[:NAMED], len(data.validation) - NAMED
    return f"validated: {', '.join(names)}{f' and {more} more' if more > 0 else ''}"


def _gradients(
    model: VideoModel, sampler: ClipSampler, recipe: FinetuneRecipe, rank: int = 0, count: int = 1
) -> Callable[[int], Mapping[str, Tensor]]:
    """The steps of process `rank` of `count`.

    What a clip shows, and how it is prompted, depends on the seed, the step and its place in the batch alone, so
    that steps can be resumed and shared.
    """
    losses_of, places = _losses(model, recipe), share(recipe.batch, rank, count)

    def gradients(step: int) -> dict[str, Tensor]:
        model.zero_grad(set_to_none=True)
        found = []
        for place in places:
            rng = np.random.default_rng((recipe.seed, step, place))
            torch.manual_seed(int(rng.integers(2**63)))
            losses = losses_of(*sampler.draw(recipe.clip, rng))
            found.append(backward({name: value / len(places) for name, value in losses.items()}))
        parts = {name: torch.stack([part[name] for part in found]).sum(0) for name in found[0]}
        return parts if count == 1 else average_gradients(model.parameters(), parts)

    return gradients


def _losses(model: VideoModel, recipe: FinetuneRecipe) -> Callable[[Tensor, Tensor], Losses]:
    """What is learned from the frames and masks of a clip; the bundled model has an objective of its own."""
    if model.name in BUNDLED:
        return Objective(model).clip
    return lambda frames, masks: clip_losses(
        model, frames, masks, recipe.prompts, recipe.weights, saving=recipe.saving
    )


def _measure(
    model: VideoModel, dataset: Dataset, data: Sequences, recipe: FinetuneRecipe
) -> Callable[[], Mapping[str, float]]:
    """What validation measures: J&F of objects from their masks on the first annotated frame.

    Raises:
        DatasetError: none of the sequences shows an object there.
    """
    if not data.validation:
        return dict
    sampler = ClipSampler(dataset, data.validation, model, data.measured)
    if not any(bool(sampler.masks(sequence, known[:1]).any()) for sequence, known in sampler.sequences):
        sequence, known = sampler.sequences[0]
        raise DatasetError(
            f"nothing can be measured: the first annotated frame shows no object, such as frame {known[0]} of "
            f"{sequence.name}: name other sequences with --validate, or other frames with --measure"
        )
    return lambda: validate(sampler, recipe.validated)


def validate(sampler: ClipSampler, length: int) -> dict[str, float]:
    """Mean J&F and J, of all objects that the first annotated frames show, on at most `length` - 1 that follow."""
    scores = []
    for sequence, known in sampler.sequences:
        masks = sampler.masks(sequence, known[:length])
        masks = masks[masks[:, 0].flatten(1).any(1)]
        frames = sampler.frames(sequence, known[:length])
        answers = propagated(sampler.model, frames, masks[:, 0].to(frames.device)) if len(masks) else iter(())
        for index, found in enumerate(answers, 1):
            pairs = zip(masks[:, index].bool().numpy(), found.cpu().numpy(), strict=True)
            scores += [score_masks(true, answer) for true, answer in pairs]
    j, f = (float(np.mean([score[k] for score in scores] or [0.0])) for k in (0, 1))
    return {"J&F": (j + f) / 2, "J": j}
