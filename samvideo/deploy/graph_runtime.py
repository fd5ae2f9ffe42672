"""The stages of an exported model, see `samvideo.runtime.Runtime`: graphs, with NumPy around them; no torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samvideo.deploy.detail import Detail
from samvideo.deploy.manifest import Manifest
from samvideo.errors import ConfigError
from samvideo.io.snapshot import dump_state, load_state
from samvideo.memory.base import MemoryPolicy
from samvideo.policies import parse_policy
from samvideo.runtime import Candidates, MemoryFrame, MemoryPointer, Output, Pick, SelectedMemory
from samvideo.types import BoolArray, FloatArray, UInt8Array

CLAMP = 32.0
"""Earlier logits are clamped to this before they are corrected, as published."""
ABSENT_LOGIT = -1024.0
STRIDE = 16
"""Of the coarse map."""
MASK_SCALE, MASK_BIAS = 20.0, -10.0
"""A given mask m of 0 and 1 has the logits 20 m - 10."""
STABILITY_DELTA, STABILITY_THRESHOLD = 0.05, 0.98
"""The first mask is taken where its area changes by less than 2 percent as its threshold moves by 0.05."""
KIND = "graphs"


class RunsGraph(Protocol):
    """Runs one graph."""

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Outputs by name."""
        ...


@dataclass(frozen=True, eq=False)
class GraphTokens:
    """Memory tokens (N, C), stored as the upper halves of float32, which are bfloat16, as in PyTorch."""

    halves: NDArray[np.uint16]

    @staticmethod
    def of(features: FloatArray) -> "GraphTokens":
        """Round to the nearest, and to even between two."""
        bits = np.ascontiguousarray(features, np.float32).view(np.uint32)
        return GraphTokens(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16))

    @property
    def features(self) -> FloatArray:
        """Float32 (N, C)."""
        return (self.halves.astype(np.uint32) << 16).view(np.float32)

    def similarity(self, other: "GraphTokens", *, rounded: bool = False) -> float:
        """See `samvideo.runtime.Tokens.similarity`."""
        found = cosines(self.features, other.features)
        if not rounded:
            return float(found.sum())
        return float(GraphTokens.of(GraphTokens.of(found).features.sum(keepdims=True)).features[0])

    def potentiate(self, frames: Sequence["GraphTokens"], sharpness: float) -> "GraphTokens":
        """See `samvideo.runtime.Tokens.potentiate`."""
        features = np.stack([frame.features for frame in frames])
        weights = np.exp(sharpness * (cosines(self.features, features) - 1))
        weights /= weights.sum(0)
        return GraphTokens.of((weights[..., None] * features).sum(0))


def cosines(a: FloatArray, b: FloatArray) -> FloatArray:
    """(...) cosine similarities of (..., C) vectors."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(-1) / np.maximum(norms, 1e-8)


@dataclass(frozen=True, eq=False)
class GraphPrediction:
    """The chosen mask of one object: logits (h, w), and pointer (256,), or (0,) of models without.

    Attributes:
        given: the user's own mask at frame size, where that is the answer.
        detail: logits in the window in which the object was segmented, where it was.
    """

    logits: FloatArray
    quality: float
    pointer: FloatArray
    presence: float
    given: BoolArray | None = None
    detail: Detail | None = None


@dataclass(frozen=True, eq=False)
class GraphCandidates:
    """Implements `samvideo.runtime.Candidates`; `logits`, `qualities` and `pointers` have a row for each mask.

    Where they come of a window, there is one of `details` for each mask, too.
    """

    logits: FloatArray
    qualities: FloatArray
    pointers: FloatArray
    presence: float
    ambiguous: bool
    details: tuple[Detail, ...] = ()

    @property
    def first(self) -> int:
        """Index of the first of the decoder's masks that is offered."""
        return 1 if self.ambiguous else 0

    @property
    def quality_n(self) -> FloatArray:
        """See `Candidates.quality_n`."""
        return self.qualities[self.first :]

    def areas(self) -> NDArray[np.int64]:
        """See `Candidates.areas`."""
        return np.count_nonzero(self.logits[self.first :] > 0, axis=(1, 2)).astype(np.int64)

    def masks(self, size_wh: tuple[int, int], rows: Sequence[int] | None = None) -> BoolArray:
        """See `Candidates.masks`."""
        offered = self.logits[self.first :]
        return np.stack([resized(x, size_wh) > 0 for x in (offered if rows is None else offered[list(rows)])])

    def boxes(self) -> FloatArray:
        """See `Candidates.boxes`."""
        height, width = self.logits.shape[1:]
        return np.array([_extremes(mask) for mask in self.masks((4 * width, 4 * height))], np.float32)

    def published_choice(self, answer: str) -> tuple[int, int]:
        """Which mask, and the pointer of which, the decoder takes itself; see `VideoModel.default_choice`."""
        best = 1 + int(self.qualities[1:].argmax())
        if self.ambiguous:
            return best, best
        stable = answer != "stable" or stability(self.logits[0]) >= STABILITY_THRESHOLD
        return (0 if stable else best), 0


