"""The stages of a `VideoModel` in PyTorch; see `samvideo.runtime.Runtime`."""

import io
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from samvideo.errors import ConfigError
from samvideo.geometry import Window
from samvideo.heads.masks import upsample
from samvideo.memory.base import MemoryPolicy
from samvideo.models import MEMORY_BIAS, MEMORY_SCALE, VideoModel
from samvideo.runtime import Candidates, Output, Pick, SelectedMemory
from samvideo.tensors import Features, MaskCandidates, MaskPrediction, MemoryTokens, PromptTensors
from samvideo.torch_candidates import CandidateBatch, TorchCandidates
from samvideo.types import BoolArray, FloatArray, UInt8Array
from samvideo.windows import Detail, decode_prompts

CLAMP = 32.0
"""Earlier logits are clamped to this before they are corrected, as published."""
BATCH = 16
"""Masks are resized for at most this many objects at a time, so that peak memory is bounded."""
GPU_FRAMES = 8
"""Frames of one batch on a GPU, which one frame of a small model does not fill. On a CPU, each alone is faster."""


@dataclass(frozen=True, eq=False)
class TorchPrediction(MaskPrediction):
    """The prediction of one object.

    Attributes:
        given: the user's own mask at frame size, where that is the answer.
        detail: (1, s, s) logits of the window in which the object was segmented, where it was.
    """

    given: BoolArray | None = None
    detail: Detail | None = None


class TorchFeatures(NamedTuple):
    """The features of a frame and, for models with windows, the frame."""

    maps: Features
    rgb: UInt8Array | None


