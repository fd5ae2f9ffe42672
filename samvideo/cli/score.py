"""`samvideo score`: compare masks of another tool with the ground truth of a benchmark."""

from pathlib import Path
from typing import Any

import typer

from samvideo.cli.common import THRESHOLD_HELP, VOID_HELP, comma_list, completing, numbers, verb

DATASET_HELP = "images, or one of {datasets}."
UNSUPERVISED_HELP = "Masks are tracks without prompts: match up to 20 with the objects, over all annotated frames."


@verb
def score(
    dataset: str = typer.Argument(help=DATASET_HELP, autocompletion=completing("datasets")),
    root: Path = typer.Argument(help="Its folder; for `folder` also plain <sequence>/<frame>.png."),
    predictions: Path = typer.Argument(help="<sequence>/<frame>.png, or <sequence>/<object>/<frame>.png for SA-V."),
    split: str | None = typer.Option(None, help="Part of the data set [its validation split]."),
    out: Path = typer.Option(
        Path("results.json"), "-o", "--out", help="File to write; a CSV file is written beside it."
    ),
    objects: str | None = typer.Option(None, metavar="1,2", help="Score these objects only."),
    sequences: str | None = typer.Option(None, metavar="A,B", help="Score these sequences only."),
    ends: bool = typer.Option(False, "--ends", help="Include the first and last annotated frame."),
    unsupervised: bool = typer.Option(False, "--unsupervised", help=UNSUPERVISED_HELP),
    threshold: int | None = typer.Option(None, min=1, help=THRESHOLD_HELP),
    void: int | None = typer.Option(None, min=0, help=VOID_HELP),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress, no summary."),
) -> None:
    """Score saved masks; the numbers equal those of the official evaluations."""
    from samvideo.cli.progress import VideoProgress
    from samvideo.evaluation.evaluate import exit_code_of
    from samvideo.evaluation.evaluate import score as run_score
    from samvideo.evaluation.results import check_target, write_results
    from samvideo.io.mask_pictures import MaskRule

    check_target(out)
    with VideoProgress(f"scoring {dataset}", quiet=quiet) as progress:
        results = run_score(
            dataset,
            root,
            predictions,
            split=split,
            sequences=comma_list(sequences),
            objects=tuple(numbers(objects, "--objects")),
            ends=ends,
            unsupervised=unsupervised,
            reading=MaskRule(threshold, void),
            progress=progress.advance,
        )
    write_results(out.parent, results, out.name)
    if not quiet:
        typer.echo(score_summary(results, out))
    if code := exit_code_of(results):
        raise typer.Exit(code)


def score_summary(results: dict[str, Any], path: Path) -> str:
    """Summarise results in a few lines: protocol, rule, scores, failures, path of the file."""
    scores, dataset = results["scores"], results["dataset"]
    policy = results["model"]["options"].get("policy")
    lines = [
        f"{dataset['name']} {dataset['split']}, {results['model']['name']}{f', {policy}' if policy else ''}",
        f"protocol: {results['protocol']['description']}",
        f"scored:   {dataset['rule']}",
    ]
    shown = [(key, value) for key, value in scores.items() if key != "objects" and value is not None]
    lines += [
        "  ".join(f"{key} {100 * value:.2f}" for key, value in shown[k : k + 4]) for k in range(0, len(shown), 4)
    ]
    lines.append(f"{scores['objects']} objects in {len(results['sequences'])} sequences")
    timing = results["timing"]
    if timing and timing["fps"]:
        shared = (timing.get("shared_seconds") or 0) / timing["track_seconds"]
        note = f", {shared:.0%} of the time for encoding, done once for all policies" if shared else ""
        lines.append(f"{timing['fps']:.2f} frames per second in the tracker{note}")
    lines += [f"FAILED {name}: {failure['message']}" for name, failure in results["failed"].items()]
    return "\n".join([*lines, f"written to {path}"])
