"""SAM2Long: several hypotheses of the past, a tree whose best paths go on (Ding et al. 2024).

Counterpart: Mark12Ding/SAM2Long: sam2/modeling/sam2_base.py and sam2_video_predictor.py, for one object and one
prompt. Here every object has a tree of its own, and a prompt restarts it from the best path.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from samvideo.errors import ConfigError
from samvideo.memory.base import CODE_ROWS, Choice, History, MemoryEntry, PolicyFacts
from samvideo.memory.fifo import FifoPolicy
from samvideo.runtime import Candidates, MemoryFrame, MemoryPointer, SelectedMemory

KIND = "memory policy"
FACTS = PolicyFacts(
    "follows three hypotheses of each object; goes on with those of the highest cumulative predicted IoU",
    "SAM2Long, Ding et al. 2024",
    "up to 3 x memory attention and decoder; identical hypotheses once",
)


class _Branch(NamedTuple):
    """One mask of one path: a path of the next frame, if it is chosen."""

    value: float
    parent: int
    mask: int


@dataclass(frozen=True)
class Sam2LongPolicy(FifoPolicy):
    """FIFO over the good frames of each of several paths; options have their published values.

    A path's state is the sum of the logarithms of its predicted IoUs since the last prompt, by which paths are
    ranked. Paths are tracked together; those that do not differ are computed once.

    Attributes:
        paths: hypotheses that are kept of every object.
        uncertainty: if the object score logits of all paths are at most this far from 0, paths must differ in their
            predicted IoU, else the best go on.
        admit_quality: predicted IoU above which a frame may be recalled; the last one is in any case.
        admit_presence: object score logit above which a frame may be recalled.
        weakest_keys, strongest_keys: range of the factors on keys, by ascending object score.
        lone_key: this factor for the only pointer: the weakest, which was published with 8 bits here.
        prompted_presence: what counts as object score of a prompted frame for these factors.
        final: whether earlier results become those of the path that is best at the end, for files.
        horizon: how many frames back they may change, so that memory stays bounded.
    """

    paths: int = 3
    uncertainty: float = 2.0
    admit_quality: float = 0.1
    admit_presence: float = 0.0
    weakest_keys: float = 0.95
    strongest_keys: float = 1.05
    lone_key: float = 0.94921875
    prompted_presence: float = 10.0
    final: bool = False
    horizon: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.paths, self.horizon) < 1:
            raise ConfigError(f"paths and horizon must be at least 1, not {self.paths} and {self.horizon}")
        if not 0 < self.weakest_keys <= self.strongest_keys:
            raise ConfigError(
                "weakest_keys must be above 0 and at most strongest_keys, not "
                f"{self.weakest_keys} and {self.strongest_keys}"
            )
        if self.stride != 1 or self.nearest is not None or self.closest_first:
            raise ConfigError("sam2long recalls frames by rank: leave stride, nearest and closest_first out")

    @property
    def revises(self) -> int:
        """See `MemoryPolicy`."""
        return self.horizon if self.final else 0

    def initial_state(self) -> float:
        """See `MemoryPolicy`."""
        return 0.0

    def select(self, candidates: Sequence[Candidates], histories: Sequence[History]) -> Sequence[Choice]:
        """See `MemoryPolicy.select`. A single history is that of a prompted frame, or of the frame after it."""
        if len(histories) == 1:
            return (Choice(state=self.initial_state()),) * self.paths
        branches = [
            _Branch(history.state + math.log(quality + 1e-5), parent, mask)
            for parent, (proposed, history) in enumerate(zip(candidates, histories, strict=True))
            for mask, quality in enumerate(proposed.quality_n.tolist())
        ]
        branches.sort(key=lambda branch: -branch.value)  # stable, as published: ties stay in order
        if max(abs(proposed.presence) for proposed in candidates) <= self.uncertainty:
            branches = self._different(branches, candidates)
        return [Choice(mask, value, parent) for value, parent, mask in branches[: self.paths]]

    def _different(self, branches: Sequence[_Branch], candidates: Sequence[Candidates]) -> list[_Branch]:
        """Branches that differ in their rounded IoU, negative for absent objects; then the best of other paths."""
        found: dict[float, _Branch] = {}
        for branch in branches:
            proposed = candidates[branch.parent]
            quality = float(proposed.quality_n[branch.mask])
            found.setdefault(round(quality if proposed.presence > 0 else -quality, 2), branch)
        chosen = list(found.values())[: self.paths]
        others = set(range(len(candidates))) - {branch.parent for branch in chosen}
        return chosen + [next(b for b in branches if b.parent == parent) for parent in sorted(others)]

    def keep(self, history: History) -> list[MemoryEntry]:
        """See `MemoryPolicy.keep`: what may be recalled on the next frame."""
        prompted = {e.index for e in super().keep(history) if e.prompted}
        ranks = {e.index: rank for rank, e in enumerate(self._admitted(history.entries, history.now + 1))}
        entries = []
        for entry in history.entries:
            if entry.prompted:
                entries += [entry] if entry.index in prompted else []
            elif entry.index in ranks:
                needed = ranks[entry.index] < self.frames or entry.tokens is None
                entries.append(entry if needed else replace(entry, tokens=None))
        return entries

    def recall(self, history: History) -> SelectedMemory:
        """See `MemoryPolicy.recall`: rows and ages of un-prompted frames are ranks, and keys are scaled.

        As published, there is no pointer of the oldest frame that is admitted.
        """
        prompted = [e for e in history.entries if e.prompted]
        admitted = self._admitted(history.entries, history.now)
        shown = [e for e in admitted[: self.frames] if e.tokens is not None]
        frames = [(CODE_ROWS - 1, e) for e in prompted] + list(enumerate(shown))[::-1]
        pointers = [(history.now - e.index, e) for e in prompted] + list(enumerate(admitted[:-1], 1))
        pointers = pointers[: len(prompted) + self.pointers] if self.pointers else []
        scaled = len(frames) > 1
        frame_scales, pointer_scales = (self._scales([e for _, e in x], scaled) for x in (frames, pointers))
        return SelectedMemory(
            tuple(MemoryFrame(row, e.tokens, s) for (row, e), s in zip(frames, frame_scales, strict=True)),
            tuple(MemoryPointer(age, e.pointer, s) for (age, e), s in zip(pointers, pointer_scales, strict=True)),
        )

    def _admitted(self, entries: Sequence[MemoryEntry], now: int) -> list[MemoryEntry]:
        """Un-prompted entries that may be recalled on frame `now`, newest first."""
        past = [e for e in entries if not e.prompted and e.index < now]
        past.sort(key=lambda e: -e.index)
        good = [e for e in past if e.quality > self.admit_quality and e.presence > self.admit_presence]
        last = [e for e in past[:1] if e.index == now - 1 and e not in good[:1]]
        return last + good[: max(self.frames, self.pointers)]

    def _scales(self, entries: Sequence[MemoryEntry], scaled: bool) -> list[float]:
        """Factors on the keys of entries, evenly spaced in the order of their object scores; earlier ones first."""
        scales = np.ones(len(entries))
        if scaled and len(entries) == 1:
            return [self.lone_key]
        if scaled:
            scores = [self.prompted_presence if e.prompted else e.presence for e in entries]
            order = np.argsort(scores, kind="stable")
            scales[order] = np.linspace(self.weakest_keys, self.strongest_keys, len(entries))
        found: list[float] = scales.tolist()
        return found


VARIANTS = {"sam2long": Sam2LongPolicy()}


def build(config: Sam2LongPolicy) -> Sam2LongPolicy:
    """The policy is its own config."""
    return config
