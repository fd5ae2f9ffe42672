"""The published predictors' offline semantics, one object at a time, on samvideo's runtimes and policies.

Whole clip at hand, nothing ever freed, prompts gathered first and put into memory when a run starts. The product's
tracker streams instead; here lies only what is needed to walk through the scenarios as the published code did.
Counterparts: sam2_video_predictor.py of facebookresearch/sam2 (December 2024), EdgeTAM and Surgical SAM 2 (July).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from seeded import seeded_frame

from samvideo.deploy.graph_runtime import GraphRuntime
from samvideo.memory.base import History, MemoryEntry
from samvideo.memory.fifo import FifoPolicy
from samvideo.runtime import Candidates, Pick, SelectedMemory
from samvideo.torch_runtime import TorchRuntime

NO_EFFECT = {  # on the low-resolution output of a single object
    "non_overlap_masks",
    "non_overlap_masks_for_mem_enc",
    "clear_non_cond_mem_for_multi_obj",
    "offload_video_to_cpu",
    "offload_state_to_cpu",
    "async_loading_frames",
}


@dataclass(frozen=True)
class Options:
    """The published predictor's options, under their published names."""

    add_all_frames_to_correct_as_cond: bool = False
    clear_non_cond_mem_around_input: bool = False
    memory_temporal_stride_for_eval: int = 1
    max_cond_frames_in_attn: int = -1
    max_obj_ptrs_in_encoder: int = 16
    only_obj_ptrs_in_the_past_for_eval: bool = True
    binarize_mask_from_pts_for_mem_enc: bool = True
    num_maskmem: int = 7
    fill_hole_area: int = 0

    @classmethod
    def of(cls, given: dict) -> "Options":
        unknown = set(given) - set(cls.__dataclass_fields__) - NO_EFFECT
        if unknown:
            raise ValueError(f"unknown option {sorted(unknown)}; known: {[*cls.__dataclass_fields__, *NO_EFFECT]}")
        options = cls(**{key: value for key, value in given.items() if key not in NO_EFFECT})
        if options.fill_hole_area:
            raise ValueError("fill_hole_area: the published code needs its CUDA extension for it; only 0 is known")
        return options


@dataclass
class Output:
    prediction: Any
    entry: MemoryEntry | None = None


class Clip:
    """Frames of the synthetic clip and their features, computed once."""

    def __init__(self, runtime: TorchRuntime | GraphRuntime, frames: list[int]) -> None:
        self.runtime, self.frames = runtime, frames
        self.size = runtime.input_size((1, 1))[0]
        self._features: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def features(self, index: int) -> Any:
        if index not in self._features:
            self._features[index] = self.runtime.encode(seeded_frame(self.frames[index], self.size))
        return self._features[index]

    def maps(self, index: int) -> list[np.ndarray]:
        """The finest first."""
        found = self.features(index)
        if isinstance(self.runtime, TorchRuntime):
            return [x[0].float().cpu().numpy() for x in (*found.maps.fine, found.maps.coarse)]
        return [found[name][0] for name in ("fine_4", "fine_8", "coarse") if name in found]


