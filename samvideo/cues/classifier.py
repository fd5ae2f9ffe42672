"""A classifier of one object that is trained during tracking: three layers and Adam in NumPy."""

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from samvideo.types import FloatArray

# Matrices this small gain nothing from threads, and are a hundred times slower if those spin on a busy machine.
_BLAS = ThreadpoolController()

_CHUNK = 4096  # columns whose hidden values fit into the CPU's cache
_DECAY = 1e-4
_BETAS = (0.9, 0.999)


class Perceptron:
    """Two hidden layers of rectified units and one logit, trained with Adam (Kingma & Ba, 2015) on cross-entropy.

    Columns are samples, so that the planes of an image need no transposition.
    """

    def __init__(self, inputs: int, hidden: int, rate: float, rng: np.random.Generator) -> None:
        sizes = [(hidden, inputs), (hidden, hidden), (1, hidden)]
        self._rate = np.float32(rate)
        self._weights = [
            p
            for rows, columns in sizes
            for p in (
                rng.normal(0, np.sqrt(2 / columns), (rows, columns)).astype(np.float32),
                np.zeros((rows, 1), np.float32),
            )
        ]
        self._first = [np.zeros_like(p) for p in self._weights]
        self._second = [np.zeros_like(p) for p in self._weights]
        self._steps = 0

    def logits(self, columns: FloatArray) -> FloatArray:
        """Map (inputs, N) float32 to (N,) logits."""
        w1, b1, w2, b2, w3, b3 = self._weights
        out = np.empty(columns.shape[1], np.float32)
        with _BLAS.limit(limits=1, user_api="blas"):
            for start in range(0, len(out), _CHUNK):
                part = slice(start, start + _CHUNK)
                hidden = w1 @ columns[:, part]
                hidden += b1
                hidden = w2 @ np.maximum(hidden, 0, out=hidden)
                hidden += b2
                out[part] = (w3 @ np.maximum(hidden, 0, out=hidden) + b3)[0]
        return out

    def train(self, columns: FloatArray, targets: FloatArray) -> None:
        """Take one step on (inputs, N) samples with (N,) targets in [0, 1]."""
        w1, b1, w2, b2, w3, b3 = self._weights
        with _BLAS.limit(limits=1, user_api="blas"):
            one = np.maximum(w1 @ columns + b1, 0)
            two = np.maximum(w2 @ one + b2, 0)
            wrong = (1 / (1 + np.exp(-(w3 @ two + b3))) - targets) / np.float32(len(targets))
            back_two = (w3.T @ wrong) * (two > 0)
            back_one = (w2.T @ back_two) * (one > 0)
            slopes = [
                back_one @ columns.T,
                back_one.sum(1, keepdims=True),
                back_two @ one.T,
                back_two.sum(1, keepdims=True),
                wrong @ two.T,
                wrong.sum(1, keepdims=True),
            ]
        self._adam(slopes)

    def _adam(self, slopes: list[FloatArray]) -> None:
        self._steps += 1
        fast, slow = _BETAS
        scale = self._rate * np.float32(np.sqrt(1 - slow**self._steps) / (1 - fast**self._steps))
        for p, g, m, v in zip(self._weights, slopes, self._first, self._second, strict=True):
            g += _DECAY * p
            m += (1 - fast) * (g - m)
            v += (1 - slow) * (g * g - v)
            p -= scale * m / (np.sqrt(v) + np.float32(1e-8))


class Samples:
    """A bounded store of labelled columns; when full, new ones replace the oldest."""

    def __init__(self, inputs: int, capacity: int) -> None:
        self._columns = np.zeros((inputs, capacity), np.float32)
        self._targets = np.zeros(capacity, np.float32)
        self._next = self.count = 0

    def add(self, columns: FloatArray, targets: FloatArray) -> None:
        """Store (inputs, N) columns with (N,) targets."""
        capacity = len(self._targets)
        columns, targets = columns[:, -capacity:], targets[-capacity:]
        places = (self._next + np.arange(len(targets))) % capacity
        self._columns[:, places] = columns
        self._targets[places] = targets
        self._next = (self._next + len(targets)) % capacity
        self.count = min(capacity, self.count + len(targets))

    def draw(self, count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw `count` samples at random, none from an empty store."""
        chosen: NDArray[np.int64] = rng.integers(0, max(1, self.count), count if self.count else 0)
        return self._columns[:, chosen], self._targets[chosen]
