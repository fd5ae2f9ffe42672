"""Distillation: a student learns from a teacher on pictures without labels."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from samvideo.errors import ConfigError, SamVideoError
from samvideo.tensors import Features
from samvideo.training.distil_agreement import agreement, tracking
from samvideo.training.distil_clips import Clip, Clips, find_clips
from samvideo.training.distil_recipe import Lesson, Recipe, parse_recipe, shrunk
from samvideo.training.distil_split import Divided
from samvideo.training.distil_student import load_student, share_layers
from samvideo.training.engine import Log, Validation, backward, fit
from samvideo.training.files import check_output, claimed, write
from samvideo.training.images import (
    Augmentation,
    Example,
    Picture,
    Squares,
    augmented,
    find_pictures,
    order,
    padded,
    start_worker,
)
from samvideo.training.processes import average_gradients, check_shares, joined, share
from samvideo.training.teacher import BATCH, load_teacher
from samvideo.training.teacher_cache import TeacherCache, state_digest
from samvideo.windows import window_spec

FORMAT = "samvideo-distil-3"
HEADS = ("prompts", "decoder", "memory", "pointers")
"""Parts of a model that learn at the rate of heads."""
Found: TypeAlias = Sequence[Picture] | Sequence[Clip]
"""What is learned from, in order."""


@dataclass(frozen=True)
class Plan:
    """What a distillation depends on beside its inputs.

    Attributes:
        recipe: NAME or NAME:OPTION=VALUE,..., see `samvideo.training.recipes`.
        steps: of the optimiser; None for the recipe's.
        batch: pictures, or clips, of a step, of all processes together; None for the recipe's.
        seed: of everything random.
        every: steps between two validations.
        augmentation: how pictures are changed before the student sees them; the teacher sees them as they are.
        validated: pictures, or clips, that are measured at most.
    """

    recipe: str = "features"
    steps: int | None = None
    batch: int | None = None
    seed: int = 1
    every: int = 250
    augmentation: Augmentation = field(default_factory=Augmentation)
    validated: int = 48


@dataclass(frozen=True)
class Inputs:
    """What a distillation reads, and where it runs.

    Attributes:
        student: MODEL or MODEL=FILE; without a file, it begins untrained, see `share_layers`.
        teacher: MODEL or MODEL=FILE.
        images, videos: folder of pictures or of videos; one of them.
        cache: folder of the teacher's features; None to compute them again for every step.
        device: cpu or cuda.
        workers: processes that decode pictures; 0: none beside the training.
        named: whether validation has what `splits` names, instead of a tenth of the scenes.
    """

    student: str
    teacher: str
    images: Path | None = None
    videos: Path | None = None
    cache: Path | None = None
    device: str = "cpu"
    workers: int = 2
    named: bool = False


def distil(inputs: Inputs, plan: Plan, output: Path, log: Log, processes: int = 1) -> None:
    """Train a student and write it under the published names; the same arguments resume it.

    Args:
        inputs: models and pictures.
        plan: recipe, steps, sizes and seed.
        output: a safetensors file; its record and the unfinished state lie beside it.
        log: gets the progress.
        processes: that share each batch.

    Raises:
        ConfigError: `output` is of something else, there is no such recipe, or it is not for these models.
        DatasetError: there are no pictures.
        VideoError: a picture is damaged.
        WeightsError: weights are not there, or are another model's.
        OutputError: the output cannot be written.
        SamVideoError: the training diverged, or another process of it ended.
        KeyboardInterrupt: a signal asked for the end.
    """
    _check(inputs, plan, processes)
    pair = Pair(inputs, plan)
    pictures = pair.found.train
    seen = hashlib.sha256("".join(picture.digest for picture in pictures).encode()).hexdigest()
    record = json.dumps(
        {"format": FORMAT, **pair.origin, "pictures": [len(pictures), seen], **asdict(plan), "batch": pair.batch},
        indent=1,
    )
    check_output(output, record)
    with claimed(output, record):
        log(
            f"{pair.student.name} from {pair.teacher.name} by {plan.recipe}, seed {plan.seed}, on {inputs.device}; "
            f"{len(pictures)} {pair.kind}, {pair.shared} entries of the teacher's layers"
        )
        if not output.exists():
            state = output.with_suffix(".state")
            examples = pair.examples(pictures)
            if isinstance(examples, TeacherCache):
                examples.fill(pair.teach, log)
            with joined(processes, help_learn, inputs, plan, pictures, state):
                pair.learn(examples, state, log, count=processes)
            student = pair.student
            write(output, {student.published(key): value for key, value in student.state_dict().items()}, record)
            state.unlink(missing_ok=True)
        log(f"{output} is finished ({output.stat().st_size / 1e6:.1f} MB)")


def _check(inputs: Inputs, plan: Plan, processes: int) -> None:
    """Raise ConfigError for what can be known to be wrong before models are loaded."""
    _, config = parse_recipe(plan.recipe)
    check_shares(plan.batch or config.batch, processes)
    if (inputs.images is None) == (inputs.videos is None):
        raise ConfigError("pictures (--images) or videos (--videos) are needed to learn from: give one of them")
    if inputs.cache is not None and inputs.videos is not None:
        raise ConfigError("--cache keeps features of pictures, not of videos: leave it out, or give --images")


def help_learn(inputs: Inputs, plan: Plan, pictures: Found, state: Path, rank: int, count: int) -> None:
    """What a further process does: all steps, with its own part of every batch; nothing is written."""
    pair = Pair(inputs, plan)
    pair.learn(pair.examples(pictures), state, lambda line: None, rank=rank, count=count)


class Pair:
    """A student and its teacher, by a recipe.

    Attributes:
        student, teacher: the models.
        recipe: computes losses.
        origin: what tells both from all others, as values of JSON.
        shared: entries that the student has from the teacher.
        batch: pictures, or clips, of a step.
        kind: what they are, for the log.
    """

    def __init__(self, inputs: Inputs, plan: Plan) -> None:
        self.inputs, self.plan = inputs, plan
        self.teacher = load_teacher(inputs.teacher, inputs.device).eval().requires_grad_(False)
        torch.manual_seed(plan.seed)
        self.student, untrained = load_student(inputs.student)
        self.shared = share_layers(self.student, self.teacher) if untrained else 0
        for model in (self.student, self.teacher):
            model.spec = window_spec(model.spec)
        _, config = parse_recipe(plan.recipe)
        origin: str = "random" if untrained else state_digest(self.student)
        self.taught = state_digest(self.teacher)
        self.origin = {"student": [self.student.name, origin], "teacher": [self.teacher.name, self.taught]}
        self.recipe: Recipe = config.build(self.student.to(inputs.device), self.teacher)
        self.recipe.learner.to(inputs.device)
        if self.recipe.clip[0] > 1 and inputs.videos is None:
            raise ConfigError(f"recipe {plan.recipe!r} learns from clips: give --videos")
        self.batch = plan.batch or config.batch
        self.kind = "clips" if inputs.videos is not None else "pictures"
        self.stage = replace(config.fit, steps=plan.steps or config.fit.steps, seed=plan.seed)
        self.norms = [layer for layer in self.student.modules() if isinstance(layer, nn.BatchNorm2d) and untrained]

    @cached_property
    def found(self) -> Divided[Picture] | Divided[Clip]:
        """Pictures, or clips of videos, to learn from and for validation."""
        if self.inputs.videos is not None:
            return find_clips(self.inputs.videos, *self.recipe.clip, self.inputs.named)
        assert self.inputs.images is not None
        return find_pictures(self.inputs.images, self.inputs.named)

    def squares(self, found: Found) -> Squares | Clips:
        """Pictures or clips at the larger input size of both models, in the frame of the student."""
        spec, side = self.student.spec, max(*self.student.spec.input_wh, *self.teacher.spec.input_wh)
        if self.inputs.videos is not None:
            return Clips([clip for clip in found if isinstance(clip, Clip)], spec, side, *self.recipe.clip)
        return Squares([picture for picture in found if isinstance(picture, Picture)], spec, side)

    def examples(self, found: Found) -> Dataset[Example]:
        """Pictures or clips and, if there is a cache, what the teacher makes of them."""
        squares = self.squares(found)
        if self.inputs.cache is None or isinstance(squares, Clips):
            return squares
        spec = self.teacher.spec
        seen = f"{spec.encoder} {spec.input_wh} {spec.mean} {spec.std}"  # one file may be loaded as several models
        return TeacherCache(self.inputs.cache, f"{self.taught} {seen} {self.recipe.taught_key}", squares)

    @torch.no_grad()
    def teach(self, pictures: Tensor) -> list[Tensor]:
        """What the teacher makes of pictures, uint8 (B, 3, S, S): maps."""
        parts = []
        for some in torch.split(pictures, BATCH):
            features, further = self.recipe.taught(some)
            parts.append([features.coarse, *features.fine, *further])
        return [torch.cat(maps) for maps in zip(*parts, strict=True)]

    def learn(self, examples: Dataset[Example], state: Path, log: Log, rank: int = 0, count: int = 1) -> None:
        """Train in place, as process `rank` of `count`."""
        steps = Steps(self, examples, rank, count)
        heads = [value for name, value in self.student.named_parameters() if name.split(".")[0] in HEADS]
        validation = None if rank else Validation(self._measure(log), self.plan.every)
        self.learn_norms(True)
        fit(self.recipe.learner, steps.gradients, self.stage, state, log, heads, validation, rank=rank)
        self.learn_norms(False)

    def learn_norms(self, wanted: bool) -> None:
        """Whether batch norms measure their statistics: those of an untrained student do while it learns."""
        for layer in self.norms:
            layer.train(wanted)

    def _measure(self, log: Log) -> Callable[[], Mapping[str, float]]:
        """What validation measures, on the pictures kept for it; nothing where there are none."""
        found = self.found.validation
        if not found:
            log("no validation: one picture or clip alone, or nothing of that side of the split")
            return dict
        total = len(found) + len(self.found.train)
        log(f"validation: {len(found)} of {total} {self.kind}, {self.found.why}")
        kept = self.squares(found[:: math.ceil(len(found) / self.plan.validated)])
        squares, covered = (
            torch.stack(part) for part in zip(*(kept[row] for row in range(len(kept))), strict=True)
        )

        def measure() -> dict[str, float]:
            self.learn_norms(False)
            found = tracking(self.recipe, squares, covered) if self.recipe.clip[0] > 1 else {}
            found |= agreement(self.student, self.teacher, squares, covered)
            self.learn_norms(True)
            return found

        return measure


class Steps:
    """The steps; what one sees depends on the seed and its number alone, so that it can be resumed."""

    def __init__(self, pair: Pair, examples: Dataset[Example], rank: int, count: int) -> None:
        self.pair, self.recipe, self.examples = pair, pair.recipe, examples
        self.plan, self.rank, self.count = pair.plan, rank, count
        self.own = share(pair.batch, rank, count)
        self._batches: Iterator[Sequence[Tensor]] | None = None

    def gradients(self, step: int) -> Mapping[str, Tensor]:
        """Compute gradients of a step; steps follow each other."""
        if self._batches is None:
            self._batches = self._load(step)
        self.recipe.learner.zero_grad(set_to_none=True)
        lesson = self._lesson(step, self._next(self._batches))
        if self.rank:  # other prompts than the first process
            torch.manual_seed((self.plan.seed * 1_000_003 + step) * self.count + self.rank)
        parts = backward(self.recipe.losses(lesson))
        return parts if self.count == 1 else average_gradients(self.recipe.learner.parameters(), parts)

    def _load(self, first: int) -> Iterator[Sequence[Tensor]]:
        size = len(self.examples)  # type: ignore[arg-type]
        rows = order(size, self.pair.batch, self.plan.seed, first, self.pair.stage.steps)
        loader = DataLoader(
            self.examples,
            batch_sampler=([some[place] for place in self.own] for some in rows),
            num_workers=self.pair.inputs.workers,
            multiprocessing_context="spawn" if self.pair.inputs.workers else None,  # OpenCV hangs after a fork
            worker_init_fn=start_worker,
            generator=torch.Generator(),  # the loader draws a number, which must not be the training's
        )
        return iter(loader)

    @staticmethod
    def _next(batches: Iterator[Sequence[Tensor]]) -> Sequence[Tensor]:
        """The next batch; errors in workers come with a traceback, which is left out."""
        try:
            return next(batches)
        except SamVideoError as error:
            last = str(error).strip().splitlines()[-1]
            raise type(error)(last.removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")) from None

    def _lesson(self, step: int, batch: Sequence[Tensor]) -> Lesson:
        device, teacher = self.pair.student.device, self.pair.teacher
        clips, covered, *maps = (value.to(device) for value in batch)
        clips = clips if clips.ndim == 5 else clips[:, None]
        pictures = clips.flatten(0, 1)
        if not maps:
            maps = self.pair.teach(pictures)
        coarse, *others = (value.float() for value in maps)
        fine = 2 if teacher.encoder.fine else 0
        seeds = [(self.plan.seed, step, place) for place in self.own]
        seen = shrunk(pictures, self.pair.student)
        seen = augmented(seen.view(*clips.shape[:2], *seen.shape[1:]), self.plan.augmentation, seeds).flatten(0, 1)
        covered = covered.repeat_interleave(clips.shape[1], 0)
        seen = padded(seen, covered, self.pair.student.spec.mean)
        features = Features(coarse, tuple(others[:fine]))
        return Lesson(seen, features, tuple(others[fine:]), step / self.pair.stage.steps, covered)