class TorchRuntime:
    """Runs a `VideoModel`; implements `samvideo.runtime.BatchedRuntime`.

    Args:
        model: is moved, put in evaluation mode and fused, all in place.
        device, dtype: where and how to compute; see `resolve_device`.
        static_shapes: pad memories to the capacity of the policy: all frames then have tensors of one shape, as
            graph compilers want, for more work on the first frames of a video.

    Raises:
        ConfigError: an unknown device or dtype, or float16 on a CPU.
    """

    def __init__(
        self,
        model: VideoModel,
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "fp32",
        static_shapes: bool = False,
    ) -> None:
        where = resolve_device(device, dtype)
        model.eval().fuse()  # before the conversion: folding wants float32
        self.model = model.convert(*where)
        self.policy, self.static_shapes = model.policy, static_shapes
        self.frames_at_once = GPU_FRAMES if where[0].type == "cuda" else 1

    def with_policy(self, policy: str | MemoryPolicy) -> "TorchRuntime":
        """A runtime of the same network, not a copy of it, with another policy."""
        other = copy(self)
        other.model = self.model.with_policy(policy)
        other.policy = other.model.policy
        return other

    @property
    def _capacity(self) -> tuple[int, int] | None:
        return self.policy.capacity if self.static_shapes else None

    def input_size(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """See `Runtime.input_size`."""
        return self.model.spec_for(size_wh).input_wh

    def encode(self, rgb: UInt8Array) -> TorchFeatures:
        """See `Runtime.encode`."""
        return self.encode_batch([rgb])[0]

    @torch.inference_mode()
    def encode_batch(self, rgbs: Sequence[UInt8Array]) -> list[TorchFeatures]:
        """See `BatchedRuntime.encode_batch`."""
        images = [self.model.preprocess(rgb) for rgb in rgbs]
        maps = self._encode(images[0] if len(images) == 1 else torch.cat(images))
        windowed = self.model.spec.window is not None
        return [TorchFeatures(own, rgb if windowed else None) for own, rgb in zip(maps.rows(), rgbs, strict=True)]

    def _encode(self, images: Tensor) -> Features:
        return self.model.encode(images)

    def track(self, features: TorchFeatures, memories: Sequence[SelectedMemory]) -> Sequence[Candidates]:
        """See `Runtime.track`."""
        return self.track_batch([features], [memories])[0]

    @torch.inference_mode()
    def track_batch(
        self, features: Sequence[TorchFeatures], memories: Sequence[Sequence[SelectedMemory]]
    ) -> list[Sequence[Candidates]]:
        """See `BatchedRuntime.track_batch`."""
        counts = [len(own) for own in memories]
        maps = _joined_maps(features, counts)
        found = self._find(maps, [memory for own in memories for memory in own])
        ambiguous, input_wh = self.model.is_ambiguous(None), self.model.input_wh(maps)
        parts = zip(*(torch.split(values, counts) for values in found), strict=True)
        return [CandidateBatch(MaskCandidates(*part), ambiguous, input_wh).rows() for part in parts]

    def _find(self, maps: Features, memories: Sequence[SelectedMemory]) -> MaskCandidates:
        return self.model.decode(maps, self.model.attend_to_memory(maps, memories, self._capacity))

    @torch.inference_mode()
    def prompt(
        self,
        features: TorchFeatures,
        memory: SelectedMemory,
        xy: FloatArray,
        labels: NDArray[np.int64],
        previous: TorchPrediction | None,
    ) -> Candidates:
        """See `Runtime.prompt`."""
        device = self.model.device
        points = PromptTensors(torch.from_numpy(xy)[None].to(device), torch.from_numpy(labels)[None].to(device))
        earlier = None if previous is None else previous.logits.clamp(-CLAMP, CLAMP)
        ambiguous, (maps, rgb) = self.model.is_ambiguous(points, earlier), features
        embedding = partial(self.model.attend_to_memory, maps, [memory], self._capacity)
        found = decode_prompts(self.model, rgb, maps, embedding, points, earlier, ambiguous)
        return CandidateBatch(found.candidates, ambiguous, self.model.input_wh(maps), found.details).rows()[0]

    @torch.inference_mode()
    def choose(self, picks: Sequence[Pick], presence_threshold: float) -> list[TorchPrediction]:
        """See `Runtime.choose`."""
        found: dict[int, TorchPrediction] = {}
        places: dict[CandidateBatch, list[int]] = {}
        for place, pick in enumerate(picks):
            assert isinstance(pick.candidates, TorchCandidates)
            places.setdefault(pick.candidates.batch, []).append(place)
        for batch, members in places.items():
            chosen = self._choose(batch, [picks[place] for place in members], presence_threshold)
            found.update(zip(members, chosen, strict=True))
        return [found[place] for place in range(len(picks))]

    def _choose(self, batch: CandidateBatch, picks: Sequence[Pick], threshold: float) -> list[TorchPrediction]:
        rows = [pick.candidates.row for pick in picks if isinstance(pick.candidates, TorchCandidates)]
        candidates = batch.candidates
        if rows != list(range(len(candidates.presence_b))):
            candidates = MaskCandidates(*(values[rows] for values in candidates))
        mask, token = self.model.default_choice(candidates, batch.ambiguous)
        if any(pick.mask is not None for pick in picks):
            index = torch.tensor([-1 if pick.mask is None else pick.mask + batch.first for pick in picks])
            index = index.to(mask.device, non_blocking=True)
            mask, token = (torch.where(index < 0, published, index) for published in (mask, token))
        prediction = self.model.choose(candidates, mask, token, threshold)
        details: list[Detail | None] = [None] * len(rows)
        for place, row in enumerate(rows if batch.details else ()):
            if candidates.presence_b[place] > threshold:
                details[place] = batch.details[row].take(mask[place : place + 1])
        return [TorchPrediction(*_values(prediction.row(i)), detail=detail) for i, detail in enumerate(details)]

    @torch.inference_mode()
    def use_mask_as_output(self, features: TorchFeatures, mask: BoolArray) -> TorchPrediction:
        """See `Runtime.use_mask_as_output`."""
        masks = resize_mask(mask, self.model.input_wh(features.maps)).to(self.model.device)
        return TorchPrediction(*_values(self.model.use_mask_as_output(features.maps, masks)), given=mask)

    def remember(
        self, features: TorchFeatures, predictions: Sequence[TorchPrediction], binarise: Sequence[bool]
    ) -> list[MemoryTokens]:
        """See `Runtime.remember`."""
        return self.remember_batch([features], [predictions], [binarise])[0]

    @torch.inference_mode()
    def remember_batch(
        self,
        features: Sequence[TorchFeatures],
        predictions: Sequence[Sequence[TorchPrediction]],
        binarise: Sequence[Sequence[bool]],
    ) -> list[list[MemoryTokens]]:
        """See `BatchedRuntime.remember_batch`."""
        counts = [len(own) for own in predictions]
        binary = torch.tensor([asked for own in binarise for asked in own])
        joined = MaskPrediction.join([prediction for own in predictions for prediction in own])
        binary = binary.to(self.model.device, non_blocking=True)
        tokens = self._tokens(_joined_maps(features, counts), joined, binary)
        rows = iter([tokens.row(row) for row in range(len(joined))])
        return [list(islice(rows, count)) for count in counts]

    def _tokens(self, maps: Features, prediction: MaskPrediction, binarise: Tensor) -> MemoryTokens:
        return self.model.encode_memory(maps, prediction, binarise)

    @torch.inference_mode()
    def output(
        self, predictions: Sequence[TorchPrediction], size_wh: tuple[int, int], *, exclusive: bool, logits: bool
    ) -> Output:
        """See `Runtime.output`."""
        width, height = size_wh
        masks, kept = [np.zeros((0, height, width), bool)], [np.zeros((0, height, width), np.float32)]
        # objects that compete for pixels must be seen together, others only a few at a time
        step = max(1, len(predictions)) if exclusive else BATCH
        for begin in range(0, len(predictions), step):
            logits_khw = _full_size(predictions[begin : begin + step], (height, width))
            logits_khw = make_exclusive(logits_khw) if exclusive else logits_khw
            masks.append((logits_khw > 0).cpu().numpy())
            if logits:
                kept.append(logits_khw.cpu().numpy())
        return Output(np.concatenate(masks), np.concatenate(kept) if logits else None)

    def scores(self, predictions: Sequence[TorchPrediction]) -> tuple[FloatArray, FloatArray]:
        """See `Runtime.scores`."""
        if not predictions:
            return np.zeros(0, np.float32), np.zeros(0, np.float32)
        quality = torch.cat([p.quality for p in predictions]).float().cpu().numpy()
        presence = torch.cat([p.presence for p in predictions]).float().cpu().numpy()
        return quality, presence

    def pack(self, values: Sequence[Any]) -> bytes:
        """See `Runtime.pack`."""
        rows = [
            ("tokens", value.features, value.position, value.num_unrotated, value.grid)
            if isinstance(value, MemoryTokens)
            else _packed(value)
            if isinstance(value, TorchPrediction)
            else ("pointer", value)
            for value in values
        ]
        file = io.BytesIO()
        torch.save(rows, file)
        return file.getvalue()

    def unpack(self, data: bytes) -> list[Any]:
        """See `Runtime.unpack`."""
        try:
            rows = torch.load(io.BytesIO(data), map_location=self.model.device, weights_only=True)
        except Exception as error:  # torch raises nearly anything for damaged data
            raise ConfigError(f"the memory of the tracker is damaged and cannot be restored: {error}") from error
        return [_unpacked(*row) for row in rows]


def _joined_maps(features: Sequence[TorchFeatures], counts: Sequence[int]) -> Features:
    """The maps of one frame as they are, those of several once for each of a frame's objects."""
    if len(features) == 1:
        return features[0].maps
    return Features.join([own.maps for own, count in zip(features, counts, strict=True) for _ in range(count)])


def _packed(value: TorchPrediction) -> tuple[Any, ...]:
    given = None if value.given is None else torch.from_numpy(value.given)
    detail = () if value.detail is None else (value.detail.logits_nhw, *value.detail.window)
    return "prediction", *_values(value), given, *detail


def _unpacked(kind: str, *fields: Any) -> Any:
    if kind == "tokens":
        return MemoryTokens(*fields)
    if kind == "prediction":
        logits, quality, pointer, presence, given, *detail = fields
        given = None if given is None else given.cpu().numpy()
        close = Detail(detail[0], Window(*detail[1:])) if detail else None
        return TorchPrediction(logits, quality, pointer, presence, given, close)
    return fields[0]


def _values(prediction: MaskPrediction) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return prediction.logits, prediction.quality, prediction.pointer, prediction.presence


def _full_size(predictions: Sequence[TorchPrediction], size_hw: tuple[int, int]) -> Tensor:
    """(K, H, W) logits at frame size, as fine as they are; where the user gave a mask, exactly that mask."""
    logits_khw = upsample(torch.cat([p.logits for p in predictions]), size_hw)[:, 0]
    for row, prediction in enumerate(predictions):
        if prediction.given is not None:
            given = torch.from_numpy(prediction.given).to(logits_khw.device)
            logits_khw[row] = given * MEMORY_SCALE + MEMORY_BIAS
        elif prediction.detail is not None:
            logits_khw[row] = prediction.detail.paste(size_hw[::-1])[0]
    return logits_khw


def make_exclusive(logits_khw: Tensor) -> Tensor:
    """Leave each pixel to the row with the highest logit; the others get at most -10 there."""
    winner = logits_khw.argmax(0, keepdim=True)
    rows = torch.arange(len(logits_khw), device=logits_khw.device)[:, None, None]
    return torch.where(rows == winner, logits_khw, logits_khw.clamp(max=-10.0))


def resize_mask(mask: BoolArray, size_wh: tuple[int, int]) -> Tensor:
    """(H, W) mask at frame size to float (1, 1, h, w) of zeros and ones at input size."""
    width, height = size_wh
    full = torch.from_numpy(np.ascontiguousarray(mask))[None, None].float()
    if full.shape[-2:] == (height, width):
        return full
    resized = F.interpolate(full, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    return (resized >= 0.5).float()


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(
    device: str | torch.device = "auto", dtype: str | torch.dtype = "auto"
) -> tuple[torch.device, torch.dtype]:
    """A device and dtype to compute with.

    Args:
        device: "auto" takes CUDA, else Apple's MPS, else the CPU; or a torch device.
        dtype: "fp32", "bf16", "fp16" or "auto": bfloat16 on CUDA devices and CPUs that have it, else float32.

    Raises:
        ConfigError: unknown or unavailable; float16 on a CPU.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"no device is called {device!r}: auto, cpu, cuda or mps expected") from error
    devices = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (found.index or 0) >= devices.get(found.type, 0):
        raise ConfigError(f"device {str(device)!r} is not available here: try auto or cpu")
    if dtype == "auto":
        dtype = torch.bfloat16 if _has_bfloat16(found) else torch.float32
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise ConfigError(f"no dtype is called {dtype!r}: auto, {', '.join(DTYPES)} expected")
        dtype = DTYPES[dtype]
    if found.type == "cpu" and dtype == torch.float16:
        raise ConfigError("float16 is not usable on a CPU (about 1000 times slower): choose fp32 or bf16")
    return found, dtype


def _has_bfloat16(device: torch.device) -> bool:
    """Whether there are instructions for it; where a CPU has none, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(check is not None and check() for check in checks)
