"""Scenarios of SAM2Long: values of every path, and of the path that is best at the end, whose masks were stored."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from samvideo.memory.base import Choice, History
from samvideo.runtime import Candidates, SelectedMemory
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import Hypothesis, SamTracker

COLUMNS = {"memory": ("frames", "paths", "rows", "scale"), "pointer": ("frames", "ages", "scale")}


class Recorder:
    """A policy that does as another one does and notes what it was asked and what it answered."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def clear(self) -> None:
        self.candidates: Sequence[Candidates] = ()
        self.choices: Sequence[Choice] = ()
        self.memories: list[SelectedMemory] = []

    def select(self, candidates: Sequence[Candidates], histories: Sequence[History]) -> Sequence[Choice]:
        self.candidates, self.choices = candidates, self._policy.select(candidates, histories)
        return self.choices

    def recall(self, history: History) -> SelectedMemory:
        self.memories.append(self._policy.recall(history))
        return self.memories[-1]


class Run:
    """One object tracked from frame 0 on. Identical paths are one: slots are named by the first of them.

    Attributes:
        firsts: of every frame, the first slot that is identical with each one.
        parents: of every frame, the slot of the frame before from which each path comes.
        paths: of every frame, values of each path that may be the final one.
    """

    def __init__(self) -> None:
        self.firsts: list[list[int]] = []
        self.parents: list[list[int]] = []
        self.paths: list[list[dict[str, Any]]] = []
        self.values: list[dict[str, Any]] = []
        self._written: dict[int, tuple[Any, int, int]] = {}

    def add(self, hypotheses: Sequence[Hypothesis], recorder: Recorder) -> None:
        """Note a frame that has been tracked."""
        index, entries = len(self.firsts), [h.bank.entries[-1] for h in hypotheses]
        self.firsts.append([hypotheses.index(h) for h in hypotheses])
        self.parents.append([choice.parent for choice in recorder.choices])
        self.paths.append([path_values(h) for h in hypotheses])
        for slot, entry in reversed(list(enumerate(entries))):
            for kept in (entry.tokens, entry.pointer):
                self._written[id(kept)] = kept, index, slot
        self.values.append(self._frame_values(index, hypotheses, recorder) if recorder.candidates else {})

    def _frame_values(self, index: int, hypotheses: Sequence[Hypothesis], recorder: Recorder) -> dict[str, Any]:
        candidates, now = recorder.candidates, index
        runs = list({id(c): c for c in candidates})
        memories = [recorder.memories[runs.index(id(c))] for c in candidates]
        frames = [[(*self._written[id(f.tokens)][1:], f.code_row, f.key_scale) for f in m.frames] for m in memories]
        pointers = [[(self._written[id(p.pointer)][1], p.age, p.key_scale) for p in m.pointers] for m in memories]
        areas, logits = ([path[key] for path in self.paths[now]] for key in ("mask_area", "path_logits"))
        values: dict[str, Any] = {
            "ious": np.stack([c.quality_n for c in candidates]),
            "object_scores": np.array([c.presence for c in candidates]),
            "path_score": [h.bank.state for h in hypotheses],
            "mask_area_online": areas[0],
            **columns("memory", frames),
            **columns("pointer", pointers),
        }
        values["memory_paths"] = self._same_slots(values["memory_frames"], values["memory_paths"])
        if len(candidates) == 1:
            return values | {"path_area": areas[:1], "path_logits": logits[:1]}
        return values | {
            "path_area": areas,
            "path_logits": logits,
            "path_mask": [choice.mask for choice in recorder.choices],
            "path_parent": self._same_slots(now - 1, self.parents[now]),
            "uncertain": max(abs(c.presence) for c in candidates) <= recorder.uncertainty,
        }

    def _same_slots(self, frames: Any, slots: Any) -> Any:
        """A value that equals every expected one that names identical paths."""
        frames, slots = np.broadcast_arrays(frames, slots)

        def compared(expected: np.ndarray) -> np.ndarray:
            same = [
                frame < 0 or self.firsts[frame][e] == self.firsts[frame][s]
                for frame, e, s in zip(frames.flat, expected.flat, slots.flat, strict=True)
            ]
            return np.where(np.reshape(same, expected.shape), expected, slots)

        return compared

    def finished(self) -> Iterator[dict[str, Any]]:
        """The values of every frame, with those of the path that is best at the end."""
        slot, finals = 0, []
        for parents in reversed(self.parents):
            finals.append(slot)
            slot = parents[slot] if parents else 0
        for index, slot in enumerate(reversed(finals)):
            yield self.paths[index][slot] | {"final_path": self._same_slots(index, slot)} | self.values[index]


def columns(kind: str, rows: list[list[tuple[float, ...]]]) -> dict[str, np.ndarray]:
    """What each run recalled, by quantity, padded with -1."""
    longest = max(map(len, rows))
    names = COLUMNS[kind]
    table = np.full((len(rows), longest, len(names)), -1.0)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    found = {f"{kind}_{name}": table[:, :, column] for column, name in enumerate(names)}
    whole = {key: value.astype(np.int64) for key, value in found.items() if not key.endswith("scale")}
    return found | whole


def path_values(hypothesis: Hypothesis) -> dict[str, Any]:
    prediction, entry = hypothesis.known_prediction, hypothesis.bank.entries[-1]
    logits = prediction.logits[0, 0]
    return {
        "mask_logits": logits[::4, ::4].numpy(),
        "path_logits": logits[::8, ::8].numpy(),
        "mask_area": int((logits > 0).sum()),
        "obj_ptr": prediction.pointer[0].numpy(),
        "object_score": prediction.presence.numpy(),
        "memory": entry.tokens.features[0].T[:, ::61].float().numpy(),
    }


def run_paths(model: Any, policy: Any, frames: Sequence[Any], prompts: dict[int, Any]) -> Iterator[dict[str, Any]]:
    """Yields the values of every frame, once all have been tracked."""
    recorder, run = Recorder(policy), Run()
    model.policy = recorder
    tracker = SamTracker(TorchRuntime(model))
    for frame in frames:
        recorder.clear()
        tracker.step(frame, [prompts[frame.index]] if frame.index in prompts else [])
        (tracked,) = tracker.objects.values()
        run.add(tracked.hypotheses, recorder)
    return run.finished()
