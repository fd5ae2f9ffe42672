"""What `evaluate` and `score` print: progress by video, and the scores."""

from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class VideoProgress:
    """A line on stderr with videos done and time left; draws nothing when `quiet` or when stderr is no terminal."""

    def __init__(self, title: str, *, quiet: bool) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[name]}"),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=None, name="")

    def advance(self, name: str, done: int, total: int) -> None:
        """One video is done."""
        self._bar.update(self._task, completed=done, total=total, name=name)

    def __enter__(self) -> "VideoProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def summary(results: dict[str, Any], path: Path) -> str:
    """The result in a few lines: protocol, rule, scores, what failed, where the file is."""
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
