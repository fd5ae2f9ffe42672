"""The course of a training as event files of TensorBoard, where that is installed."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class Events:
    """Writes numbers by name and step; does nothing without the package tensorboard.

    Args:
        folder: of the event files; None for none.
        step: where the training goes on: what earlier files have from there on is not shown.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self._writer: Any = None
        if folder is not None and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(folder, purge_step=step)  # type: ignore[no-untyped-call]

    def add(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Add the values of a step, as `group/name`."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)
            self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
