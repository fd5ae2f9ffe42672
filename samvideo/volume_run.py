"""Segments objects of a NIfTI volume from clicks, as `samvideo segment VOLUME` does. Needs torch and nibabel."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samvideo.errors import ConfigError, PromptError
from samvideo.geometry import check_points
from samvideo.io.files import check_new, check_writable, writing
from samvideo.io.masks import index_map
from samvideo.io.volumes import LABELS, LabelVolume, VolumeFile, volume_name
from samvideo.object_prompts import labels_of, number_prompts
from samvideo.prompt_syntax import parse_prompts
from samvideo.run_base import without_missing_labels
from samvideo.segmenters.volume import VolumeMask, VolumeSegmenter
from samvideo.targets import complete
from samvideo.types import Points, Prompt


@dataclass(frozen=True)
class SegmentedObject:
    """One object of a volume.

    Attributes:
        id: its label.
        voxels: of its label; where objects overlap, the one of higher quality has the voxels.
        millilitres: their volume.
        quality: IoU with the true mask as the network predicts it.
        label: name of its class, or None.
    """

    id: int
    voxels: int
    millilitres: float
    quality: float
    label: str | None = None


@dataclass(frozen=True)
class VolumeSummary:
    """What `segment_volume` has written."""

    source: str
    file: Path
    objects: tuple[SegmentedObject, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self, dict_factory=without_missing_labels) | {"file": str(self.file)}


def segment_volume(
    path: Path,
    prompts: Sequence[str],
    make_segmenter: Callable[[], VolumeSegmenter],
    out: Path | None = None,
    *,
    overwrite: bool = False,
) -> VolumeSummary:
    """Segment the prompted objects and write `labels.nii.gz`.

    Args:
        path: of the volume, .nii or .nii.gz.
        prompts: in the grammar of `samvideo.prompt_syntax`, clicks only: `points=X,Y/-X,Y@SLICE#ID`, X and Y being
            voxels along the first two axes of the file and SLICE along the third; or JSON files. The clicks of an
            object correct each other in the order given.
        make_segmenter: called once volume and prompts have been checked, since it may take long.
        out: folder of the result [NAME_segmented].
        overwrite: whether an earlier result is replaced.

    Raises:
        SamVideoError: a volume, prompts or target that cannot be used; nothing is written then.
    """
    volume = VolumeFile(path)
    numbered = number_prompts(parse_prompts(list(prompts)))
    clicks, names = _clicks(numbered, volume), labels_of(numbered)
    target = (out or Path(f"{volume_name(path)}_segmented")) / LABELS
    check_writable(target.parent)
    check_new(target, overwrite, keep=[path])
    segmenter = make_segmenter()
    masks = {number: segmenter.segment(volume, *given) for number, given in clicks.items()}
    with writing(target), complete(target) as part, LabelVolume(part, path) as labels:
        counts = _write(masks, volume, labels)
    millilitres = float(np.prod(volume.spacing)) / 1000
    return VolumeSummary(
        volume.name,
        target,
        tuple(
            SegmentedObject(
                number,
                counts[number],
                round(counts[number] * millilitres, 4),
                round(mask.quality, 4),
                names.get(number),
            )
            for number, mask in masks.items()
        ),
    )


def _clicks(
    prompts: Sequence[Prompt], volume: VolumeFile
) -> dict[int, tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Voxels (N, 3) and labels of each object's clicks, by ascending id."""
    if not prompts:
        raise ConfigError("nothing to segment: give clicks, for instance --prompt points=40,60@12")
    found: dict[int, list[Points]] = {}
    for prompt in prompts:
        if not isinstance(prompt, Points):
            raise PromptError(
                f"a {type(prompt).__name__.lower()} cannot prompt FastSAM3D: clicks expected, for instance "
                "points=40,60@12"
            )
        if prompt.frame is None:
            raise PromptError("the clicks of a volume need the number of their slice: points=X,Y@SLICE expected")
        if prompt.frame >= volume.shape[2]:
            raise PromptError(f"{volume.name} has no slice {prompt.frame}: 0 to {volume.shape[2] - 1} expected")
        check_points(prompt.xy, volume.shape[:2])
        found.setdefault(prompt.object_id or 0, []).append(prompt)
    return {number: _joined(found[number], volume.shape) for number in sorted(found)}


def _joined(given: Sequence[Points], shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    voxels = [(*xy, prompt.frame) for prompt in given for xy in np.floor(prompt.xy)]
    return np.minimum(np.array(voxels, np.float64), np.array(shape) - 1), np.concatenate([p.labels for p in given])


def _write(masks: dict[int, VolumeMask], volume: VolumeFile, labels: LabelVolume) -> dict[int, int]:
    """Write all slices; returns the number of voxels of each object."""
    counts, qualities = dict.fromkeys(masks, 0), [mask.quality for mask in masks.values()]
    for k in range(volume.shape[2]):
        plane = index_map(np.stack([mask.slice(k).T for mask in masks.values()]), list(masks), qualities)
        labels.write(k, plane)
        for number in masks:
            counts[number] += int((plane == number).sum())
    return counts