class GraphRuntime:
    """Runs an exported model; implements `samvideo.runtime.Runtime`.

    Args:
        manifest: of the export.
        constants: arrays by name.
        graphs: what runs each stage.
        policy: another memory policy than the one it was exported with.

    Raises:
        ConfigError: the memory of the export does not suit the policy.
    """

    static_shapes = True
    _modules: tuple[str, ...] = ()  # with classes of tokens and predictions

    def __init__(
        self,
        manifest: Manifest,
        constants: Mapping[str, NDArray[Any]],
        graphs: Mapping[str, RunsGraph],
        policy: str | None = None,
    ) -> None:
        self.manifest, self._constants, self._graphs = manifest, constants, graphs
        self.policy: MemoryPolicy = parse_policy(policy or manifest.policy)
        self._check(policy or manifest.policy)

    def _check(self, policy: str) -> None:
        """Raise ConfigError for a policy that the export is not made for."""
        wanted, there = self.policy.capacity, self.manifest.capacity
        if wanted[0] > there[0] or wanted[1] > there[1]:
            raise ConfigError(
                f"policy {policy!r} recalls up to {wanted[0]} frames and {wanted[1]} pointers, and this export has "
                f"room for {there[0]} and {there[1]}: export the model with --policy {policy}"
            )

    def input_size(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """See `Runtime.input_size`."""
        return self.manifest.input_wh

    def encode(self, rgb: UInt8Array) -> Mapping[str, FloatArray]:
        """See `Runtime.encode`."""
        width, height = self.manifest.input_wh
        if rgb.shape[:2] != (height, width):
            rgb = np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))
        return self._graphs["encode"]({"rgb": np.ascontiguousarray(rgb)[None]})

    def track(self, features: Any, memories: Sequence[SelectedMemory]) -> list[Candidates]:
        """See `Runtime.track`."""
        ambiguous = self.manifest.tracking == "alternatives"
        if not memories[0].frames:
            return [self._decode(features, features["embedding"], None, None, ambiguous)] * len(memories)
        found = self._attend(features, memories)
        return [self._candidates(found, row, ambiguous) for row in range(len(memories))]

    def prompt(
        self,
        features: Any,
        memory: SelectedMemory,
        xy: FloatArray,
        labels: NDArray[np.int64],
        previous: GraphPrediction | None,
    ) -> GraphCandidates:
        """See `Runtime.prompt`."""
        embedding = self._attend(features, [memory])["embedding"] if memory.frames else features["embedding"]
        return self._decode(features, embedding, (xy, labels), self._clamped(previous), len(labels) <= 1)

    def _clamped(self, previous: GraphPrediction | None) -> FloatArray | None:
        return None if previous is None else previous.logits.clip(-CLAMP, CLAMP)

    def choose(self, picks: Sequence[Pick], presence_threshold: float) -> list[GraphPrediction]:
        """See `Runtime.choose`."""
        return [self._choose(pick, presence_threshold) for pick in picks]

    def _choose(self, pick: Pick, threshold: float) -> GraphPrediction:
        found = pick.candidates
        assert isinstance(found, GraphCandidates)
        mask, token = found.published_choice(self.manifest.answer)
        if pick.mask is not None:
            mask = token = pick.mask + found.first
        present = found.presence > threshold
        return GraphPrediction(
            found.logits[mask].copy() if present else np.full_like(found.logits[mask], ABSENT_LOGIT),
            float(found.qualities[mask]),
            found.pointers[token].copy() if present else self._constants["absent_pointer"],
            found.presence,
            detail=found.details[mask] if present and found.details else None,
        )

    def use_mask_as_output(self, features: Any, mask: BoolArray) -> GraphPrediction:
        """See `Runtime.use_mask_as_output`."""
        height, width = (STRIDE * side for side in features["coarse"].shape[-2:])
        inside = (shrunk(mask.astype(np.float32), (width, height)) >= 0.5).astype(np.float32)
        logits = shrunk(inside * MASK_SCALE + MASK_BIAS, (width // 4, height // 4))
        present = bool(inside.any())
        pointer = self._constants["absent_pointer"]
        if present and len(pointer):
            cells = inside.reshape(height // 4, 4, width // 4, 4)
            prompt = np.einsum("yixj,ij->yx", cells, self._constants["mask_kernel"]) + self._constants["mask_bias"]
            decoded = self._decode(features, features["coarse"], None, prompt, ambiguous=False)
            pointer = self._choose(Pick(decoded), 0.0).pointer
        return GraphPrediction(logits, 1.0, pointer, present * MASK_SCALE + MASK_BIAS, mask)

    def remember(
        self, features: Any, predictions: Sequence[GraphPrediction], binarise: Sequence[bool]
    ) -> list[Any]:
        """See `Runtime.remember`."""
        masks = {
            "logits": np.stack([p.logits for p in predictions])[:, None],
            "presence": np.array([p.presence for p in predictions], np.float32),
            "binarise": np.array(binarise),
        }
        return self._tokens(self._batched("remember", masks, features))

    def _tokens(self, found: Mapping[str, FloatArray]) -> list[Any]:
        """The memory tokens of each object."""
        return [GraphTokens.of(row) for row in found["tokens"]]

    def output(
        self, predictions: Sequence[GraphPrediction], size_wh: tuple[int, int], *, exclusive: bool, logits: bool
    ) -> Output:
        """See `Runtime.output`."""
        width, height = size_wh
        found = np.zeros((len(predictions), height, width), np.float32)
        for row, prediction in enumerate(predictions):
            if prediction.given is not None:
                found[row] = prediction.given * np.float32(MASK_SCALE) + np.float32(MASK_BIAS)
            elif prediction.detail is not None:
                found[row] = prediction.detail.paste(size_wh)
            else:
                found[row] = resized(prediction.logits, size_wh)
        if exclusive and len(found) > 1:
            loses = found.argmax(0) != np.arange(len(found))[:, None, None]
            found = np.where(loses, np.minimum(found, -10), found)
        return Output(found > 0, found if logits else None)

    def scores(self, predictions: Sequence[GraphPrediction]) -> tuple[FloatArray, FloatArray]:
        """See `Runtime.scores`."""
        quality, presence = [p.quality for p in predictions], [p.presence for p in predictions]
        return np.array(quality, np.float32), np.array(presence, np.float32)

    def pack(self, values: Sequence[Any]) -> bytes:
        """See `Runtime.pack`."""
        return dump_state(KIND, list(values))

    def unpack(self, data: bytes) -> list[Any]:
        """See `Runtime.unpack`."""
        values: list[Any] = load_state(KIND, data, (__name__, *self._modules))
        return values

    def _decode(
        self,
        features: Any,
        embedding: FloatArray,
        points: tuple[FloatArray, NDArray[np.int64]] | None,
        mask: FloatArray | None,
        ambiguous: bool,
    ) -> GraphCandidates:
        """Candidates of one object from points or, without any, from one that says nothing."""
        height, width = embedding.shape[-2:]
        xy, labels = points or (np.zeros((1, 2)), np.full(1, -1))
        mask_hw = np.zeros((4 * height, 4 * width), np.float32) if mask is None else mask
        prompt = {
            "embedding": embedding,
            "xy": np.asarray(xy, np.float32)[None],
            "labels": np.asarray(labels, np.int64)[None],
            "mask": mask_hw[None, None].astype(np.float32),
            "masked": np.array([mask is not None], np.float32),
        }
        return self._candidates(self._graphs["prompt"](features | prompt), 0, ambiguous)

    def _candidates(self, found: Mapping[str, FloatArray], row: int, ambiguous: bool) -> GraphCandidates:
        logits, qualities = found["logits"][row], found["quality"][row]
        pointers = found["pointers"][row] if "pointers" in found else np.zeros((len(logits), 0), np.float32)
        return GraphCandidates(logits, qualities, pointers, float(found["presence"][row]), ambiguous)

    def _attend(self, features: Any, memories: Sequence[SelectedMemory]) -> Mapping[str, FloatArray]:
        frames, pointers = [m.frames for m in memories], [m.pointers for m in memories]
        num_frames, num_pointers = self.manifest.capacity
        tokens = np.zeros((len(memories), num_frames, *frames[0][0].tokens.halves.shape), np.float32)
        past = np.zeros((len(memories), num_pointers, len(self._constants["absent_pointer"])), np.float32)
        for row, memory in enumerate(memories):
            for place, frame in enumerate(memory.frames):
                tokens[row, place] = frame.tokens.features
            for place, pointer in enumerate(memory.pointers):
                past[row, place] = pointer.pointer
        span = self.policy.pointer_span
        bank = {
            "tokens": tokens,
            "code_rows": _table(frames, num_frames, lambda slot: slot[0]).astype(np.int64),
            "frame_scale": _table(frames, num_frames, lambda slot: slot.key_scale),
            "frame_valid": _table(frames, num_frames, lambda slot: 1) > 0,
            "past_pointers": past,
            "ages": _table(pointers, num_pointers, lambda slot: slot[0]) / np.float32(span),
            "pointer_scale": _table(pointers, num_pointers, lambda slot: slot.key_scale),
            "pointer_valid": _table(pointers, num_pointers, lambda slot: 1) > 0,
        }
        return self._batched("track", bank, features)

    def _batched(
        self, stage: str, rows: Mapping[str, NDArray[Any]], shared: Mapping[str, NDArray[Any]]
    ) -> Mapping[str, NDArray[Any]]:
        """Run a stage on so many objects at a time as it takes; the last is repeated to fill a batch."""
        count = len(next(iter(rows.values())))
        size = self.manifest.objects or count
        parts = []
        for begin in range(0, count, size):
            index = np.minimum(np.arange(begin, begin + size), count - 1)
            parts.append(self._graphs[stage]({**shared, **{name: value[index] for name, value in rows.items()}}))
        return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def _table(
    rows: Sequence[Sequence[MemoryFrame | MemoryPointer]], size: int, value: Callable[[Any], float]
) -> FloatArray:
    """(B, size) a value of each slot, 0 in padding."""
    return np.array([[value(slot) for slot in row] + [0.0] * (size - len(row)) for row in rows], np.float32)


def resized(logits: FloatArray, size_wh: tuple[int, int]) -> FloatArray:
    """Bilinear resize of (h, w) logits, without a filter against aliasing."""
    return np.asarray(cv2.resize(logits, size_wh, interpolation=cv2.INTER_LINEAR), np.float32)


def shrunk(values: FloatArray, size_wh: tuple[int, int]) -> FloatArray:
    """Bilinear resize whose filter widens where the picture shrinks."""
    if values.shape[::-1] == size_wh:
        return values
    return np.asarray(Image.fromarray(values).resize(size_wh, Image.Resampling.BILINEAR), np.float32)


def stability(logits: FloatArray, delta: float = STABILITY_DELTA) -> float:
    """How little the mask's area changes when its threshold moves; see `samvideo.heads.masks.stability`."""
    inner, outer = (np.count_nonzero(logits > delta) for delta in (delta, -delta))
    return inner / outer if outer else 1.0


def _extremes(mask: BoolArray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (columns[0], rows[0], columns[-1], rows[-1]) if len(rows) else (0, 0, 0, 0)
