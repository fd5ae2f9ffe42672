"""A table of what variants of one computation take on a device, and of how far their masks agree."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from samvideo.evaluation.meter import synchronise

FIRST = 3
"""Frames within which everything is compiled and captured."""
LEAST = 15.0
"""Seconds that must be left for one more variant."""
COLUMNS = "subject", "variant", "ms", "times as fast", "first frames, s", "peak MiB", "mask IoU", "note"


@dataclass
class Table:
    """Measured rows, in a Markdown file."""

    path: Path | None
    heading: str
    end: float
    rows: list[list[str]] = field(default_factory=list)

    def add(self, *values: str) -> None:
        """Print a row and write all rows."""
        self.rows.append(list(values))
        print(" | ".join(values), flush=True)
        if self.path is not None:
            lines = [list(COLUMNS), ["---"] * len(COLUMNS), *self.rows]
            text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(f"{self.heading}\n\n{text}\n")

    def missing(self, subject: str, variant: str, reason: str) -> None:
        """Say why a row was not measured."""
        self.add(subject, variant, "", "", "", "", "", f"not run: {reason}")

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.end - time.monotonic()


@dataclass
class Variant:
    """One way to compute a subject.

    Attributes:
        name: in the table.
        open: makes the function that computes frame i and returns its masks, bool (N, ...).
    """

    name: str
    open: Callable[[], Callable[[int], np.ndarray]]
    step: Callable[[int], np.ndarray] | None = None
    first: float = 0.0
    peak: float = 0.0
    iou: float = 1.0
    seconds: list[float] = field(default_factory=list)


def measure(
    subject: str, variants: Sequence[Variant], device: torch.device, table: Table, frames: int, rounds: int
) -> None:
    """Run `frames` frames by each variant, then time `rounds` more in turn; the first is the reference."""
    reference: np.ndarray | None = None
    ready: list[Variant] = []
    for variant in variants:
        if table.left < LEAST:
            table.missing(subject, variant.name, "no time left")
            continue
        try:
            masks = warm_up(variant, device, frames)
        except Exception as error:
            table.missing(subject, variant.name, reason_of(error))
            continue
        reference = masks if reference is None else reference
        variant.iou = mask_iou(masks, reference)
        ready.append(variant)
    for index in range(frames, frames + rounds):
        if table.left < 0:
            break
        for variant in ready:
            assert variant.step is not None
            variant.seconds.append(timed(partial(variant.step, index), device))
    for variant in ready:
        report(subject, variant, ready[0], table)
        variant.step = None
    if device.type == "cuda":
        torch.cuda.empty_cache()


def warm_up(variant: Variant, device: torch.device, frames: int) -> np.ndarray:
    """The masks of the last of the first frames; notes the time of the first few, and the memory taken."""
    before = 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    variant.step = variant.open()
    for index in range(frames):
        synchronise(device)
        begin = time.perf_counter()
        masks = variant.step(index)
        synchronise(device)
        if index < FIRST:
            variant.first += time.perf_counter() - begin
    if device.type == "cuda":
        variant.peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    return masks


def report(subject: str, variant: Variant, reference: Variant, table: Table) -> None:
    """Add the row of a variant."""
    if not variant.seconds:
        table.missing(subject, variant.name, "no time left")
        return
    ratio = median(a / b for a, b in zip(reference.seconds, variant.seconds, strict=True))
    milliseconds, peak = 1000 * median(variant.seconds), f"{variant.peak:.0f}" if variant.peak else ""
    table.add(
        subject, variant.name, f"{milliseconds:.2f}", f"{ratio:.2f}", f"{variant.first:.1f}", peak,
        f"{variant.iou:.4f}", "",
    )  # fmt: skip


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of some work on a device."""
    synchronise(device)
    begin = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - begin


def mask_iou(masks: np.ndarray, others: np.ndarray) -> float:
    """Mean IoU of the masks of two arrays (N, ...), in pairs."""
    pairs = zip(masks.reshape(len(masks), -1), others.reshape(len(others), -1), strict=True)
    return float(np.mean([(a & b).sum() / union if (union := (a | b).sum()) else 1.0 for a, b in pairs]))


def reason_of(error: Exception) -> str:
    """An error in one line of a table."""
    text = " ".join(str(error).split())[:200].replace("|", "/")
    return f"{type(error).__name__}: {text}"
