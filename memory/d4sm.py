"""D4SM: DAM4SAM for many objects, with a single short list of memories for each (Videnovic et al. 2025).

Counterpart: alanlukezic/d4sm: tracking_wrapper_mot.py. Prompts after the first, and which frames are
visible, as in `samvideo.memory.dam4sam`.
"""

from dataclasses import dataclass
from typing import ClassVar

from samvideo.memory.base import CODE_ROWS, History, MemoryEntry, PolicyFacts
from samvideo.memory.dam4sam import DistractorPolicy, pointers_in_units, promoted_entries
from samvideo.runtime import MemoryFrame, SelectedMemory

KIND = "memory policy"
FACTS = PolicyFacts(
    "the same as dam4sam in one bounded list for each object", "d4sm, Videnovic et al. 2025", "as fifo"
)


@dataclass(frozen=True)
class D4smPolicy(DistractorPolicy):
    """Memories stay in the order of their frames, and pointers are aged by their rank; options as of the base.

    `pointers` counts visible frames here, however long ago they are.
    """

    inclusive: ClassVar[bool] = True

    def keep(self, history: History) -> list[MemoryEntry]:
        """See `MemoryPolicy.keep`: also the last visible frame, for a correction of the newest one."""
        after = history._replace(now=history.now + 1)
        tokens = [*self._recent(after, len(self.distractors(after))), *self.visible(history)[-1:]]
        return self.reduced(history, tokens, self._pointing(after))

    def recall(self, history: History) -> SelectedMemory:
        """See `MemoryPolicy.recall`."""
        lasting = self.distractors(history)
        recent = {id(e) for e in self._recent(history, len(lasting))}
        known = {id(e) for e in lasting}
        listed = [e for e in history.entries if id(e) in recent | known]
        frames = [
            MemoryFrame(CODE_ROWS - 1 if id(e) in known else len(listed) - 1 - place, e.tokens)
            for place, e in enumerate(listed)
        ]
        aged = [(history.now - e.index, e.pointer) for e in lasting if e.prompted and self.pointers]
        aged += [(rank, e.pointer) for rank, e in enumerate(reversed(self._pointing(history)), 1)]
        return SelectedMemory(tuple(frames), pointers_in_units(aged, len(aged) - 1, self.pointers))

    def _recent(self, history: History, taken: int) -> list[MemoryEntry]:
        """Visible frames on the grid of the stride, and the newest one, in the places that are not taken."""
        lasting = {id(e) for e in promoted_entries(history) if e.index < history.now - 1}
        visible = self.visible(history)
        fitting = [
            e
            for e in visible
            if e.tokens is not None and (e is visible[-1] or (e.index - visible[0].index) % self.stride == 0)
        ]
        return [e for e in fitting if not e.prompted and id(e) not in lasting][-(CODE_ROWS - taken) :]

    def _pointing(self, history: History) -> list[MemoryEntry]:
        """The newest visible frames but prompted ones, as many as there are pointers."""
        visible = [e for e in self.visible(history) if not e.prompted]
        return visible[max(0, len(visible) - self.pointers) :]


VARIANTS = {"d4sm": D4smPolicy()}


def build(config: D4smPolicy) -> D4smPolicy:
    """The policy is its own config."""
    return config
