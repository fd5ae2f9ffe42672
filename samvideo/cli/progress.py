"""A progress line on stderr: frames, rate, time left, and how each object fares."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from samvideo.types import FrameResult


class TrackProgress:
    """Context manager; `advance` after each frame. Draws nothing when `quiet` or when stderr is no terminal."""

    def __init__(self, name: str, total: int | None, *, quiet: bool) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[objects]}"),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=total, rate="", objects="")

    def advance(self, result: FrameResult) -> None:
        """One frame is done."""
        states = [
            f"{i}:{s:.2f}" if p else f"{i}:lost"
            for i, s, p in zip(result.object_ids, result.scores, result.present, strict=True)
        ]
        shown = " ".join(states[:6]) + (f" +{len(states) - 6}" if len(states) > 6 else "")
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, advance=1, objects=shown, rate=f"{speed:.1f} fps" if speed else "")

    def __enter__(self) -> "TrackProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
