"""`samvideo track` of many sources in one call."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from samvideo.cli.common import INTERRUPTED, comma_list
from samvideo.cli.pools import choose_pool
from samvideo.cli.searching import searching_tracker
from samvideo.errors import ConfigError

if TYPE_CHECKING:
    from samvideo.bulk_run import Outcome
    from samvideo.run import RunSettings

SOURCE_HELP = (
    "Video file, folder or glob of images, NIfTI volume (.nii, .nii.gz), camera index (0), RTSP or HTTP address, "
    "or - for stdin. Several, or a quoted glob of videos: each gets a folder of its own, NAME_tracked."
)
OUT_HELP = "Folder for the results [NAME_tracked]; of several sources, the one that holds their folders [.]."


@dataclass(frozen=True)
class Bulk:
    """Many sources, and the workers that track them.

    Attributes:
        sources: by name.
        prompts: as texts.
        save: kinds of results, None for all that a source has.
        masks: threshold and void of masks.
        workers, ray, threads: as given.
        is_single: whether there is one source, and no pattern.
    """

    sources: Mapping[str, str]
    prompts: Sequence[str]
    save: Sequence[str] | None
    masks: tuple[int | None, int | None]
    workers: int | None
    ray: str | None
    threads: int | None
    is_single: bool = False

    def common_prompts(self) -> list[str]:
        """The prompts that are the same for all sources, which can be checked before any is tracked."""
        from samvideo.bulk_run import has_name

        return [text for text in self.prompts if not has_name(text)]

    def track(self, settings: "RunSettings", *, quiet: bool, as_json: bool) -> None:
        """Track all sources, print a summary, and Exit with the code of the first failure.

        Args:
            settings: of all runs; its folder is the one that holds theirs.
            quiet, as_json: as of the command.
        """
        from samvideo.bulk_run import BulkRun, track_all
        from samvideo.cli.progress import VideoProgress
        from samvideo.io.mask_pictures import MaskRule

        alone = self.ray is None and (self.workers or 1) == 1
        work = BulkRun(
            replace(settings, prompts=(), prompt_texts=tuple(self.prompts)),
            self.sources,
            out=settings.out or Path(),
            save=None if self.save is None else tuple(self.save),
            rule=MaskRule(*self.masks),
            is_single=self.is_single and settings.out is not None,
            threads=self.threads or (None if alone else 1),
            folder=Path.cwd(),
        )
        with VideoProgress("tracking", quiet=quiet) as progress:
            make = partial(searching_tracker, settings, quiet=True)
            outcomes, interrupted = track_all(work, make, choose_pool(self.ray, self.workers), progress.advance)
        _report(outcomes, interrupted, quiet=quiet, as_json=as_json)


def choose_bulk(
    sources: Sequence[str],
    prompts: Sequence[str],
    tools: Sequence[str],
    save: str | None,
    masks: tuple[int | None, int | None],
    workers: tuple[int | None, str | None, int | None],
) -> Bulk | None:
    """Many sources, or one on a cluster; None for a single one here. `workers` are their number, Ray and threads.

    Raises:
        ConfigError: they cannot be tracked in one call.
        VideoError: nothing matches a pattern.
    """
    from samvideo.bulk_run import find_sources, is_bulk

    is_single = not is_bulk(sources)
    if is_single and workers[1] is None:
        return None
    if tools:
        raise ConfigError(
            f"the page shows one source, on this machine: give the coordinates of --prompt {tools[0]}, or track "
            "the sources one by one, without --ray"
        )
    chosen = None if save is None else comma_list(save)
    return Bulk(find_sources(sources), prompts, chosen, masks, *workers, is_single)


def _report(outcomes: Sequence["Outcome"], interrupted: bool, *, quiet: bool, as_json: bool) -> None:
    """Print what became of each source; Exit unless all are complete."""
    failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    if as_json:
        status = "interrupted" if interrupted else "failed" if failures else "complete"
        typer.echo(json.dumps({"status": status, "runs": [outcome.to_json() for outcome in outcomes]}))
    for outcome in outcomes:
        if outcome.failure is not None:
            typer.echo(f"error: {outcome.source}: {outcome.failure.message}", err=True)
        elif not (quiet or as_json):
            done = "before" if outcome.earlier else f"{outcome.frames} frames"
            typer.echo(f"{outcome.status}: {outcome.source}: {done}  {outcome.out}", err=True)
    if not (quiet or as_json):
        complete = sum(outcome.status == "complete" for outcome in outcomes)
        typer.echo(f"{complete} of {len(outcomes)} complete", err=True)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if failures:
        raise typer.Exit(failures[0].exit_code)
