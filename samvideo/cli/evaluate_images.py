"""`samvideo evaluate images`: a segmenter on still images, instead of a tracker on videos."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from samvideo.errors import ConfigError

if TYPE_CHECKING:
    from samvideo.evaluation.image_evaluation import PictureTask
    from samvideo.evaluation.shard import Pool
    from samvideo.io.mask_pictures import MaskRule

IMAGES = "images"
"""The name of the data set."""
PROMPTER = "grid"


def refuse(of: str, others: str, **options: object) -> None:
    """Raise ConfigError if an option is given that only the other kind of data set has."""
    for name in (name for name, value in options.items() if value):
        raise ConfigError(f"--{name} is for {of}: leave it out for {others}")


def choose_task(
    root: Path,
    split: str | None,
    protocol: str | None,
    out: Path,
    threads: int,
    reading: "MaskRule",
    prompter: str | None,
    proposals: int | None,
) -> "PictureTask":
    """The task of a command: with a prompter, its proposals are scored, else the answers to prompts."""
    from samvideo.evaluation.image_evaluation import ImageTask
    from samvideo.evaluation.proposals import COUNTS, EVERYTHING, ProposalTask

    if protocol in (None, EVERYTHING) and (protocol or prompter or proposals):
        most = proposals or COUNTS[-1]
        return ProposalTask(root, split, EVERYTHING, out, threads, reading, prompter or PROMPTER, most)
    if prompter or proposals:
        raise ConfigError(f"--prompter and --proposals belong to --protocol {EVERYTHING}, not {protocol}")
    return ImageTask(root, split, protocol or "box,click5", out, threads, reading)


def evaluate_on_images(
    task: "PictureTask", model: str, options: dict[str, Any], limit: int | None, pool: "Pool", *, quiet: bool
) -> None:
    """Evaluate, and print a summary; Exit with the code of the worst failure.

    `options` are those of `load_segmenter`.
    """
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
        make = partial(make_propose, make, task.prompter)
    evaluation = ImageEvaluation(task, spec.name, make, names, options, spec.facts().licence)
    with VideoProgress(f"images {task.root.name}", quiet=quiet) as progress:
        results = evaluate_images(evaluation, pool, progress.advance)
    if not quiet:
        typer.echo(image_summary(results, task.out / "results.json"))
    if code := exit_code_of(results):
        raise typer.Exit(code)


def image_summary(results: dict[str, Any], path: Path) -> str:
    """Summarise results in a few lines: protocol, scores by set and size, failures, path of the file."""
    from samvideo.evaluation.image_results import main_measures

    dataset, scores, protocol = results["dataset"], results["scores"], results["protocol"]
    shown = main_measures(protocol["measures"]) if protocol["prompter"] else protocol["measures"]
    title = f"{'scores' if protocol['prompter'] else 'IoU'} in percent, standard error in brackets"
    lines = [
        f"{dataset['name']} {dataset['split']} ({dataset['description']}), {results['model']['name']}",
        f"protocol: {protocol['description']}",
        f"{scores['objects']} objects in {scores['images']} images, {results['left_out']} left out (crowds)",
        f"{title:56}" + "".join(f"{measure:>14}" for measure in shown),
    ]
    sets = results["sets"] if len(results["sets"]) > 1 else {}
    parts = {"all": scores, **sets, **results["sizes"]}
    for name, part in parts.items():
        if part["objects"]:
            cells = _cells({measure: part["measures"][measure] for measure in shown}, "iou")
            lines.append(f"{name:28.28} {part['objects']:>6} objects {'':12}" + cells)
    if any(found["oracle"] > found["iou"] for found in scores["measures"].values()):
        lines.append(f"{'all, best candidate':56}" + _cells(scores["measures"], "oracle"))
    lines += _by_count(scores["measures"]) if protocol["prompter"] else []
    timing = results["timing"]
    if timing["images"] and timing["prompts"]:
        lines.append(
            f"{timing['embed_seconds'] / timing['images']:.3f} s per image, "
            f"{timing['prompt_seconds'] / timing['prompts']:.4f} s per prompt"
        )
    elif timing["images"] and protocol["prompter"]:
        lines.append(
            f"{timing['embed_seconds'] / timing['images']:.3f} s and "
            f"{(results['proposals'] or 0) / timing['images']:.1f} proposals per image"
        )
    lines += [f"FAILED {name}: {failure['message']}" for name, failure in results["failed"].items()]
    return "\n".join([*lines, f"written to {path}"])


def _by_count(measures: dict[str, Any]) -> list[str]:
    """The scores of the first 10, 50, ... proposals: a line for each kind."""
    kinds: dict[str, dict[str, Any]] = {}
    for name, found in measures.items():
        kind, count = name.split("@")
        kinds.setdefault(kind, {})[count] = found
    counts = next(iter(kinds.values()), {})
    title = f"{'all, of the first ... proposals':56}" + "".join(f"{count:>14}" for count in counts)
    return [title, *(f"{kind:56}" + _cells(found, "iou") for kind, found in kinds.items())]


def _cells(measures: dict[str, Any], key: str) -> str:
    cells = []
    for found in measures.values():
        error = found["error"] if key == "iou" else None
        cells.append(f"{100 * found[key]:.1f}" + (f" ({100 * error:.1f})" if error is not None else ""))
    return "".join(f"{cell:>14}" for cell in cells)
