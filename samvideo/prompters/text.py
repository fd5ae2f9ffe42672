"""Objects that texts name, such as "person; ball": boxes of an open-vocabulary detector, and a mask for each.

After Ren et al. 2024, Grounded SAM. Counterpart: IDEA-Research/Grounded-SAM-2: grounded_sam2_hf_model_demo.py.
"""

from dataclasses import dataclass

import numpy as np

from samvideo.prompters.base import Embed, MaskProposal, suppress
from samvideo.prompters.boxes import BoxesPrompter, Detections, Detector
from samvideo.types import UInt8Array


@dataclass(frozen=True)
class TextConfig:
    """Options.

    Attributes:
        box_overlap: IoU of two boxes of the same text that both stay. OWLv2 finds an object several times.
    """

    box_overlap: float = 0.5


class TextPrompter:
    """See the module; implements `samvideo.prompters.base.AutoPrompter`. Proposals are labelled with their text.

    Args:
        embed: encodes images.
        detector: finds boxes of the texts; see `samvideo.prompters.detectors.load_detector`.
        config: options.
    """

    def __init__(self, embed: Embed, detector: Detector, config: TextConfig = TextConfig()) -> None:
        self._boxes = BoxesPrompter(embed, lambda rgb: best_of_each(detector(rgb), config.box_overlap))

    def propose(self, rgb: UInt8Array) -> list[MaskProposal]:
        """See `AutoPrompter.propose`: by the score of the detector, the best first."""
        return sorted(self._boxes.propose(rgb), key=lambda one: -(one.score or 0.0))


def best_of_each(found: Detections, most: float) -> Detections:
    """Suppress boxes that overlap a better one of the same label (all of one label, if there are none).

    Args:
        found: boxes without scores come in the order of preference.
        most: IoU of two boxes of a label that both stay.
    """
    labels = np.array(found.labels if found.labels is not None else [""] * len(found.boxes))
    scores = np.zeros(len(found.boxes)) if found.scores is None else np.asarray(found.scores)
    kept = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        kept.append(rows[suppress(found.boxes[rows], scores[rows], most)])
    return found.select(np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64))
