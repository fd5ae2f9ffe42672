"""Evaluate automatic prompters on a data set of images: which objects of the ground truth their proposals find.

`recall@N` is the share of objects that one of the first N proposals of their image covers with an IoU of at least
0.5, `J@N` the mean IoU of the best of them. `AR@N` is COCO's average recall without classes, over IoU from 0.5 to
0.95, where a proposal finds one object only (Lin et al., arXiv 1405.0312). Counterpart: cocodataset/cocoapi:
pycocotools/cocoeval.py with iouType="segm" and useCats=0.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samvideo.errors import ConfigError
from samvideo.evaluation.image_evaluation import AnnotatedImage, PictureTask, ScoredImage, open_pictures
from samvideo.evaluation.image_sets import ImageSet
from samvideo.geometry import mask_box
from samvideo.io.masks import encode_rle
from samvideo.prompters.base import MaskProposal
from samvideo.prompters.boxes import Detections
from samvideo.search_settings import EVERYTHING, SearchSettings
from samvideo.segmenters.base import Segmenter
from samvideo.types import BoolArray

TRUTH = "truth"
"""The detector whose boxes are those of the ground truth: what any other could reach."""
OWN_ORDER = ("learned",)
"""Prompters whose proposals come in an order of their own."""
COUNTS = (1, 10, 50, 100, 1000)
"""Numbers of proposals at which they are scored."""
FOUND = 0.5
"""IoU from which an object counts as found."""
THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU of COCO's average recall."""
GRID = SearchSettings("grid", most=COUNTS[-1])
NONE = np.iinfo(np.int64).max

Values = NDArray[np.float64]
Propose = Callable[[AnnotatedImage], list[MaskProposal]]
"""Proposes the objects of an image, the best first; also gets those of the ground truth."""


@dataclass(frozen=True)
class ProposalProtocol:
    """What is scored of proposals.

    Attributes:
        search: see `ProposalTask`.
    """

    search: SearchSettings
    name: str = EVERYTHING

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of proposals at which they are scored."""
        return (*(count for count in COUNTS if count < self.search.most), self.search.most)

    @property
    def measures(self) -> tuple[str, ...]:
        """See the module."""
        return tuple(f"{kind}@{count}" for kind in ("recall", "AR", "J") for count in self.counts)

    def describe(self) -> str:
        """The protocol in a sentence, printed in every result."""
        search = self.search
        source = f"the prompter {search.prompter}"
        if search.texts:
            source += f" for {'; '.join(search.texts)}"
        if search.detector:
            truth = search.detector == TRUTH
            source += " with " + ("the boxes of the ground truth" if truth else f"the detector {search.detector}")
        ordered = _is_ordered(search.prompter)
        order = "in its order" if ordered else "by the detector's score, or else by predicted IoU"
        return (
            f"at most {search.most} proposals of {source}, {order}; of the first N: recall@N, the objects found "
            f"with an IoU of at least {FOUND}, AR@N, as COCO without classes, and J@N, the IoU of the best"
        )


@dataclass(frozen=True)
class ProposalTask(PictureTask):
    """Proposals compared with the ground truth.

    Attributes:
        search: the prompter, what it looks for and with, and how many proposals of an image are scored. The
            detector may be `TRUTH`; boxes of a file may go by the names of the pictures.
        dataset, sequences, objects: as for `open_pictures`.
    """

    search: SearchSettings = GRID
    dataset: str | None = None
    sequences: tuple[str, ...] = ()
    objects: tuple[int, ...] = ()

    def open(self) -> ImageSet:
        """See `PictureTask`."""
        return open_pictures(self.root, self.split, self.reading, self.dataset, self.sequences, self.objects)

    def scored(self) -> ProposalProtocol:
        """See `PictureTask`."""
        return ProposalProtocol(self.search)

    def score(self, made: Propose, shown: AnnotatedImage) -> ScoredImage:
        """See `PictureTask`."""
        protocol = self.scored()
        begin = time.perf_counter()
        proposals = made(shown)[: self.search.most]
        seconds = time.perf_counter() - begin
        overlap = overlaps(proposals, list(shown.truth.values()))
        objects, masks = {}, {}
        scores = measure(overlap, protocol.counts)
        for column, key in enumerate(shown.truth):
            reached = {name: float(scores[name][column]) for name in protocol.measures}
            objects[key] = {"iou": reached, "oracle": reached, "predicted": None}
            if proposals:
                best = proposals[int(overlap[:, column].argmax())].mask
                masks[key] = {protocol.measures[-1]: encode_rle(best)}
        return ScoredImage(objects, masks, (seconds, 0.0), proposals=len(proposals))


def make_propose(load: Callable[[], Segmenter], search: SearchSettings) -> Propose:
    """Make the prompter of a worker; its proposals are ranked.

    Args:
        load: loads the model that segments.
        search: see `ProposalTask`.

    Raises:
        ConfigError: see `load_prompter`; boxes of the ground truth for a prompter that takes none.
    """
    from samvideo.prompters.factory import load_prompter

    order = list if _is_ordered(search.prompter) else ranked
    segmenter = load()
    boxes_of = _given_boxes(search)
    if boxes_of is None:
        found = load_prompter(search.prompter, segmenter, detector=search.detector, texts=search.texts)
        return lambda shown: order(found.propose(shown.rgb))
    at_hand: list[Detections] = []
    prompter = load_prompter(search.prompter, segmenter, detector=lambda rgb: at_hand[-1])

    def from_given(shown: AnnotatedImage) -> list[MaskProposal]:
        at_hand[:] = [boxes_of(shown)]
        return order(prompter.propose(shown.rgb))

    return from_given


def _given_boxes(search: SearchSettings) -> Callable[[AnnotatedImage], Detections] | None:
    """What gives the boxes of each image, where they come from the ground truth or a file; None elsewhere."""
    if search.detector == TRUTH:
        if search.prompter != "boxes":
            raise ConfigError(f"--detector {TRUTH} is for --prompter boxes, not for {search.prompter}")
        return lambda shown: Detections(
            np.array([mask_box(mask) for mask in shown.truth.values()], np.float32).reshape(-1, 4)
        )
    if search.detector is None or not search.detector.lower().endswith(".json"):
        return None
    from samvideo.prompters.detectors import BoxesFile, load_detector

    file = load_detector(search.detector, texts=search.texts)
    return (lambda shown: file.of(shown.name)(shown.rgb)) if isinstance(file, BoxesFile) else None


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
