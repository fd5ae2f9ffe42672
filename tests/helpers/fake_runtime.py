"""A runtime without torch, whose "network" finds pixels of the colour that was prompted."""

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np

from samvideo.runtime import Output, Pick, SelectedMemory


@dataclass(frozen=True)
class Colour:
    """Tokens, pointer and prediction at once: a colour, and the mask that it had last."""

    rgb: tuple[float, ...]
    mask: Any = None
    pointer: Any = None

    def similarity(self, other: "Colour", *, rounded: bool = False) -> float:
        return -float(np.abs(np.subtract(self.rgb, other.rgb)).sum())

    def potentiate(self, frames: list["Colour"], sharpness: float) -> "Colour":
        return self


class Candidates:
    """The pixels that are as close to a colour as three thresholds demand."""

    ambiguous = True
    quality_n = np.array([0.5, 0.9, 0.7], np.float32)

    def __init__(self, image: np.ndarray, rgb: tuple[float, ...]) -> None:
        self.rgb, distance = rgb, np.abs(image.astype(np.float32) - np.float32(rgb)).sum(-1)
        self.found = np.stack([distance < limit for limit in (5, 30, 60)])
        self.presence = 5.0 if self.found[1].any() else -5.0

    def areas(self) -> np.ndarray:
        return self.found.sum((1, 2))

    def masks(self, size_wh: tuple[int, int], rows: Any = None) -> np.ndarray:
        return self.found if rows is None else self.found[list(rows)]

    def boxes(self) -> np.ndarray:
        places = [np.argwhere(mask)[:, ::-1] for mask in self.found]
        return np.array([[*p.min(0), *p.max(0)] if len(p) else [0] * 4 for p in places], np.float32)


class FakeRuntime:
    """Implements `samvideo.runtime.Runtime`."""

    static_shapes = False

    def __init__(self, policy: Any, size_wh: tuple[int, int]) -> None:
        self.policy, self._size_wh = policy, size_wh

    def input_size(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        return self._size_wh

    def encode(self, rgb: np.ndarray) -> np.ndarray:
        return rgb

    def track(self, features: np.ndarray, memories: list[SelectedMemory]) -> list[Candidates]:
        return [Candidates(features, memory.frames[-1].tokens.rgb) for memory in memories]

    def prompt(self, features: np.ndarray, memory: Any, xy: np.ndarray, labels: Any, previous: Any) -> Candidates:
        x, y = xy.mean(0).astype(int)
        return Candidates(features, tuple(features[y, x].tolist()))

    def choose(self, picks: list[Pick], presence_threshold: float) -> list[Colour]:
        return [Colour(p.candidates.rgb, p.candidates.found[1 if p.mask is None else p.mask]) for p in picks]

    def use_mask_as_output(self, features: np.ndarray, mask: np.ndarray) -> Colour:
        return Colour(tuple(features[mask].mean(0).tolist()), mask)

    def remember(self, features: Any, predictions: list[Colour], binarise: list[bool]) -> list[Colour]:
        return predictions

    def output(
        self, predictions: list[Colour], size_wh: tuple[int, int], *, exclusive: bool, logits: bool
    ) -> Output:
        return Output(np.array([p.mask for p in predictions]).reshape(-1, *size_wh[::-1]).astype(bool), None)

    def scores(self, predictions: list[Colour]) -> tuple[np.ndarray, np.ndarray]:
        present = np.array([np.any(p.mask) for p in predictions], np.float32)
        return 0.9 * np.ones_like(present), 10 * present - 5

    def pack(self, values: list[Any]) -> bytes:
        return pickle.dumps(values)

    def unpack(self, data: bytes) -> list[Any]:
        return pickle.loads(data)
