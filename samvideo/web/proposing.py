"""Objects that the page proposes on a frame; a person takes those that are meant.

Threads: every request comes in a thread of its own, since a detector may take minutes to load. One search for
everything and one by name run at a time; `take` is called by the server's thread.
"""

import threading
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from samvideo.errors import PromptError
from samvideo.prompters.base import AutoPrompter, MaskProposal
from samvideo.search_settings import MOST
from samvideo.segmenters.base import Segmenter
from samvideo.segmenters.factory import BUNDLED, load_segmenter
from samvideo.trackers.discovery import DiscoveryConfig, new_objects
from samvideo.trackers.stills import StillSegmenter
from samvideo.types import BoolArray, Frame, UInt8Array
from samvideo.web.outlines import outlines
from samvideo.web.state import Proposal, Proposals
from samvideo.web.turns import Turns

CONFIG = DiscoveryConfig(most=MOST)
"""What counts as a new object, as for `track --prompt everything`."""
KEPT = 8  # answers that can be taken from: several tabs may be open
GRACE = 3.0  # seconds that the end waits for a search; one that downloads weights may take much longer

Texts = tuple[str, ...] | None
MakePrompter = Callable[[Segmenter, Texts], AutoPrompter]


def make_prompter(segmenter: Segmenter, texts: Texts, device: str = "auto") -> AutoPrompter:
    """Make a prompter that segments as the page does, where its segmenter is a SAM, else by the bundled model.

    Args:
        segmenter: of the page.
        texts: what to look for; None for everything.
        device: of the bundled model.

    Raises:
        SamVideoError: see `samvideo.prompters.factory.load_prompter`.
    """
    from samvideo.prompters.factory import AUTO, load_prompter  # needs torch
    from samvideo.segmenters.image_model import ImageModelSegmenter

    own = segmenter.segmenter if isinstance(segmenter, StillSegmenter) else segmenter
    if not isinstance(own, ImageModelSegmenter):
        own = load_segmenter(BUNDLED, device=device)
    return load_prompter(AUTO if texts is None else "text", own, texts=texts)


class TakenMasks(NamedTuple):
    """Proposals that were taken: their frame, masks (H, W) at the video's size, and labels."""

    frame: int
    masks: list[BoolArray]
    labels: list[str]


class _Answer(NamedTuple):
    """Proposals on a frame: masks of a shape (H, W) as bits, and labels, "" without one."""

    frame: int
    shape: tuple[int, int]
    bits: list[UInt8Array]
    labels: list[str]


class _Search:
    """A prompter, kept together with what it looks for."""

    def __init__(self) -> None:
        self.turns = Turns()
        self._made: tuple[Texts, AutoPrompter] | None = None

    def propose(self, rgb: UInt8Array, texts: Texts, make: Callable[[], AutoPrompter]) -> list[MaskProposal] | None:
        with self.turns.turn() as mine:
            if not mine:
                return None
            if self._made is None or self._made[0] != texts:
                self._made = None  # two detectors may not fit in memory
                self._made = texts, make()
            return self._made[1].propose(rgb)


class Proposing:
    """Proposes objects, and remembers what was proposed.

    Args:
        make: makes a prompter of a segmenter and texts, None for everything; called when they are needed first.
        segmenter: gives the segmenter of the page.
    """

    def __init__(self, make: MakePrompter, segmenter: Callable[[], Segmenter]) -> None:
        self._make, self._segmenter = make, segmenter
        self._everything, self._named = _Search(), _Search()
        self._lock = threading.Lock()  # guards the answers
        self._keys = count(1)
        self._answers: dict[int, _Answer] = {}

    def propose(self, frame: Frame, texts: Texts, covered: Callable[[], BoolArray]) -> Proposals | None:
        """Propose new objects, at most `MOST`, the best first; None when a newer request overtook this one.

        Args:
            frame: at video size.
            texts: what to look for; None for everything.
            covered: gives the pixels (H, W) of the objects there are; called after the search.

        Raises:
            SamVideoError: the prompter cannot be made, or failed.
        """
        search = self._everything if texts is None else self._named
        proposals = search.propose(frame.rgb, texts, lambda: self._make(self._segmenter(), texts))
        if proposals is None:
            return None
        found = new_objects(proposals, covered(), CONFIG)[: CONFIG.most]
        labels = [one.label or "" for one, _ in found]
        bits = [np.packbits(mask) for _, mask in found]
        key = self._keep(_Answer(frame.index, frame.size_wh[::-1], bits, labels))
        shapes = (outlines(mask, frame.size_wh) for _, mask in found)
        return Proposals(frame.index, key, tuple(map(Proposal, labels, shapes)))

    def _keep(self, answer: _Answer) -> int:
        with self._lock:
            key = next(self._keys)
            self._answers[key] = answer
            for old in list(self._answers)[:-KEPT]:
                del self._answers[old]
        return key

    def take(self, key: int, rows: Sequence[int]) -> TakenMasks:
        """Return proposals of an answer, by its key and their rows. Raises PromptError when there are none such."""
        with self._lock:
            answer = self._answers.get(key)
        if answer is None:
            raise PromptError("these proposals are out of date: propose again")
        if unknown := [row for row in rows if row >= len(answer.bits)]:
            raise PromptError(f"there is no proposal {unknown[0]}: 0 to {len(answer.bits) - 1} expected")
        height, width = answer.shape
        flat = (np.unpackbits(answer.bits[row], count=height * width) for row in rows)
        masks = [bits.reshape(height, width).view(bool) for bits in flat]
        return TakenMasks(answer.frame, masks, [answer.labels[row] for row in rows])

    def close(self) -> None:
        """End; a search under way is left to itself after a moment."""
        for search in (self._everything, self._named):
            search.turns.close(GRACE)
