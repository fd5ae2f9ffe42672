"""`samvideo evaluate images`: a segmenter on still images, instead of a tracker on videos."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from samvideo.evaluation.image_evaluation import ImageTask
    from samvideo.evaluation.shard import Pool

IMAGES = "images"
"""The name of the data set."""


def evaluate_on_images(
    task: "ImageTask", model: str, options: dict[str, Any], limit: int | None, pool: "Pool", *, quiet: bool
) -> None:
    """Evaluate, and print a summary; Exit with the code of the worst failure.

    `options` are those of `load_segmenter`.
    """
    from samvideo.cli.progress import VideoProgress
    from samvideo.evaluation.evaluate import exit_code_of
    from samvideo.evaluation.image_evaluation import ImageEvaluation, evaluate_images
    from samvideo.evaluation.image_sets import choose_pictures
    from samvideo.segmenters.factory import find_segmenter, load_segmenter

    spec = find_segmenter(model, Path(options["weights"]) if "weights" in options else None)
    names = choose_pictures(task.open(), limit)
    make = partial(load_segmenter, model, **options)
    evaluation = ImageEvaluation(task, spec.name, make, names, options, spec.facts().licence)
    with VideoProgress(f"images {task.root.name}", quiet=quiet) as progress:
        results = evaluate_images(evaluation, pool, progress.advance)
    if not quiet:
        typer.echo(image_summary(results, task.out / "results.json"))
    if code := exit_code_of(results):
        raise typer.Exit(code)


def image_summary(results: dict[str, Any], path: Path) -> str:
    """Summarise results in a few lines: protocol, scores by set and size, failures, path of the file."""
    dataset, scores, measures = results["dataset"], results["scores"], results["protocol"]["measures"]
    lines = [
        f"{dataset['name']} {dataset['split']} ({dataset['description']}), {results['model']['name']}",
        f"protocol: {results['protocol']['description']}",
        f"{scores['objects']} objects in {scores['images']} images, {results['left_out']} left out (crowds)",
        f"IoU in percent, standard error in brackets{'':8}" + "".join(f"{measure:>14}" for measure in measures),
    ]
    sets = results["sets"] if len(results["sets"]) > 1 else {}
    parts = {"all": scores, **sets, **results["sizes"]}
    for name, part in parts.items():
        if part["objects"]:
            lines.append(f"{name:28.28} {part['objects']:>6} objects {'':12}" + _cells(part["measures"], "iou"))
    if any(found["oracle"] > found["iou"] for found in scores["measures"].values()):
        lines.append(f"{'all, best candidate':56}" + _cells(scores["measures"], "oracle"))
    timing = results["timing"]
    if timing["images"] and timing["prompts"]:
        lines.append(
            f"{timing['embed_seconds'] / timing['images']:.3f} s per image, "
            f"{timing['prompt_seconds'] / timing['prompts']:.4f} s per prompt"
        )
    lines += [f"FAILED {name}: {failure['message']}" for name, failure in results["failed"].items()]
    return "\n".join([*lines, f"written to {path}"])


def _cells(measures: dict[str, Any], key: str) -> str:
    cells = []
    for found in measures.values():
        error = found["error"] if key == "iou" else None
        cells.append(f"{100 * found[key]:.1f}" + (f" ({100 * error:.1f})" if error is not None else ""))
    return "".join(f"{cell:>14}" for cell in cells)
