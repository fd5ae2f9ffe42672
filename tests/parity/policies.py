"""Scenarios with a memory policy of a later paper, run through the streaming tracker itself."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sam2long import run_paths
from seeded import seeded_frame

from samvideo.memory.base import Choice, History, MemoryEntry
from samvideo.memory.dam4sam import DistractorState
from samvideo.memory.samurai import SamuraiState, _box, box_ious
from samvideo.models import VideoModel, resolve_policy
from samvideo.runtime import Candidates, SelectedMemory
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame, Points, Prompt

PUBLISHED_OPTIONS = {
    "samurai": {
        "stable_frames_threshold": "stable_frames",
        "stable_ious_threshold": "stable_quality",
        "min_obj_score_logits": "absent_below",
        "kf_score_weight": "motion_weight",
        "memory_bank_iou_threshold": "admit_quality",
        "memory_bank_obj_score_threshold": "admit_presence",
        "memory_bank_kf_score_threshold": "admit_motion",
    },
    "sam2long": {"num_pathway": "paths", "iou_thre": "admit_quality", "uncertainty": "uncertainty"},
    "dam4sam": {},
}


class UnknownPolicy(ValueError):
    """A scenario for a policy that is not implemented."""


def change_weights(arrays: dict[str, np.ndarray], changes: list[dict]) -> None:
    """Apply a scenario's changes of single weights, in place and in order: gain, set, add."""
    for change in changes:
        array = arrays[change["key"]]
        array = array * np.float32(change.get("gain", 1))
        if "set" in change and "index" in change:
            array[tuple(change["index"])] = change["set"]
        elif "set" in change:
            array = np.broadcast_to(np.asarray(change["set"], np.float32), array.shape).copy()
        arrays[change["key"]] = (array + np.float32(change.get("add", 0))).astype(np.float32)


class Recorder:
    """A policy that does as another one does and notes what it was asked and what it answered."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self.candidates: Candidates | None = None
        self.before = History(0, ())
        self.newest: MemoryEntry | None = None
        self.choice: Choice | None = None
        self.memory, self.history = SelectedMemory(), History(0, ())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def select(self, candidates: Sequence[Candidates], histories: Sequence[History]) -> Sequence[Choice]:
        choices = self._policy.select(candidates, histories)
        self.candidates, self.before, self.choice = candidates[0], histories[0], choices[0]
        return choices

    def keep(self, history: History) -> list[MemoryEntry]:
        self.newest = history.entries[-1]
        return self._policy.keep(history)

    def recall(self, history: History) -> SelectedMemory:
        self.history, self.memory = history, self._policy.recall(history)
        return self.memory

    def clear(self) -> None:
        self.candidates = self.choice = None


def policy_of(scenario: dict) -> Any:
    """The policy that a scenario names, with its options."""
    wanted = dict(scenario["policy"])
    name = wanted.pop("name")
    if name not in PUBLISHED_OPTIONS:
        raise UnknownPolicy(f"policy {name!r} is not implemented")
    known = PUBLISHED_OPTIONS[name]
    given = wanted.pop("set", {}) | {key: wanted.pop(key) for key in list(wanted) if key in known}
    options = {known[key]: value for key, value in given.items()}
    if name == "dam4sam":
        options["stretch"] = wanted.pop("length", None) != "unknown"
    if wanted:
        raise ValueError(f"unknown policy options {sorted(wanted)}")
    return replace(resolve_policy(name), **options)


def prompt_of(step: dict, size: int) -> Prompt:
    scale = size / 256
    if "box" in step:
        return Box(tuple(v * scale for v in step["box"]), object_id=step["object"])
    return Points(
        [tuple(v * scale for v in point) for point in step["points"]], step["labels"], object_id=step["object"]
    )


def run_policy(model: VideoModel, scenario: dict, last_frame: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (entry of the fixture, values by quantity) for every frame of a scenario with one prompt a frame."""
    recorder = Recorder(policy_of(scenario))
    model.policy = recorder  # type: ignore[assignment]
    tracker, size = SamTracker(TorchRuntime(model)), model.spec.input_wh[0]
    prompts: dict[int, Prompt] = {}
    for step in scenario["steps"]:
        ((kind, values),) = step.items()
        if kind == "prompt":
            prompts[values["frame"]] = prompt_of(values, size)
            continue
        if scenario["policy"]["name"] == "sam2long":
            numbers = scenario["frames"][: None if last_frame is None else last_frame + 1]
            frames = [Frame(i, i / 25, seeded_frame(number, size)) for i, number in enumerate(numbers)]
            found = run_paths(model, policy_of(scenario), frames, prompts)
            yield from ((f"{values['tag']}/{i}/1", values_now) for i, values_now in enumerate(found))
            continue
        for index, number in enumerate(scenario["frames"]):
            recorder.clear()
            frame = Frame(index, index / 25, seeded_frame(number, size))
            tracker.step(frame, [prompts[index]] if index in prompts else [])
            for object_id, tracked in tracker.objects.items():
                yield f"{values['tag']}/{index}/{object_id}", measured(tracker, tracked.best, recorder)
            if last_frame is not None and index >= last_frame:
                break


