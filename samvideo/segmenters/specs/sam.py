"""The published image models and, without their memory, the video models, each as a segmenter."""

from functools import partial
from importlib import import_module

from samvideo.errors import ConfigError
from samvideo.segmenters.base import Segmenter
from samvideo.segmenters.specs import ModelFacts, SegmenterOptions, SegmenterSpec
from samvideo.specs import IMAGE_SPECS, SPECS
from samvideo.weights.catalog import CATALOG, PARAMETERS, Checkpoint
from samvideo.weights.fetch import cached_path

NETWORKS = {
    "squeezesam": ("samvideo.segmenters.squeeze_sam", "SqueezeSamSegmenter"),
    "rap-sam-r50": ("samvideo.segmenters.rap_sam", "RapSamSegmenter"),
}
"""Segmenters of networks that are not an encoder with the heads of SAM."""
VOLUMES = "fastsam3d"
"""The model of volumes."""
DEVICES = ("cpu", "cuda", "mps")


def build(name: str | None, options: SegmenterOptions) -> Segmenter:
    """The segmenter of a model, None for the one that the weights fit; see `SegmenterSpec.build`."""
    from samvideo.checkpoints import load_any
    from samvideo.image_model import ImageModel
    from samvideo.segmenters.image_model import ImageModelSegmenter
    from samvideo.torch_runtime import resolve_device

    _check_images(name)
    resolve_device(options.device, options.dtype)  # fails before a long download
    model = load_any(name, weights=options.weights, memory=options.memory, progress=options.progress)
    how = {"device": options.device, "dtype": options.dtype, "choose": options.choose}
    if isinstance(model, ImageModel):
        return ImageModelSegmenter(model, **how)  # type: ignore[arg-type]
    _check_images(model.name)
    module, segmenter = NETWORKS[model.name]
    built: Segmenter = getattr(import_module(module), segmenter)(model, **how)
    return built


def _check_images(name: str | None) -> None:
    if name == VOLUMES:
        raise ConfigError(
            f"{name} segments volumes, not images: give `samvideo segment` a file ending in .nii or .nii.gz, or "
            "take another model"
        )


def facts_of(row: Checkpoint) -> ModelFacts:
    """The row of a published model in `samvideo models`."""
    spec = (SPECS | IMAGE_SPECS)[row.name]
    return ModelFacts(
        spec.encoder,
        spec.memory or "-",
        str(spec.policy) if spec.memory else "-",
        f"{PARAMETERS[row.name]:.1f} M",
        "x".join(map(str, spec.input_wh)),
        row.licence,
        "yes" if cached_path(row).exists() else "no" if row.url else "local file only",
    )


VARIANTS = {
    name: SegmenterSpec(
        name,
        partial(build, name),
        f"published by {CATALOG[name].origin}",
        needs_weights=True,
        takes_weights=True,
        devices=DEVICES,
        facts=partial(facts_of, CATALOG[name]),
    )
    for name in (*IMAGE_SPECS, *SPECS)
}
RECOGNISED = SegmenterSpec(
    "auto",
    partial(build, None),
    "whichever model a weights file fits by its keys and shapes",
    needs_weights=True,
    takes_weights=True,
    devices=DEVICES,
)
