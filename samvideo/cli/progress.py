"""Progress lines on stderr: of a tracking run, of the videos of a benchmark, of a download."""

from typing import Any, TypeVar

import typer
from rich import progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from samvideo.types import FrameResult

S = TypeVar("S", bound="StderrProgress")
_COUNT = BarColumn(bar_width=24), MofNCompleteColumn()


class StderrProgress:
    """One line on stderr with the given columns; a context manager.

    Draws nothing if `quiet`, or if stderr is not a terminal.
    """

    def __init__(
        self, title: str, total: int | None, columns: tuple[ProgressColumn, ...], quiet: bool, **fields: Any
    ) -> None:
        console = Console(stderr=True)
        off = quiet or not console.is_terminal
        self._bar = Progress(TextColumn("{task.description}"), *columns, console=console, disable=off)
        self._task = self._bar.add_task(title, total=total, **fields)

    def __enter__(self: S) -> S:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


class TrackProgress(StderrProgress):
    """Frames, rate, time left and the confidence of each object of a tracking run."""

    def __init__(self, name: str, total: int | None, *, quiet: bool) -> None:
        rate, objects = TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[objects]}")
        columns = (progress.SpinnerColumn(), *_COUNT, rate, TimeRemainingColumn(), objects)
        super().__init__(name, total, columns, quiet, rate="", objects="")

    def advance(self, result: FrameResult) -> None:
        """Count one frame."""
        states = [f"{i}:{score:.2f}" if present else f"{i}:lost" for i, _, score, present in result.rows()]
        shown = " ".join(states[:6]) + (f" +{len(states) - 6}" if len(states) > 6 else "")
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, advance=1, objects=shown, rate=f"{speed:.1f} fps" if speed else "")


class VideoProgress(StderrProgress):
    """Videos done, time passed and time left of an evaluation."""

    def __init__(self, title: str, *, quiet: bool) -> None:
        times = progress.TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
        super().__init__(title, None, (*_COUNT, *times, TextColumn("{task.fields[name]}")), quiet, name="")

    def advance(self, name: str, done: int, total: int) -> None:
        """Show that `done` of `total` videos are done, the last one being `name`."""
        self._bar.update(self._task, completed=done, total=total, name=name)


class DownloadProgress(StderrProgress):
    """Bytes and speed of a download; `advance` is the callback that `fetch` and `load` take.

    The announcement is printed before the download, if there is one, even if `quiet`.
    """

    def __init__(self, title: str, announcement: str, *, quiet: bool) -> None:
        columns = (BarColumn(), TimeRemainingColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn())
        super().__init__(title, None, columns, quiet)
        self._announcement = announcement

    def __enter__(self) -> "DownloadProgress":
        return self  # nothing is drawn unless something is downloaded

    def advance(self, have: int, expected: int | None) -> None:
        """Show the bytes present and expected."""
        if self._announcement:
            typer.echo(self._announcement, err=True)
            self._announcement = ""
            self._bar.start()
        self._bar.update(self._task, completed=have, total=expected)
