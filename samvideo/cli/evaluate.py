"""`samvideo evaluate`: run a model on a benchmark."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from samvideo.cli.common import THRESHOLD_HELP, VOID_HELP, comma_list, completing, numbers, verb
from samvideo.cli.evaluate_images import IMAGES, choose_proposals, evaluate_on_images, picture_task, refuse
from samvideo.cli.models import COMPILE_HELP, MODEL_HELP, RUNTIME_HELP, WEIGHTS_HELP, with_runtime
from samvideo.cli.policies import SEVERAL_HELP, check_policies
from samvideo.cli.pools import RAY_HELP, THREADS_HELP, WORKERS_HELP, choose_pool
from samvideo.cli.score import DATASET_HELP, score_summary
from samvideo.cli.searching import DETECTOR_HELP, PROMPTER_HELP
from samvideo.weights.naming import split_name

if TYPE_CHECKING:
    from samvideo.evaluation.evaluate import Evaluation
    from samvideo.evaluation.shard import Pool
    from samvideo.evaluation.video import Task

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
OUT_HELP = "Folder for masks and results; an unfinished evaluation is resumed."
LIMIT_HELP = "The first N sequences only; of images, N spread over all."


@verb
def evaluate(
    dataset: str = typer.Argument(help=DATASET_HELP, autocompletion=completing("datasets")),
    root: Path = typer.Argument(help="Its folder, with the published layout; of images, COCO's JSON too."),
    split: str | None = typer.Option(None, help="Part of the data set [its validation split; of images, all]."),
    model: str = typer.Option("nano", help=MODEL_HELP, autocompletion=completing("trackers")),
    weights: Path | None = typer.Option(None, help=WEIGHTS_HELP),
    policy: list[str] = typer.Option([], help=SEVERAL_HELP),
    out: Path = typer.Option(..., "-o", "--out", help=OUT_HELP),
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
    workers: int | None = typer.Option(None, min=1, help=WORKERS_HELP),
    ray: str | None = typer.Option(None, "--ray", metavar="[ADDRESS]", help=RAY_HELP),
    threads: int = typer.Option(1, min=1, help=THREADS_HELP),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    dtype: str = typer.Option("auto", help="auto, fp32, bf16 or fp16 (not on a CPU)."),
    compiled: bool = typer.Option(False, "--compile", help=COMPILE_HELP),
    runtime: str = typer.Option("torch", help=RUNTIME_HELP),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress, no summary."),
) -> None:
    """Evaluate a model on a benchmark; the same command resumes an interrupted evaluation."""
    from samvideo.evaluation.threads import limit_unloaded

    limit_unloaded(threads)  # before anything that loads NumPy
    from samvideo.evaluation.image_evaluation import ImageTask
    from samvideo.evaluation.video import Task
    from samvideo.io.mask_pictures import MaskRule

    model, weights = split_name(model, weights)
    reading, pool = MaskRule(threshold, void), choose_pool(ray, workers)
    tracked = tuple(numbers(objects, "--objects"))
    options = with_runtime(_options(weights, device, dtype, policies := check_policies(policy)), runtime, compiled)
    search = choose_proposals(model, weights, prompt, text, prompter, detector, proposals, protocol)
    chosen = comma_list(sequences)
    if dataset == IMAGES or search is not None:
        refuse("trackers", "images and searches", policy=policy, runtime=options.get("runtime"), compile=compiled)
        pictures = ImageTask(root, split, protocol or "box,click5", out, threads, reading)
        scored = picture_task(pictures, search, dataset, chosen, tracked, limit)
        evaluate_on_images(scored, model, options, limit if dataset == IMAGES else None, pool, quiet=quiet)
        return
    task = Task(dataset, root, split or "", protocol or "mask", out, tracked, threads, reading)
    _run(_evaluation(task, model, options, chosen, limit), policies, pool, quiet=quiet)


def _evaluation(
    task: "Task", model: str, options: dict[str, Any], chosen: list[str], limit: int | None
) -> "Evaluation":
    """The evaluation of a tracker on the chosen sequences."""
    from samvideo.evaluation.evaluate import Evaluation, choose_sequences
    from samvideo.trackers.factory import create_tracker

    opened = task.open()
    names = choose_sequences(opened, chosen, limit)
    make = partial(create_tracker, model, **options)
    return Evaluation(replace(task, split=opened.split), model, make, names, options)


def _options(weights: Path | None, device: str, dtype: str, policies: tuple[str, ...]) -> dict[str, Any]:
    """What is given of the model, for its factory and for the record; without policies that are to be compared."""
    given: dict[str, Any] = {"weights": str(weights) if weights else "auto", "device": device, "dtype": dtype}
    given |= {"policy": policies[0] if len(policies) == 1 else "auto"}
    return {key: value for key, value in given.items() if value != "auto"}


def _run(evaluation: "Evaluation", policies: tuple[str, ...], pool: "Pool", *, quiet: bool) -> None:
    """Evaluate, and print a summary; Exit with the code of the worst failure."""
    from samvideo.cli.progress import VideoProgress
    from samvideo.evaluation.evaluate import evaluate as run_evaluation
    from samvideo.evaluation.evaluate import exit_code_of

    with VideoProgress(f"{evaluation.task.dataset} {evaluation.task.split}", quiet=quiet) as progress:
        if len(policies) > 1:
            from samvideo.evaluation.policies import evaluate_policies

            found = evaluate_policies(evaluation, policies, pool, progress.advance)
        else:
            found = {evaluation.task.out: run_evaluation(evaluation, pool, progress.advance)}
    if not quiet:
        typer.echo("\n\n".join(score_summary(results, out / "results.json") for out, results in found.items()))
    if code := max(map(exit_code_of, found.values())):
        raise typer.Exit(code)
