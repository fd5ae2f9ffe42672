"""`samvideo track`: segment and track prompted objects through a video."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from samvideo.cli.common import THRESHOLD_HELP, VOID_HELP, comma_list, completing, end_run, parse_window, verb
from samvideo.cli.models import COMPILE_HELP, MODEL_HELP, RUNTIME_HELP, WEIGHTS_HELP, choose_model, with_runtime
from samvideo.cli.policies import POLICY_HELP, check_policy
from samvideo.cli.pools import RAY_HELP, THREADS_HELP, WORKERS_HELP, limit_threads
from samvideo.cli.searching import DETECTOR_HELP, PROMPTER_HELP, choose_search, searching_tracker, split_prompts
from samvideo.cli.track_bulk import OUT_HELP, SOURCE_HELP, Bulk, choose_bulk
from samvideo.cli.ui import BROWSER_HELP, HOST_HELP, PORT_HELP, run_page
from samvideo.moments import MOMENT_HELP, parse_moment
from samvideo.search_settings import MOST, split_searches

if TYPE_CHECKING:
    from samvideo.run import RunSettings

PROMPT_HELP = (
    "box=X1,Y1,X2,Y2 | points=X,Y/-X,Y/... (a leading minus: not on the object) | mask=FILE.png | FILE.json; "
    "each may end in @FRAME, @12.5s or @1:02.5, and #ID or #ID:LABEL. Repeatable. box, points or mask alone: "
    "annotate in the browser. everything, or text='person; ball': find the objects. Of several sources, {name} in "
    "a file's name is the name of the source."
)
FIRST_MASK_HELP = "Segmenter that turns boxes and clicks into masks [the model's own]; FILE: its weights."
START_HELP = f"First frame: {MOMENT_HELP}, at which it is shown."
END_HELP = "Stop before this frame, or before the first that begins at this time or later."
SAVE_HELP = "Results to write, of overlay, masks, rle, csv, and labels of a volume [all]."
WINDOW_HELP = "Intensities of a volume that become black and white [the 0.5 and 99.5 percentiles]."


@verb
def track(
    sources: list[str] = typer.Argument(metavar="SOURCE...", help=SOURCE_HELP),
    prompt: list[str] = typer.Option([], "--prompt", "-p", help=PROMPT_HELP),
    model: str = typer.Option("auto", help=MODEL_HELP, autocompletion=completing("trackers")),
    weights: Path | None = typer.Option(None, help=WEIGHTS_HELP),
    memory: str | None = typer.Option(None, help="Another memory method, see `samvideo models --parts`."),
    policy: str | None = typer.Option(None, help=POLICY_HELP),
    first_mask: str | None = typer.Option(None, metavar="NAME[=FILE]", help=FIRST_MASK_HELP),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    dtype: str = typer.Option("auto", help="auto, fp32, bf16 or fp16 (not on a CPU)."),
    runtime: str = typer.Option("torch", help=RUNTIME_HELP),
    compiled: bool = typer.Option(False, "--compile", help=COMPILE_HELP),
    prompter: str = typer.Option("auto", help=PROMPTER_HELP),
    detector: str | None = typer.Option(None, help=DETECTOR_HELP),
    every: float = typer.Option(1.0, metavar="SECONDS", help="Search for new objects so often."),
    max_objects: int = typer.Option(MOST, min=1, max=255, help="Of a search, tracked at a time."),
    direction: str = typer.Option("forward", help="Seen from the prompts: forward, backward or both."),
    out: Path | None = typer.Option(None, "-o", "--out", help=OUT_HELP),
    save: str | None = typer.Option(None, help=SAVE_HELP),
    window: str | None = typer.Option(None, metavar="LOW,HIGH", help=WINDOW_HELP),
    start: str | None = typer.Option(None, metavar="T", help=START_HELP),
    end: str | None = typer.Option(None, metavar="T", help=END_HELP),
    threshold: int | None = typer.Option(None, min=1, help=THRESHOLD_HELP),
    void: int | None = typer.Option(None, min=0, help=VOID_HELP),
    stride: int = typer.Option(1, min=1, help="Track every n-th frame only."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the results of an earlier run there."),
    resume: bool = typer.Option(False, "--resume", help="Go on with a killed or interrupted run, or start."),
    workers: int | None = typer.Option(None, min=1, help=WORKERS_HELP),
    ray: str | None = typer.Option(None, "--ray", metavar="[ADDRESS]", help=RAY_HELP),
    threads: int | None = typer.Option(None, min=1, help=THREADS_HELP),
    strip_source: bool = typer.Option(False, "--strip-source", help="Omit source name, times and audio."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress, no summary."),
    as_json: bool = typer.Option(False, "--json", help="Print one summary object on stdout."),
    browser: bool = typer.Option(True, "--browser/--no-browser", help=BROWSER_HELP),
    host: str = typer.Option("127.0.0.1", help=HOST_HELP),
    port: int | None = typer.Option(None, min=1, max=65535, help=PORT_HELP),
) -> None:
    """Track the prompted objects and write an overlay video, masks and tables."""
    policy, (searches, wanted, others) = check_policy(policy), split_searches(prompt)
    tools, texts = ([], others) if searches else split_prompts(others, PROMPT_HELP, resume)
    chosen = choose_model(model, weights, device, quiet=quiet)
    search = choose_search(chosen[0], prompter, wanted, detector, max_objects, every) if searches else None
    options = {"memory": memory, "policy": policy, "device": device, "dtype": dtype, "first_mask": first_mask}
    bulk = choose_bulk(sources, texts, tools, save, (threshold, void), (workers, ray, threads))
    read = texts if bulk is None else bulk.common_prompts()
    more: dict[str, Any] = {"out": out, "overwrite": overwrite, "strip_source": strip_source, "resume": resume}
    more |= {"search": search, "labelled": searches, "stride": stride, "runtime": runtime, "compiled": compiled}
    given = save, direction, (start, end), (threshold, void), window, sources[0]
    settings = _parse_settings(read, *given, chosen, options, **more)
    _run(settings, bulk, tools, threads, quiet, as_json, (browser, host, port))


def _parse_settings(
    prompts: list[str],
    save: str | None,
    direction: str,
    moments: tuple[str | None, str | None],
    masks: tuple[int | None, int | None],
    window: str | None,
    source: str,
    model: tuple[str, Path | None],
    options: dict[str, str | None],
    *,
    runtime: str,
    compiled: bool,
    **others: Any,
) -> "RunSettings":
    """Make the settings of a run; `others` are taken as they are."""
    from samvideo.io.mask_pictures import MaskRule
    from samvideo.outputs import default_kinds
    from samvideo.prompt_syntax import parse_prompts
    from samvideo.run import RunSettings
    from samvideo.trackers.direction import check_direction

    name, weights = model
    start, end = (parse_moment(moment) for moment in moments)
    return RunSettings(
        model=name,
        options=with_runtime({"weights": str(weights) if weights else None, **options}, runtime, compiled),
        prompts=tuple(parse_prompts(prompts, MaskRule(*masks))),
        prompt_texts=tuple(prompts),
        direction=check_direction(direction),
        save=tuple(default_kinds(source) if save is None else comma_list(save)),
        window=parse_window(window),
        source=source,
        start=start,
        end=end,
        **others,
    )


def _run(
    settings: "RunSettings",
    bulk: Bulk | None,
    tools: list[str],
    threads: int | None,
    quiet: bool,
    as_json: bool,
    page: tuple[bool, str, int | None],
) -> None:
    """Track many sources, or one with the page, or one from its prompts."""
    if bulk is not None:
        bulk.track(settings, quiet=quiet, as_json=as_json)
        return
    limit_threads(threads)
    if tools:
        run_page(settings, tools[0], quiet, as_json, *page)
        return
    from samvideo.cli.progress import TrackProgress
    from samvideo.runner import run_tracking

    summary, failure = run_tracking(
        settings, lambda: searching_tracker(settings, quiet), lambda n, total: TrackProgress(n, total, quiet=quiet)
    )
    end_run(summary, failure, summary is None or summary.status == "interrupted", quiet=quiet, as_json=as_json)
