"""`samvideo evaluate images`: a segmenter on still images, instead of a tracker on videos."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from samvideo.cli.searching import choose_search
from samvideo.errors import ConfigError
from samvideo.search_settings import EVERYTHING, SearchSettings, split_searches

if TYPE_CHECKING:
    from samvideo.evaluation.image_evaluation import ImageTask, PictureTask
    from samvideo.evaluation.shard import Pool

IMAGES = "images"
"""The name of the data set."""
PROMPTED = "the ground truth prompts by --protocol"


def refuse(of: str, others: str, **options: object) -> None:
    """Raise ConfigError if an option is given that only the other kind of data set has."""
    for name in (name for name, value in options.items() if value):
        raise ConfigError(f"--{name} is for {of}: leave it out for {others}")


def choose_proposals(
    model: str,
    weights: Path | None,
    prompts: list[str],
    text: str | None,
    prompter: str | None,
    detector: str | None,
    most: int | None,
    protocol: str | None,
) -> SearchSettings | None:
    """The search whose proposals are scored, None without one; ConfigError for options that do not fit."""
    searches, texts, others = split_searches([*prompts, *([] if text is None else [f"text={text}"])])
    if others:
        raise ConfigError(f"--prompt {others[0]!r}: everything expected; {PROMPTED}")
    if not (searches or prompter or detector or most):
        return None
    if protocol:
        raise ConfigError(f"--protocol {protocol} is not a search for objects: leave it out; {PROMPTED}")
    from samvideo.evaluation.proposals import COUNTS
    from samvideo.segmenters.factory import find_segmenter

    model = find_segmenter(model, weights).name
    return choose_search(model, prompter or "auto", texts, detector, most or COUNTS[-1])


def picture_task(
    pictures: "ImageTask",
    search: SearchSettings | None,
    dataset: str,
    sequences: list[str],
    objects: tuple[int, ...],
    limit: int | None,
) -> "PictureTask":
    """The task itself, or with a search that of scoring its proposals, also on frames of videos."""
    if dataset == IMAGES:
        refuse("videos", "images", objects=objects, sequences=sequences)
    if search is None:
        return pictures
    from samvideo.evaluation.datasets import open_dataset
    from samvideo.evaluation.evaluate import choose_sequences
    from samvideo.evaluation.proposals import ProposalTask

    shared = {**vars(pictures), "protocol": EVERYTHING, "search": search}
    if dataset == IMAGES:
        return ProposalTask(**shared)
    videos = open_dataset(dataset, pictures.root, pictures.split, pictures.reading)
    shared |= {"split": videos.split, "dataset": dataset, "objects": objects}
    return ProposalTask(**shared, sequences=choose_sequences(videos, sequences, limit))


def evaluate_on_images(
    task: "PictureTask", model: str, options: dict[str, Any], limit: int | None, pool: "Pool", *, quiet: bool
) -> None:
    """Evaluate, and print a summary; Exit with the code of the worst failure.

    `options` are those of `load_segmenter`.
    """
    from samvideo.cli.image_summary import image_summary
    from samvideo.cli.progress import VideoProgress
    from samvideo.evaluation.evaluate import exit_code_of
    from samvideo.evaluation.image_evaluation import ImageEvaluation, evaluate_images
    from samvideo.evaluation.image_sets import choose_pictures
    from samvideo.evaluation.proposals import ProposalTask, make_propose
    from samvideo.segmenters.factory import find_segmenter, load_segmenter

    spec = find_segmenter(model, Path(options["weights"]) if "weights" in options else None)
    names = choose_pictures(task.open(), limit)
    make: Callable[[], Any] = partial(load_segmenter, model, **options)
    if isinstance(task, ProposalTask):
        make = partial(make_propose, make, task.search)
    evaluation = ImageEvaluation(task, spec.name, make, names, options, spec.facts().licence)
    with VideoProgress(f"images {task.root.name}", quiet=quiet) as progress:
        results = evaluate_images(evaluation, pool, progress.advance)
    if not quiet:
        typer.echo(image_summary(results, task.out / "results.json"))
    if code := exit_code_of(results):
        raise typer.Exit(code)
