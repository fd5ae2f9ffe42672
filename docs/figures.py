"""Draws the figures of the concept pages, with the package itself: `python docs/figures.py [NAME …]`."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from fake_runtime import FakeRuntime
from ideal_decoder import IdealRuntime, numbered
from policy_cases import CASES, SIZE

from samvideo.memory.bank import MemoryBank
from samvideo.memory.base import MemoryEntry
from samvideo.models import build
from samvideo.registry import MEMORY_POLICIES
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import CLEAR_RADIUS, SamTracker
from samvideo.types import Box, Frame, Mask, Points

DARK, LIGHT, WARM, SHADE, TEXT = "#00796b", "#b2dfdb", "#ef6c00", "#eceff1", "#263238"
STAGES = ("encode", "track", "prompt", "choose", "remember", "output")
POLICIES = ("fifo", "pruning", "samurai", "dam4sam", "d4sm", "sam2long", "diverse", "consolidated")
METHODS = ("plain", "pooled", "perceiver", "ridge", "affinity-ridge")


class Drawing:
    """An SVG picture of rectangles and texts."""

    def __init__(self, width: int, height: int) -> None:
        self.size, self.parts = (width, height), [f'<rect width="{width}" height="{height}" fill="white"/>']

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle."""
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{colour}"/>')

    def lines(self, starts: Iterable[tuple[float, float, float]], colour: str) -> None:
        """Horizontal lines: x, y, length."""
        path = "".join(f"M{x:g} {y:g}h{length:g}" for x, y, length in starts)
        self.parts.append(f'<path d="{path}" stroke="{colour}" stroke-width="1.5"/>')

    def text(self, x: float, y: float, text: object, anchor: str = "middle", colour: str = TEXT) -> None:
        """A line of text, at its baseline."""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}">{text}</text>')

    def legend(self, x: float, y: float, entries: Iterable[tuple[str, str]]) -> None:
        """Colours and their meaning in a row."""
        for colour, meaning in entries:
            self.box(x, y - 9, 10, 10, colour)
            self.text(x + 15, y, meaning, "start")
            x += 30 + 6.5 * len(meaning)

    def __str__(self) -> str:
        width, height = self.size
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        return "\n".join([f'{head} font-family="sans-serif" font-size="12">', *self.parts, "</svg>\n"])


class Recorder:
    """A runtime that counts the objects of every call of a stage."""

    def __init__(self, runtime: Any) -> None:
        self._runtime, self.calls = runtime, {}

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._runtime, name)
        if name not in STAGES:
            return attribute

        def call(*arguments: Any, **options: Any) -> Any:
            batch = next((a for a in arguments if isinstance(a, (list, tuple))), [0])
            self.calls[name] = self.calls.get(name, 0) + (1 if name == "prompt" else len(batch))
            return attribute(*arguments, **options)

        return call


def streaming() -> Drawing:
    """Which stages the tracker calls on each frame, for how many objects."""
    red, blue = (255, 0, 0), (0, 0, 255)
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[8:24, 8:24], picture[40:56, 40:56] = red, blue
    prompts = {
        0: [Box((8, 8, 24, 24), object_id=1)],
        3: [Box((40, 40, 56, 56), object_id=2)],
        6: [Points([(16, 16)], object_id=1)],
    }
    recorder = Recorder(FakeRuntime(MEMORY_POLICIES.build("fifo"), (64, 64)))
    tracker = SamTracker(recorder)
    drawing = Drawing(700, 250)
    for row, stage in enumerate(STAGES):
        drawing.text(80, 72 + 28 * row, stage, "end")
    for index in range(9):
        recorder.calls = {}
        tracker.step(Frame(index, index / 25, picture), prompts.get(index, ()))
        drawing.text(123 + 66 * index, 40, f"frame {index}")
        for row, stage in enumerate(STAGES):
            count = recorder.calls.get(stage, 0)
            colour = WARM if stage == "prompt" else DARK
            drawing.box(94 + 66 * index, 54 + 28 * row, 58, 24, colour if count else SHADE)
            drawing.text(123 + 66 * index, 71 + 28 * row, count or "", colour="white")
    for index, what in ((0, "object 1"), (3, "object 2"), (6, "1 corrected")):
        drawing.text(123 + 66 * index, 22, what, colour=WARM)
    drawing.text(94, 242, "objects in the calls of a stage; encode: once for all of them", "start")
    return drawing


