"""docs/graphs.md names every input and output of the graphs, every constant and every key of the manifest."""

import re
from dataclasses import fields
from math import prod
from pathlib import Path

import pytest
import torch
from tiny_sam import tiny_model
from torch import Tensor

from samvideo.deploy.bundle import _constants
from samvideo.deploy.graphs import FINE, graphs_of
from samvideo.deploy.manifest import Manifest
from samvideo.models import VideoModel, build

TEXT = (Path(__file__).parents[2] / "docs" / "graphs.md").read_text()
Row = tuple[str, ...]


def tables(title: str) -> list[list[Row]]:
    """The tables of a section, without their heads."""
    section = TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [[tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in t.splitlines()[2:]] for t in found]


def names(row: Row) -> list[str]:
    return re.findall(r"`(\w+)`", row[0])


def length(text: str, symbols: dict[str, int]) -> int:
    """The length of an axis, such as "H/16 · W/16"."""
    sizes = symbols | {number: int(number) for number in re.findall(r"\d+", text)}
    parts = [part.strip().split("/") for part in text.split("·")]
    return prod(sizes[whole] // int(divisor[0] if divisor else 1) for whole, *divisor in parts)


def signature(rows: list[Row], symbols: dict[str, int], *, fine: bool) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {
        names(row)[0]: (row[1], tuple(length(axis, symbols) for axis in row[2].split(", ")))
        for row in rows
        if fine or names(row)[0] not in FINE
    }


def found(values: dict[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (str(v.dtype).removeprefix("torch."), tuple(v.shape)) for name, v in values.items()}


@pytest.mark.parametrize(
    ("model", "size_wh", "tokens"),
    [
        (lambda: tiny_model(size=(96, 64)), (96, 64), 24),
        (lambda: build("edgetam", input_size=256), (256, 256), 512),
    ],
    ids=["plain", "with fine maps"],
)
def test_graphs(model: object, size_wh: tuple[int, int], tokens: int) -> None:
    built: VideoModel = model().fuse()  # type: ignore[operator]
    frames, pointers = built.policy.capacity
    symbols = {"W": size_wh[0], "H": size_wh[1], "B": 3, "R": frames, "P": pointers, "N": tokens, "C": 64, "K": 3}
    for stage, graph in graphs_of(built, objects=3).items():
        inputs, outputs = (signature(rows, symbols, fine=built.encoder.fine) for rows in tables(stage))
        assert inputs == found(graph.inputs), stage
        with torch.no_grad():
            results = graph.module(*graph.inputs.values())
        results = results if isinstance(results, tuple) else (results,)
        assert outputs == found(dict(zip(graph.outputs, results, strict=True))), stage


def test_files() -> None:
    keys, arrays = tables("Files")
    assert sorted(name for row in keys for name in names(row)) == sorted(field.name for field in fields(Manifest))
    shapes = {names(row)[0]: tuple(int(side) for side in row[1].split(",")) for row in arrays}
    assert shapes == {name: array.shape for name, array in _constants(tiny_model()).items()}