class Predictor:
    """One object's state. `retracks`: a corrected frame that is not pinned is tracked again when a run meets it."""

    def __init__(self, clip: Clip, options: Options, retracks: bool) -> None:
        self.clip, self.runtime, self.options, self.retracks = clip, clip.runtime, options, retracks
        policy = self.runtime.policy
        assert isinstance(policy, FifoPolicy)
        nearest = options.max_cond_frames_in_attn
        self.policy = replace(
            policy,
            frames=options.num_maskmem - 1,
            pointers=max(1, min(len(clip), options.max_obj_ptrs_in_encoder) - 1),
            nearest=None if nearest == -1 else nearest,
            stride=options.memory_temporal_stride_for_eval,
            past_only=options.only_obj_ptrs_in_the_past_for_eval,
        )
        self.runtime.policy = self.policy
        if isinstance(self.runtime, TorchRuntime):
            self.runtime.model.policy = self.policy
        self.conditioning: dict[int, Output] = {}
        self.others: dict[int, Output] = {}
        self.tracked: dict[int, bool] = {}
        self.prompts: dict[bool, dict[int, Output]] = {False: {}, True: {}}
        self.corrected: set[int] = set()

    def prompt(self, frame: int, points: tuple[np.ndarray, np.ndarray] | None, mask: np.ndarray | None) -> None:
        first = frame not in self.tracked
        conditioning = first or self.options.add_all_frames_to_correct_as_cond
        features = self.clip.features(frame)
        if mask is not None:
            prediction = self.runtime.use_mask_as_output(features, mask)
        else:
            earlier = (
                self.prompts[conditioning].get(frame) or self.conditioning.get(frame) or self.others.get(frame)
            )
            memory = SelectedMemory() if first else self.recall(frame, self.tracked[frame])
            previous = None if earlier is None else earlier.prediction
            prediction = self.choose(self.runtime.prompt(features, memory, *points, previous))
        self.prompts[conditioning][frame] = Output(prediction)

    def choose(self, candidates: Candidates) -> Any:
        return self.runtime.choose([Pick(candidates)], 0.0)[0]

    def recall(self, frame: int, reverse: bool) -> SelectedMemory:
        """Policies know one direction of time: a reverse run is one on a clock with the opposite sign."""
        sign = -1 if reverse else 1
        outputs = [o for store in (self.conditioning, self.others) for o in store.values()]
        entries = [replace(o.entry, index=sign * o.entry.index) for o in outputs if o.entry is not None]
        return self.policy.recall(History(sign * frame, entries))

    def remember(self, frame: int, prediction: Any, prompted: bool, spoken: bool) -> MemoryEntry:
        binary = spoken and self.options.binarize_mask_from_pts_for_mem_enc
        (tokens,) = self.runtime.remember(self.clip.features(frame), [prediction], [binary])
        return MemoryEntry(frame, prompted, tokens, prediction.pointer)

    def settle(self) -> None:
        """Put the prompts into memory, before a run."""
        for conditioning, store in ((False, self.others), (True, self.conditioning)):
            for frame, output in self.prompts[conditioning].items():
                entry = self.remember(frame, output.prediction, conditioning, True)
                store[frame] = Output(output.prediction, entry)
                if not conditioning:
                    self.corrected.add(frame)
                self.clear_around(frame)
            self.prompts[conditioning].clear()
        for frame in self.conditioning:
            self.others.pop(frame, None)
            self.corrected.discard(frame)

    def clear_around(self, frame: int) -> None:
        if self.options.clear_non_cond_mem_around_input:
            radius = self.options.memory_temporal_stride_for_eval * self.options.num_maskmem
            for near in range(frame - radius, frame + radius + 1):
                self.others.pop(near, None)

    def run(self, start: int | None, most: int | None, reverse: bool):
        """Yields (frame, output), as propagate_in_video."""
        self.settle()
        last = len(self.clip) - 1
        start = min(self.conditioning) if start is None else start
        most = len(self.clip) if most is None else most
        if reverse:
            order = range(start, max(start - most, 0) - 1, -1) if start > 0 else range(0)
        else:
            order = range(start, min(start + most, last) + 1)
        for frame in order:
            if frame in self.conditioning:
                output = self.conditioning[frame]
                self.clear_around(frame)
            elif frame in self.corrected and frame in self.others and not self.retracks:
                output = self.others[frame]
            else:
                memory = self.recall(frame, reverse)
                prediction = self.choose(self.runtime.track(self.clip.features(frame), [memory])[0])
                output = Output(prediction, self.remember(frame, prediction, False, False))
                self.others[frame] = output
            self.tracked[frame] = reverse
            yield frame, output