def memory() -> Drawing:
    """What the bank of one object holds under the policy `fifo`, with a correction on frame 20."""
    frames, cell, corrected = 36, 14, 20
    drawing = Drawing(700, 610)
    left, top = 110, 20
    bank = MemoryBank(MEMORY_POLICIES.build("fifo"))
    for now in range(frames):
        prompted = now in (0, corrected)
        if prompted and now:
            bank.drop_near(now, CLEAR_RADIUS)
        bank.insert(MemoryEntry(now, prompted, tokens=now, pointer=now))
        for entry in bank.entries:
            colour = WARM if entry.prompted else LIGHT if entry.tokens is None else DARK
            drawing.box(left + cell * now, top + cell * entry.index, cell - 2, cell - 2, colour)
    for index in range(0, frames, 5):
        drawing.text(left + cell * index + 6, top + cell * frames + 14, index)
        drawing.text(left - 6, top + cell * index + 10, index, "end")
    drawing.text(left + cell * frames / 2, top + cell * frames + 32, "frame that was processed")
    drawing.text(10, top + 10, "in memory:", "start")
    drawing.text(10, top + 26, "frame", "start")
    meanings = (WARM, "prompted: tokens and pointer"), (DARK, "tokens and pointer"), (LIGHT, "pointer only")
    drawing.legend(left, top + cell * frames + 60, meanings)
    return drawing


def methods() -> Drawing:
    """What one frame leaves in memory for one object, by memory method, at an input of 512 pixels."""
    sizes = {name: remembered_bytes(name) for name in METHODS}
    drawing = Drawing(700, 40 + 34 * len(METHODS))
    for row, (name, (count, width, size)) in enumerate(sizes.items()):
        y = 20 + 34 * row
        drawing.text(110, y + 16, name, "end")
        drawing.box(120, y, 300 * size / max(size for _, _, size in sizes.values()), 24, DARK)
        described = f"{size / 1024:.0f} KiB: {count} token{'s' * (count > 1)} of {width} values"
        drawing.text(128 + 300 * size / max(size for _, _, size in sizes.values()), y + 16, described, "start")
    return drawing


def remembered_bytes(method: str) -> tuple[int, int, int]:
    """Number, width and bytes of the tokens that a method makes of a frame of 512 x 512 pixels."""
    runtime = TorchRuntime(build("vit-ti", memory=method, input_size=512))
    features = runtime.encode(np.zeros((512, 512, 3), np.uint8))
    prediction = runtime.use_mask_as_output(features, np.eye(512, dtype=bool))
    tokens = runtime.remember(features, [prediction], [True])[0].features
    return tokens.shape[1], tokens.shape[2], tokens.numel() * tokens.element_size()


def policies() -> Drawing:
    """The frames that each policy attends to, on a clip in which the object is hidden and another looks like it."""
    clip, side, left = CASES["long occlusion, look-alike"](0), 150, 30
    drawing = Drawing(4 * (side + 25) + left, 2 * (side + 50) + 40)
    for number, policy in enumerate(POLICIES):
        x, y = left + number % 4 * (side + 25), 30 + number // 4 * (side + 50)
        drawing.box(x, y, side, side, SHADE)
        drawing.box(x + 80, y, 30, side, "#cfd8dc")
        tracker = SamTracker(IdealRuntime(MEMORY_POLICIES.build(policy), clip.scene))
        attended: dict[int, list[int]] = {}
        for index in range(len(clip)):
            prompts = [Mask(clip.scene(index).visible[0], object_id=1)] if index == 0 else []
            tracker.step(Frame(index, index / 25, numbered(index, SIZE)), prompts)
            bank = tracker.objects[1].best.bank
            indices = {id(entry.tokens): entry.index for entry in bank.entries}
            for frame in bank.recall(index + 1).frames:
                attended.setdefault(indices[id(frame.tokens)], []).append(index)
        drawing.lines(
            [(x + a, y + row, b - a) for row, columns in attended.items() for a, b in runs(columns)], DARK
        )
        drawing.text(x + side / 2, y - 8, policy)
        drawing.text(x + side / 2, y + side + 14, "current frame, 0 to 149")
    return drawing


def runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges (first, after the last) of consecutive numbers among ascending ones."""
    breaks = [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1]
    for start, end in pairwise([0, *breaks, len(numbers)]):
        yield numbers[start], numbers[end - 1] + 1


FIGURES: dict[str, Callable[[], Drawing]] = {f.__name__: f for f in (streaming, memory, methods, policies)}


def main(names: Sequence[str]) -> None:
    """Write the figures, or those named."""
    for name in names or FIGURES:
        (Path(__file__).parent / f"concept-{name}.svg").write_text(str(FIGURES[name]()))


if __name__ == "__main__":
    main(sys.argv[1:])
