"""`samvideo evaluate`: run a model on a benchmark."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from samvideo.cli.common import THRESHOLD_HELP, VOID_HELP, Command, comma_list, completing, numbers, verb
from samvideo.cli.evaluate_images import IMAGES, choose_proposals, evaluate_on_images, picture_task
from samvideo.cli.models import MODEL_HELP, WEIGHTS_HELP
from samvideo.cli.searching import DETECTOR_HELP, PROMPTER_HELP

if TYPE_CHECKING:
    from samvideo.evaluation.shard import Pool
    from samvideo.evaluation.video import Task

RAY_HELP = "Use this Ray cluster (auto: a running one), or start one on this machine."
DATASET_HELP = "images, or one of {datasets}."
PROTOCOLS = (
    "mask, box, click1, click3, click5 on first appearance; online, offline: corrected where worst [mask]. "
    "Of images: box, click1 ... click20, or both [box,click5]."
)
PROMPT_HELP = (
    "everything: score what a prompter finds, by J and recall of the best proposal and COCO's AR; of videos, on "
    "the frames where objects first appear. `score --unsupervised` scores whole tracks that nobody prompted."
)
TEXT_HELP = 'Find what these name, as "person; ball": the prompter text.'
EVALUATED_DETECTOR_HELP = f"{DETECTOR_HELP} truth: the boxes of the ground truth, for boxes."
LIMIT_HELP = "The first N sequences only; of images, N spread over all."


class EvaluateCommand(Command):
    """Allows `--ray` without a value, which typer's options do not."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Turn a `--ray` that is followed by nothing or by another option into `--ray=local`."""
        following = [*args[1:], "-"]
        completed = [
            "--ray=local" if a == "--ray" and b.startswith("-") else a
            for a, b in zip(args, following, strict=False)
        ]
        return super().parse_args(ctx, completed)


