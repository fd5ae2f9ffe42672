"""The published models of the SAM 2 family, each as a tracker."""

from functools import partial
from typing import TYPE_CHECKING

from samvideo.segmenters.base import Segmenter
from samvideo.trackers.base import Tracker
from samvideo.trackers.specs import ModelFacts, TrackerOptions, TrackerSpec
from samvideo.weights.catalog import CATALOG, Checkpoint
from samvideo.weights.fetch import cached_path

if TYPE_CHECKING:
    from samvideo.models import VideoModel


def _load(name: str | None, options: TrackerOptions) -> "VideoModel":
    from samvideo.checkpoints import load
    from samvideo.torch_runtime import resolve_device

    resolve_device(options.device, options.dtype)  # fails before a long download
    return load(
        name, weights=options.weights, memory=options.memory, policy=options.policy, progress=options.progress
    )


def _build(name: str | None, options: TrackerOptions) -> Tracker:
    from samvideo.torch_runtime import TorchRuntime
    from samvideo.trackers.sam import SamTracker

    return SamTracker(TorchRuntime(_load(name, options), device=options.device, dtype=options.dtype))


def _build_segmenter(name: str | None, options: TrackerOptions) -> Segmenter:
    from samvideo.segmenters.image_model import ImageModelSegmenter

    return ImageModelSegmenter(_load(name, options), device=options.device, dtype=options.dtype)


def _facts(row: Checkpoint) -> ModelFacts:
    from samvideo.models import count_spec_parameters
    from samvideo.specs import SPECS

    spec = SPECS[row.name]
    return ModelFacts(
        spec.encoder,
        spec.memory or "-",
        str(spec.policy),
        f"{count_spec_parameters(spec) / 1e6:.1f} M",
        "x".join(map(str, spec.input_wh)),
        row.licence,
        "yes" if cached_path(row).exists() else "no",
    )


_sam = partial(
    TrackerSpec,
    needs_weights=True,
    devices=("cpu", "cuda", "mps"),
    options=frozenset({"weights", "memory", "policy"}),
)
VARIANTS = {
    name: _sam(
        name,
        partial(_build, name),
        f"published by {row.origin}",
        facts=partial(_facts, row),
        build_segmenter=partial(_build_segmenter, name),
    )
    for name, row in CATALOG.items()
}
RECOGNISED = _sam(
    "auto",
    partial(_build, None),
    "whichever model a weights file fits by its keys and shapes",
    build_segmenter=partial(_build_segmenter, None),
)
