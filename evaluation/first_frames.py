"""The frames of videos where their objects first appear, as a data set of images; each has the new objects only."""

from collections.abc import Sequence

from samvideo.errors import DatasetError
from samvideo.evaluation.datasets.base import Dataset, VideoSequence
from samvideo.evaluation.image_sets import ImageSet, Picture
from samvideo.evaluation.video import choose, frames_of
from samvideo.io.images import read_rgb
from samvideo.types import BoolArray, UInt8Array


class FirstFrames(ImageSet):
    """See the module. Pictures are named `<sequence>/<frame>`; each sequence is a set.

    Args:
        dataset: of videos.
        sequences: their names.
        objects: which of their objects, all where empty.

    Raises:
        ConfigError: a sequence has none of the objects.
        DatasetError: a sequence is broken, or has no pictures.
    """

    description = "the frames where objects first appear, each with its new objects"

    def __init__(self, dataset: Dataset, sequences: Sequence[str], objects: tuple[int, ...] = ()) -> None:
        self._dataset = dataset
        self._places: dict[str, tuple[VideoSequence, int]] = {}
        pictures = {}
        for sequence in (choose(dataset.sequence(name), objects) for name in sequences):
            for index in sorted(set(sequence.first_seen.values())):
                file = sequence.video or (sequence.images[index] if sequence.images else None)
                if file is None:
                    raise DatasetError(f"sequence {sequence.name} has masks but no pictures: restore its frames")
                name = f"{sequence.name}/{sequence.frames[index]}"
                pictures[name] = Picture(sequence.name, file)
                self._places[name] = sequence, index
        super().__init__(dataset.name, dataset.split, pictures)

    def read(self, name: str) -> UInt8Array:
        """See `ImageSet.read`."""
        sequence, index = self._places[name]
        if sequence.video is None:
            return read_rgb(sequence.images[index])
        return next(frame.rgb for frame in frames_of(sequence) if frame.index == index)

    def masks(self, name: str, size_wh: tuple[int, int]) -> dict[str, BoolArray]:
        """See `ImageSet.masks`; objects have their names of the benchmark."""
        sequence, index = self._places[name]
        truth = self._dataset.truth(sequence, index)
        if truth.shape_hw != size_wh[::-1]:
            raise DatasetError(
                f"{sequence.masks[index]} has another size (height, width) than its image, {truth.shape_hw} not "
                f"{size_wh[::-1]}: restore it from the archive"
            )
        new = {number: truth.mask(number) for number, first in sequence.first_seen.items() if first == index}
        return {sequence.labels[k]: mask for k, mask in new.items() if mask is not None and mask.any()}