@verb
def evaluate(
    dataset: str = typer.Argument(help=DATASET_HELP, autocompletion=completing("datasets")),
    root: Path = typer.Argument(help="Its folder, with the published layout; of images, COCO's JSON too."),
    split: str | None = typer.Option(None, help="Part of the data set [its validation split; of images, all]."),
    model: str = typer.Option("nano", help=MODEL_HELP, autocompletion=completing("trackers")),
    weights: Path | None = typer.Option(None, help=WEIGHTS_HELP),
    out: Path = typer.Option(
        ..., "-o", "--out", help="Folder for masks and results; an unfinished evaluation is resumed."
    ),
    protocol: str | None = typer.Option(None, help=PROTOCOLS, show_default=False),
    prompt: list[str] = typer.Option([], "--prompt", "-p", help=PROMPT_HELP),
    text: str | None = typer.Option(None, help=TEXT_HELP, show_default=False),
    prompter: str | None = typer.Option(None, help=f"{PROMPTER_HELP} [auto]", show_default=False),
    detector: str | None = typer.Option(None, help=EVALUATED_DETECTOR_HELP, show_default=False),
    proposals: int | None = typer.Option(None, min=1, help="So many of an image at most [1000]."),
    objects: str | None = typer.Option(None, metavar="1,2", help="Track and score these objects only."),
    sequences: str | None = typer.Option(None, metavar="A,B", help="These sequences only."),
    threshold: int | None = typer.Option(None, min=1, help=THRESHOLD_HELP),
    void: int | None = typer.Option(None, min=0, help=VOID_HELP),
    limit: int | None = typer.Option(None, min=1, help=LIMIT_HELP),
    workers: int | None = typer.Option(None, min=1, help="Processes, or actors on the Ray cluster [1]."),
    ray: str | None = typer.Option(None, "--ray", metavar="[ADDRESS]", help=RAY_HELP),
    threads: int = typer.Option(1, min=1, help="Threads of each worker."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    dtype: str = typer.Option("auto", help="auto, fp32, bf16 or fp16 (not on a CPU)."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress, no summary."),
) -> None:
    """Evaluate a model on a benchmark; the same command resumes an interrupted evaluation."""
    from samvideo.evaluation.threads import limit_unloaded

    limit_unloaded(threads)  # before anything that loads NumPy
    from samvideo.evaluation.evaluate import choose_sequences
    from samvideo.evaluation.image_evaluation import ImageTask
    from samvideo.evaluation.video import Task
    from samvideo.io.mask_pictures import MaskRule
    from samvideo.weights.naming import split_name

    model, weights = split_name(model, weights)
    reading, pool, options = MaskRule(threshold, void), _pool(ray, workers), _options(weights, device, dtype)
    search = choose_proposals(model, weights, prompt, text, prompter, detector, proposals, protocol)
    chosen, tracked = comma_list(sequences), tuple(numbers(objects, "--objects"))
    if dataset == IMAGES or search is not None:
        pictures = ImageTask(root, split, protocol or "box,click5", out, threads, reading)
        scored = picture_task(pictures, search, dataset, chosen, tracked, limit)
        evaluate_on_images(scored, model, options, limit if dataset == IMAGES else None, pool, quiet=quiet)
        return
    protocol = protocol or "mask"
    opened = Task(dataset, root, split or "", protocol, out).open()
    task = Task(dataset, root, opened.split, protocol, out, tracked, threads, reading)
    _run(task, model, options, choose_sequences(opened, chosen, limit), pool, quiet=quiet)


def _options(weights: Path | None, device: str, dtype: str) -> dict[str, Any]:
    """What is given of the model, for its factory and for the record."""
    given = {"weights": str(weights) if weights else "auto", "device": device, "dtype": dtype}
    return {key: value for key, value in given.items() if value != "auto"}


def _run(
    task: "Task", model: str, options: dict[str, Any], names: tuple[str, ...], pool: "Pool", *, quiet: bool
) -> None:
    """Evaluate a tracker, and print a summary; Exit with the code of the worst failure."""
    from samvideo.cli.progress import VideoProgress
    from samvideo.evaluation.evaluate import Evaluation, exit_code_of
    from samvideo.evaluation.evaluate import evaluate as run_evaluation
    from samvideo.trackers.factory import create_tracker

    evaluation = Evaluation(task, model, partial(create_tracker, model, **options), names, options)
    with VideoProgress(f"{task.dataset} {task.split}", quiet=quiet) as progress:
        results = run_evaluation(evaluation, pool, progress.advance)
    if not quiet:
        typer.echo(score_summary(results, task.out / "results.json"))
    if code := exit_code_of(results):
        raise typer.Exit(code)


def _pool(ray: str | None, workers: int | None) -> "Pool":
    """Where to run: in this process, in several, or on a Ray cluster."""
    from samvideo.evaluation.shard import LocalPool, RayPool, run_here

    if ray is not None:
        return RayPool(None if ray == "local" else ray, workers)
    return LocalPool(workers) if workers is not None and workers > 1 else run_here


def score_summary(results: dict[str, Any], path: Path) -> str:
    """Summarise results in a few lines: protocol, rule, scores, failures, path of the file."""
    scores, dataset = results["scores"], results["dataset"]
    lines = [
        f"{dataset['name']} {dataset['split']}, {results['model']['name']}",
        f"protocol: {results['protocol']['description']}",
        f"scored:   {dataset['rule']}",
    ]
    shown = [(key, value) for key, value in scores.items() if key != "objects" and value is not None]
    lines += [
        "  ".join(f"{key} {100 * value:.2f}" for key, value in shown[k : k + 4]) for k in range(0, len(shown), 4)
    ]
    lines.append(f"{scores['objects']} objects in {len(results['sequences'])} sequences")
    if results["timing"] and results["timing"]["fps"]:
        lines.append(f"{results['timing']['fps']:.2f} frames per second in the tracker")
    lines += [f"FAILED {name}: {failure['message']}" for name, failure in results["failed"].items()]
    return "\n".join([*lines, f"written to {path}"])