def measured(tracker: SamTracker, hypothesis: Any, recorder: Recorder) -> dict[str, Any]:
    assert recorder.newest is not None
    prediction, tokens = hypothesis.known_prediction, recorder.newest.tokens
    logits = prediction.logits[0, 0]
    values = {
        "mask_logits": logits[::4, ::4].numpy(),
        "mask_area": int((logits > 0).sum()),
        "obj_ptr": prediction.pointer[0].numpy(),
        "object_score": prediction.presence.numpy(),
        "memory": sampled(tokens),
    }
    if recorder.candidates is None or recorder.choice is None:
        if prediction.given is not None:
            values["prompt_mask"] = np.packbits(prediction.given[::4, ::4])
            values["prompt_mask_area"] = prediction.given.sum()
        return values
    if recorder.choice.binarise:
        (sigmoid,) = tracker.runtime.remember(tracker._features, [prediction], [False])
        values |= {"memory": sampled(sigmoid), "memory_promoted": sampled(tokens)}
    values |= {"ious": recorder.candidates.quality_n, "mask_index": recorder.choice.mask}
    owner = {id(e.tokens): e.index for e in recorder.history.entries}
    values["memory_frames"] = [owner[id(f.tokens)] for f in recorder.memory.frames]
    values["memory_rows"] = [f.code_row for f in recorder.memory.frames]
    owner = {id(e.pointer): e.index for e in recorder.history.entries}
    values["pointer_frames"] = [owner[id(p.pointer)] for p in recorder.memory.pointers]
    values["pointer_ages"] = [p.age for p in recorder.memory.pointers]
    of_policy = samurai_values if isinstance(recorder.before.state, SamuraiState) else dam4sam_values
    return values | of_policy(recorder, values)


def sampled(tokens: Any) -> np.ndarray:
    found: np.ndarray = tokens.features[0].T[:, ::61].float().numpy()
    return found


def dam4sam_values(recorder: Recorder, values: dict[str, Any]) -> dict[str, Any]:
    assert recorder.candidates is not None
    assert isinstance(recorder.before.state, DistractorState)
    found, now = recorder.assess(recorder.candidates, recorder.before), recorder.before.now
    span = min(now, recorder.pointers) if recorder.stretch else recorder.pointers
    lasting = {0, *recorder.before.state.promoted}
    return {
        "n_pixels": found.area,
        "area_ratio": found.area_ratio,
        "box_ious": found.overlaps,
        "promoted": found.promoted,
        "pointer_span": span,
        "pointer_ages": np.round(np.multiply(values["pointer_ages"], span / recorder.pointers), 5),
        "memory_promoted_frames": [frame in lasting for frame in values["memory_frames"]],
    }


def samurai_values(recorder: Recorder, values: dict[str, Any]) -> dict[str, Any]:
    assert recorder.candidates is not None
    assert recorder.choice is not None
    before, state = recorder.before.state, recorder.choice.state
    assert isinstance(before, SamuraiState)
    boxes = recorder.candidates.boxes()
    found = {
        "mask_boxes": boxes,
        "kf_mean": state.mean,
        "kf_covariance": state.covariance,
        "stable_frames": state.stable,
    }
    if before.mean is not None and before.covariance is not None and before.stable >= recorder.stable_frames:
        predicted = _box(recorder.filter.predict(before.mean, before.covariance)[0])
        found |= {"kf_ious": box_ious(boxes, predicted), "kf_predicted_box": predicted}
    return found


def exact(quantity: str) -> bool:
    """Whether a quantity counts something, so that it must be equal."""
    return quantity in {
        "mask_index",
        "memory_frames",
        "memory_rows",
        "pointer_frames",
        "pointer_ages",
        "stable_frames",
        "memory_paths",
        "path_parent",
        "path_mask",
        "path_area",
        "final_path",
        "mask_area_online",
        "uncertain",
        "promoted",
        "pointer_span",
        "prompt_mask",
        "prompt_mask_area",
        "memory_promoted_frames",
    }
