"""The streaming tracker of the SAM 2 family: encode once, remember little, one frame at a time.

Counterpart: facebookresearch/sam2: sam2/sam2_video_predictor.py, which needs the whole video and keeps all of it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from samvideo.errors import ConfigError, VideoError
from samvideo.geometry import scale_points
from samvideo.heads.masks import upsample
from samvideo.memory.bank import MemoryBank
from samvideo.memory.base import MemoryEntry, Recall
from samvideo.models import MEMORY_BIAS, MEMORY_SCALE, SamModel
from samvideo.tensors import Features, MaskPrediction, PromptTensors
from samvideo.trackers.objects import ObjectPrompt, group_prompts
from samvideo.types import BoolArray, Frame, FrameResult, Prompt

Corrections = Literal["pin", "published"]
CLAMP = 32.0
"""Earlier logits are clamped to this before they go back into the decoder."""
BATCH = 16
"""Objects go through the networks in batches of at most this many, so that peak memory is bounded."""
CLEAR_RADIUS = 6


@dataclass
class TrackedObject:
    """One object: what it remembers and where it was seen last.

    Attributes:
        bank: its memory.
        prediction: on the newest frame, a batch of one.
        given: the user's own mask, where that is the answer on the newest frame.
    """

    bank: MemoryBank
    prediction: MaskPrediction | None = None
    given: BoolArray | None = None


@dataclass
class TrackerState:
    """All that a tracker knows of a video. Bounded: it does not grow with the frames seen.

    Attributes:
        clock: frames seen, the time in which memory is measured.
        index: source index of the newest frame.
        size_wh: of every frame.
        objects: by the user's id.
    """

    clock: int = -1
    index: int | None = None
    size_wh: tuple[int, int] | None = None
    objects: dict[int, TrackedObject] = field(default_factory=dict)

    def copy(self) -> "TrackerState":
        """A state that goes its own way; tensors are shared, they are never written to."""
        objects = {i: TrackedObject(o.bank.copy(), o.prediction, o.given) for i, o in self.objects.items()}
        return TrackerState(self.clock, self.index, self.size_wh, objects)


class SamTracker:
    """Follows objects with a `SamModel`; see `samvideo.trackers.base.Tracker`.

    Time is measured in frames shown, whatever their source index, so any stride and backwards order will do. A
    frame with the index of the one before is the same frame again: its prompts correct what was said of it.

    Args:
        model: is moved, put in evaluation mode and fused, all in place.
        device, dtype: where and how to compute; see `resolve_device`.
        corrections: what a prompt on an object that is already tracked becomes. "pin": prompted memory, kept like
            the first prompt, and the un-prompted memories within 6 frames are cleared, since they show the mistake.
            "published": ordinary memory, which has faded after six frames.
        non_overlap: give every pixel to the object with the highest logit there. Memory is not touched by this.
        logits: return logits with every result.

    Raises:
        ConfigError: an unknown value, or float16 on a CPU.
    """

    def __init__(
        self,
        model: SamModel,
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "fp32",
        corrections: Corrections = "pin",
        non_overlap: bool = False,
        logits: bool = False,
    ) -> None:
        if corrections not in get_args(Corrections):
            raise ConfigError(f'corrections must be "pin" or "published", not {corrections!r}')
        self.corrections, self.non_overlap, self.logits = corrections, non_overlap, logits
        where = resolve_device(device, dtype)
        model.eval().fuse()  # before the conversion: folding wants float32
        self.model = model.convert(*where)
        self._state = TrackerState()
        self._features: Features | None = None

    def reset(self) -> None:
        """Forget everything, ready for another video."""
        self.restore(TrackerState())

    def forget(self, object_id: int) -> None:
        """Stop tracking one object; KeyError when it is not tracked. Its id may be used again."""
        if object_id not in self._state.objects:
            raise KeyError(f"object {object_id} is not tracked; tracked: {sorted(self._state.objects)}")
        del self._state.objects[object_id]

    def snapshot(self) -> TrackerState:
        """The state as it is now, to come back to with `restore`; bounded like the state itself."""
        return self._state.copy()

    def restore(self, state: TrackerState) -> None:
        """Go back to a snapshot, which stays usable."""
        self._state = state.copy()
        self._features = None

    @torch.inference_mode()
    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> FrameResult:
        """Take the next frame and return every live object's mask on it; see `Tracker.step`."""
        state = self._state
        asked = group_prompts(prompts, state.objects, frame.size_wh)
        if state.size_wh not in (None, frame.size_wh):
            raise VideoError(f"frame {frame.index} is {frame.size_wh}, the frames before {state.size_wh}: one size")
        new = frame.index != state.index
        if new:
            state.clock, state.index, state.size_wh = state.clock + 1, frame.index, frame.size_wh
            self._features = None
        if asked or (new and state.objects):
            if self._features is None:
                self._features = self.model.encode(self.model.picture(frame.rgb))
            if new:
                self._track(self._features)
            for prompt in asked:
                self._answer(self._features, prompt)
            self._remember(self._features, {p.object_id for p in asked})
        return self._result(frame)

    def _recall(self, objects: Sequence[TrackedObject]) -> list[Recall]:
        return self.model.policy.recall([o.bank.entries for o in objects], self._state.clock)

    def _track(self, features: Features) -> None:
        """Find every object on a new frame, in batches of equal memory shape."""
        objects = list(self._state.objects.values())
        groups: dict[tuple[int, int], list[tuple[TrackedObject, Recall]]] = defaultdict(list)
        for tracked, recall in zip(objects, self._recall(objects), strict=True):
            groups[recall.shape].append((tracked, recall))
        for batch in (part for group in groups.values() for part in _parts(group)):
            conditioned = self.model.condition(features, [recall for _, recall in batch])
            prediction = self.model.decode(features, conditioned)
            for row, (tracked, _) in enumerate(batch):
                tracked.prediction, tracked.given = prediction.row(row), None

    def _answer(self, features: Features, prompt: ObjectPrompt) -> None:
        """Replace one object's prediction by what the user says."""
        model, clock = self.model, self._state.clock
        tracked = self._state.objects.setdefault(prompt.object_id, TrackedObject(MemoryBank(model.policy)))
        tracked.given = prompt.mask
        if prompt.mask is not None:
            masks = squash_mask(prompt.mask, model.spec.input_wh).to(model.device)
            tracked.prediction = model.adopt(features, masks)
            return
        recall = Recall((), ())
        if any(e.index != clock for e in tracked.bank.entries):
            (recall,) = self._recall([tracked])
        earlier = None if tracked.prediction is None else tracked.prediction.logits.clamp(-CLAMP, CLAMP)
        points = prompt_tensors(prompt, self._state.size_wh or (1, 1), model.spec.input_wh, model.device)
        tracked.prediction = model.decode(features, model.condition(features, [recall]), points, earlier)

    def _remember(self, features: Features, prompted: set[int]) -> None:
        """Put into memory what is new on this frame: all objects on a new frame, else the prompted ones."""
        clock = self._state.clock
        todo = [
            (object_id, tracked, tracked.prediction)
            for object_id, tracked in self._state.objects.items()
            if tracked.prediction is not None
            and (object_id in prompted or not tracked.bank.entries or tracked.bank.entries[-1].index != clock)
        ]
        for batch in _parts(todo):
            spoken = torch.tensor([object_id in prompted for object_id, _, _ in batch])
            spoken = spoken.to(self.model.device, non_blocking=True)
            tokens = self.model.remember(features, MaskPrediction.join([p for _, _, p in batch]), spoken)
            for row, (object_id, tracked, prediction) in enumerate(batch):
                fresh = all(e.index == clock for e in tracked.bank.entries)
                pinned = object_id in prompted and (fresh or self.corrections == "pin")
                if pinned and not fresh:
                    tracked.bank.drop_near(clock, CLEAR_RADIUS)
                tracked.bank.insert(MemoryEntry(clock, pinned, tokens.row(row), prediction.pointer))

    def _result(self, frame: Frame) -> FrameResult:
        ids = tuple(sorted(self._state.objects))
        shown = [(o.given, o.prediction) for o in (self._state.objects[i] for i in ids) if o.prediction is not None]
        width, height = frame.size_wh
        masks, logits = [np.zeros((0, height, width), bool)], [np.zeros((0, height, width), np.float32)]
        # objects that contend for pixels must be seen together, others only a few at a time
        for part in [shown] if self.non_overlap and shown else _parts(shown):
            logits_khw = self._full_size(part, (height, width))
            masks.append((logits_khw > 0).cpu().numpy())
            if self.logits:
                logits.append(logits_khw.cpu().numpy())
        nothing = torch.zeros(0)
        presence = torch.cat([nothing, *(p.presence.cpu() for _, p in shown)])
        quality = torch.cat([nothing, *(p.quality.cpu() for _, p in shown)])
        return FrameResult(
            frame.index,
            frame.seconds,
            ids,
            np.concatenate(masks),
            (quality * presence.sigmoid()).numpy(),
            (presence > 0).numpy(),
            np.concatenate(logits) if self.logits else None,
        )

    def _full_size(
        self, shown: Sequence[tuple[BoolArray | None, MaskPrediction]], size_hw: tuple[int, int]
    ) -> Tensor:
        """(K, H, W) logits at frame size; where the user gave a mask, exactly that mask."""
        logits_khw = upsample(torch.cat([p.logits for _, p in shown]), size_hw)[:, 0]
        for row, (given, _) in enumerate(shown):
            if given is not None:
                logits_khw[row] = torch.from_numpy(given).to(logits_khw.device) * MEMORY_SCALE + MEMORY_BIAS
        return exclusive(logits_khw) if self.non_overlap else logits_khw


