"""Memory entries and the protocol of memory policies; no torch.

A memory method (`samvideo.memory.method`) decides how a frame becomes tokens and how the current frame attends to
them; a policy decides which mask is used, which frames are kept and which are attended to. Any method goes with any
policy and any encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from samvideo.runtime import Candidates, Pointer, SelectedMemory

CODE_ROWS = 7
"""Rows of the temporal code: 0 to 5 for the frames 1 to 6 before the current one, the last for prompted frames."""


@dataclass(frozen=True, eq=False)
class MemoryEntry:
    """What one frame left behind for one object.

    Attributes:
        index: the frame's number on the tracker's clock.
        prompted: whether the user prompted the object on it (a "conditioning" frame).
        tokens: memory tokens, opaque; None once they have expired.
        pointer: object pointer, opaque.
        quality: predicted IoU of the mask, in [0, 1].
        presence: object score logit, positive where the object is visible.
        box: x1, y1, x2, y2 of the mask in pixels of the frame; None where it is empty or not shown.
    """

    index: int
    prompted: bool
    tokens: Any
    pointer: Pointer
    quality: float = 1.0
    presence: float = 0.0
    box: tuple[float, float, float, float] | None = None


class History(NamedTuple):
    """The past of one object, or of one hypothesis of it.

    Attributes:
        now: number of the current frame on the tracker's clock.
        entries: oldest insertion first.
        state: the policy's own, see `MemoryPolicy.initial_state`.
        size_wh: of the frames in pixels; known where masks are selected.
    """

    now: int
    entries: Sequence[MemoryEntry]
    state: Any = None
    size_wh: tuple[int, int] | None = None


class Choice(NamedTuple):
    """One hypothesis to continue with; all policies but those that search keep one an object.

    Attributes:
        mask: which candidate becomes the mask; None leaves it to the decoder, as published.
        state: the policy's state from now on.
        parent: the hypothesis whose history is continued.
        binarise: whether the frame's memory is encoded from the binary mask, as on prompted frames.
    """

    mask: int | None = None
    state: Any = None
    parent: int = 0
    binarise: bool = False


@dataclass(frozen=True)
class PolicyFacts:
    """What `samvideo models --policies` says of the policies of a module, its `FACTS`.

    Attributes:
        does: in a line.
        source: the paper.
        cost: of a frame, against `fifo`.
    """

    does: str
    source: str = ""
    cost: str = ""


class MemoryPolicy(Protocol):
    """Pure functions over the history of one object; a frozen dataclass of its options.

    Policies inherit from it: what has a body is what most of them do.
    """

    @property
    def pointer_span(self) -> int:
        """How many frames back pointers are recalled; the unit of their temporal code."""
        ...

    @property
    def presence_threshold(self) -> float:
        """Object score logit above which the object is visible."""
        return 0.0

    @property
    def revises(self) -> int:
        """How many frames back results are revised once another hypothesis is best; 0 for never."""
        return 0

    @property
    def box_as_mask(self) -> bool:
        """Whether the mask that the decoder finds for a box is taken as if the user had given it."""
        return False

    @property
    def capacity(self) -> tuple[int, int]:
        """The most frames and pointers that `recall` ever selects."""
        ...

    @property
    def merges_tokens(self) -> bool:
        """Whether tokens of several frames are merged, which only some memory methods allow."""
        return False

    def initial_state(self) -> Any:
        """State of a new object; None for policies without. Hashable: `select` returns the next one."""
        return None

    def select(self, candidates: Sequence[Candidates], histories: Sequence[History]) -> Sequence[Choice]:
        """Choose the masks to continue with, best first; called wherever the decoder proposes alternatives.

        Args:
            candidates: of each hypothesis on the current frame.
            histories: of each hypothesis.
        """
        ...

    def keep(self, history: History) -> list[MemoryEntry]:
        """What is left of the entries after the newest has come in, on frame `history.now`.

        The result is bounded whatever comes, and its prompted entries keep their tokens.
        """
        ...

    def recall(self, history: History) -> SelectedMemory:
        """What the object attends to on frame `history.now`."""
        ...
