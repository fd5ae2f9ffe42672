"""Score tracks that nobody prompted: each object with the track that fits it best over the whole sequence.

The unsupervised task of DAVIS 2017 (Caelles et al., arXiv 1905.00737). Counterpart:
davisvideochallenge/davis2017-evaluation: davis2017/evaluation.py, `_evaluate_unsupervised`. As there, void
pixels of the ground truth are background, where a track that covers them is wrong.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from samvideo.errors import DatasetError
from samvideo.evaluation.datasets.base import Dataset, VideoSequence
from samvideo.evaluation.files import MaskSet, read_index_png, without_void
from samvideo.evaluation.metrics import FrameScore, ObjectScores, score_masks
from samvideo.evaluation.scoring import Tree, VideoScores
from samvideo.io.mask_pictures import FROM_FILE, MaskRule

MOST_TRACKS = 20
"""Of a sequence, as published."""
NO_TRACK = 0

Score = tuple[FrameScore, tuple[int, int]]
"""Of one object on one frame; pixels of the ground truth and of the track."""


def read_tracks(folder: Path, frame: str, rule: MaskRule = FROM_FILE) -> MaskSet:
    """Read the tracks of one frame, `<frame>.png`, numbered from 1.

    Raises:
        DatasetError: the file is missing or unreadable, or has a number above `MOST_TRACKS`.
    """
    path = folder / f"{frame}.png"
    tracks = without_void(MaskSet(index=read_index_png(path, rule)), {}, rule)
    if max(tracks.numbers, default=0) > MOST_TRACKS:
        raise DatasetError(
            f"{path} has track {max(tracks.numbers)}: numbers from 1 to {MOST_TRACKS} expected, since at most "
            f"{MOST_TRACKS} tracks of a sequence are scored"
        )
    return tracks


class MatchedScores(VideoScores):
    """Accumulates the scores of all pairs of a track and an object; tracks and objects are matched at the end."""

    def __init__(self, dataset: Dataset, sequence: VideoSequence) -> None:
        super().__init__(dataset, sequence)
        self._frames: list[tuple[str, dict[tuple[int, int], Score]]] = []

    def add(
        self,
        index: int,
        prediction: MaskSet,
        truth: MaskSet | None = None,
        confidence: Mapping[int, float] | None = None,
    ) -> None:
        """See `VideoScores.add`; the numbers of the masks are those of tracks."""
        truth = truth or self._dataset.truth(self._sequence, index)
        self._check_sizes(index, truth, prediction)
        shape = truth.shape_hw or prediction.shape_hw or (1, 1)
        true, found = truth.areas, prediction.areas
        masks = {track: prediction.union([track], shape) for track in (NO_TRACK, *found)}
        masks[NO_TRACK] = np.zeros(shape, bool)
        pairs: dict[tuple[int, int], Score] = {}
        for number in self._wanted[index]:
            mask = truth.union([number], shape)
            for track, candidate in masks.items():
                areas = true.get(number, 0), found.get(track, 0)
                pairs[track, number] = score_masks(mask, candidate), areas
        self._frames.append((self._sequence.frames[index], pairs))

    def conclude(self) -> Tree:
        """Match, and return the entry of this video; `track` of an object is the number of its track, or None."""
        seen = {track for _, pairs in self._frames for track, _ in pairs} - {NO_TRACK}
        tracks = [*range(1, max(seen, default=0) + 1)]
        tracks += [NO_TRACK] * (len(self.objects) - len(tracks))  # as published, where there are too few
        found = [[self._scores(track, number) for number in self.objects] for track in tracks]
        fit = [[(np.mean(scores.j) + np.mean(scores.f)) / 2 for scores in row] for row in found]
        rows, columns = linear_sum_assignment(np.array(fit), maximize=True)
        numbers, matched = list(self.objects), dict[int, int | None]()
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            self.objects[numbers[column]] = found[row][column]
            matched[numbers[column]] = tracks[row] if tracks[row] in seen else None
        entry = super().conclude()
        for number, track in matched.items():
            entry["objects"][self._sequence.labels[number]]["track"] = track
        return entry

    def _scores(self, track: int, number: int) -> ObjectScores:
        """Of an object with a track, which is empty on frames where it has no pixel."""
        scores = ObjectScores()
        for frame, pairs in self._frames:
            score, areas = pairs.get((track, number), pairs[NO_TRACK, number])
            scores.add(frame, score, areas)
        return scores