def _parts(items: Sequence) -> Iterable[Sequence]:  # type: ignore[type-arg]
    return (items[i : i + BATCH] for i in range(0, len(items), BATCH))


def exclusive(logits_khw: Tensor) -> Tensor:
    """Leave each pixel to the row with the highest logit; the others get at most -10 there."""
    winner = logits_khw.argmax(0, keepdim=True)
    rows = torch.arange(len(logits_khw), device=logits_khw.device)[:, None, None]
    return torch.where(rows == winner, logits_khw, logits_khw.clamp(max=-10.0))


def squash_mask(mask: BoolArray, size_wh: tuple[int, int]) -> Tensor:
    """(H, W) mask at frame size to float (1, 1, h, w) of zeros and ones at input size."""
    width, height = size_wh
    full = torch.from_numpy(np.ascontiguousarray(mask))[None, None].float()
    if full.shape[-2:] == (height, width):
        return full
    resized = torch.nn.functional.interpolate(
        full, size=(height, width), mode="bilinear", align_corners=False, antialias=True
    )
    return (resized >= 0.5).float()


def prompt_tensors(
    prompt: ObjectPrompt, frame_wh: tuple[int, int], input_wh: tuple[int, int], device: torch.device
) -> PromptTensors:
    """Clicks and box of one object in pixels of the input; the box goes first, as two labelled corners."""
    xy, labels = prompt.xy, prompt.labels
    if prompt.box is not None:
        xy = np.concatenate([np.asarray(prompt.box, np.float32).reshape(2, 2), xy])
        labels = np.concatenate([np.array([2, 3]), labels])
    scaled = scale_points(xy, frame_wh, input_wh)
    return PromptTensors(torch.from_numpy(scaled)[None].to(device), torch.from_numpy(labels)[None].to(device))


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
    told = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(ask is not None and ask() for ask in told)
