"""Evaluate automatic prompters on a data set of images: which objects of the ground truth their proposals find.

`recall@N` is the share of objects that one of the first N proposals of their image covers with an IoU of at least
0.5, `J@N` the mean IoU of the best of them. `AR@N` is COCO's average recall without classes, over IoU from 0.5 to
0.95, where a proposal finds one object only (Lin et al., arXiv 1405.0312). Counterpart: cocodataset/cocoapi:
pycocotools/cocoeval.py with iouType="segm" and useCats=0.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samvideo.errors import ConfigError
from samvideo.evaluation.image_evaluation import PictureTask, ScoredImage
from samvideo.geometry import mask_box
from samvideo.io.masks import encode_rle
from samvideo.prompters.base import MaskProposal
from samvideo.segmenters.base import Segmenter
from samvideo.types import BoolArray, UInt8Array

EVERYTHING = "everything"
"""The name of the protocol."""
TRUTH = "truth"
"""The name of the prompter whose boxes are those of the ground truth: what the others could reach."""
OWN_ORDER = ("learned",)
"""Prompters whose proposals come in an order of their own."""
COUNTS = (10, 50, 100, 1000)
"""Numbers of proposals at which they are scored."""
FOUND = 0.5
"""IoU from which an object counts as found."""
THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU of COCO's average recall."""
NONE = np.iinfo(np.int64).max

Values = NDArray[np.float64]
Propose = Callable[[UInt8Array, Mapping[str, BoolArray]], list[MaskProposal]]
"""Proposes the objects of an image, the best first; also gets those of the ground truth."""


@dataclass(frozen=True)
class ProposalProtocol:
    """What is scored of proposals.

    Attributes:
        prompter: its name.
        most: proposals of an image that are scored.
    """

    prompter: str
    most: int
    name: str = EVERYTHING

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of proposals at which they are scored."""
        return (*(count for count in COUNTS if count < self.most), self.most)

    @property
    def measures(self) -> tuple[str, ...]:
        """See the module."""
        return tuple(f"{kind}@{count}" for kind in ("recall", "AR", "J") for count in self.counts)

    def describe(self) -> str:
        """The protocol in a sentence, printed in every result."""
        source = "the boxes of the ground truth" if self.prompter == TRUTH else f"the prompter {self.prompter}"
        order = (
            "in its order" if _is_ordered(self.prompter) else "by the detector's score, or else by predicted IoU"
        )
        return (
            f"at most {self.most} proposals of {source}, {order}; of the first N: recall@N, the objects found with "
            f"an IoU of at least {FOUND}, AR@N, as COCO without classes, and J@N, the IoU of the best"
        )


@dataclass(frozen=True)
class ProposalTask(PictureTask):
    """Proposals compared with the ground truth.

    Attributes:
        prompter: name of the prompter, for the record.
        most: proposals of an image that are scored.
    """

    prompter: str = "grid"
    most: int = COUNTS[-1]

    def scored(self) -> ProposalProtocol:
        """See `PictureTask`."""
        if self.protocol != EVERYTHING:
            raise ConfigError(f"proposals have no protocol {self.protocol!r}: {EVERYTHING} expected")
        return ProposalProtocol(self.prompter, self.most)

    def score(self, made: Propose, rgb: UInt8Array, truth: Mapping[str, BoolArray]) -> ScoredImage:
        """See `PictureTask`."""
        protocol = self.scored()
        begin = time.perf_counter()
        proposals = made(rgb, truth)[: self.most]
        seconds = time.perf_counter() - begin
        overlap = overlaps(proposals, list(truth.values()))
        objects, masks = {}, {}
        scores = measure(overlap, protocol.counts)
        for column, key in enumerate(truth):
            reached = {name: float(scores[name][column]) for name in protocol.measures}
            objects[key] = {"iou": reached, "oracle": reached, "predicted": None}
            if proposals:
                best = proposals[int(overlap[:, column].argmax())].mask
                masks[key] = {protocol.measures[-1]: encode_rle(best)}
        return ScoredImage(objects, masks, (seconds, 0.0), proposals=len(proposals))


def make_propose(load: Callable[[], Segmenter], prompter: str) -> Propose:
    """Make the prompter of a worker; its proposals are ranked.

    Args:
        load: loads the model that segments.
        prompter: as for `load_prompter`, or `TRUTH`.

    Raises:
        ConfigError: see `load_prompter`.
    """
    from samvideo.prompters.boxes import Detections
    from samvideo.prompters.factory import load_prompter

    segmenter = load()
    if prompter != TRUTH:
        found, order = load_prompter(prompter, segmenter), list if _is_ordered(prompter) else ranked
        return lambda rgb, truth: order(found.propose(rgb))

    def from_truth(rgb: UInt8Array, truth: Mapping[str, BoolArray]) -> list[MaskProposal]:
        boxes = np.array([mask_box(mask) for mask in truth.values()], np.float32).reshape(-1, 4)
        return ranked(load_prompter("boxes", segmenter, detector=lambda rgb: Detections(boxes)).propose(rgb))

    return from_truth


def _is_ordered(prompter: str) -> bool:
    return prompter.partition("=")[0] in OWN_ORDER


def ranked(proposals: Sequence[MaskProposal]) -> list[MaskProposal]:
    """Sort proposals, the best first: by the detector's score where all have one, else by predicted IoU."""
    scores = [one.score for one in proposals]
    values = [one.quality for one in proposals] if None in scores else scores
    order = np.argsort(-np.nan_to_num(np.array(values, np.float64)), kind="stable")
    return [proposals[row] for row in order]


def overlaps(proposals: Sequence[MaskProposal], truth: Sequence[BoolArray]) -> Values:
    """IoU of P proposals with G objects, float (P, G)."""
    if not truth:
        return np.zeros((len(proposals), 0))
    stack = np.stack(truth)
    areas = stack.sum((1, 2))
    found = np.zeros((len(proposals), len(truth)))
    for row, proposal in enumerate(proposals):
        if (box := proposal.box) is None:
            continue
        x1, y1, x2, y2 = (int(side) for side in box)
        inside = proposal.mask[y1:y2, x1:x2]
        shared = np.count_nonzero(stack[:, y1:y2, x1:x2] & inside, axis=(1, 2))
        found[row] = shared / (areas + np.count_nonzero(inside) - shared)
    return found


def measure(overlap: Values, counts: Sequence[int]) -> dict[str, Values]:
    """The measures of every object, float (G,), by name; their means over all objects are those of the module.

    Args:
        overlap: IoU of proposals, the best first, and objects, (P, G).
        counts: numbers of proposals.
    """
    finders = _finders(overlap)
    measures = {}
    for count in counts:
        best = overlap[:count].max(0, initial=0.0)
        measures[f"recall@{count}"] = (best >= FOUND).astype(np.float64)
        measures[f"AR@{count}"] = (finders < count).mean(0)
        measures[f"J@{count}"] = best
    return measures


def _finders(overlap: Values) -> NDArray[np.int64]:
    """(thresholds, G) index of the proposal that finds each object, `NONE` where there is none.

    Each proposal, in order, finds the free object that it covers best, of equal ones the last, as in COCO.
    """
    objects = overlap.shape[1]
    finders = np.full((len(THRESHOLDS), objects), NONE)
    if not objects:
        return finders
    for finder, threshold in zip(finders, THRESHOLDS, strict=True):
        for row in np.flatnonzero((overlap >= threshold).any(1)):
            free = np.where(finder == NONE, overlap[row], -1.0)
            best = objects - 1 - int(free[::-1].argmax())
            if free[best] >= threshold:
                finder[best] = row
    return finders
