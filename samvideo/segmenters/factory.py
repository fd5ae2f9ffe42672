"""From the name of a model to a segmenter."""

import logging
from collections.abc import Collection
from pathlib import Path

from samvideo.errors import ConfigError
from samvideo.segmenters.base import Chooser, Segmenter, by_quality
from samvideo.segmenters.specs import SEGMENTERS, SegmenterOptions, SegmenterSpec
from samvideo.segmenters.specs.sam import RECOGNISED
from samvideo.weights.naming import split_name
from samvideo.weights.transfer import Progress

AUTO = "auto"
BUNDLED = "nano"
DEVICES = (AUTO, "cpu", "cuda", "mps")

log = logging.getLogger(__name__)


def load_segmenter(
    name: str = AUTO,
    *,
    weights: Path | str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    runtime: str = "torch",
    choose: Chooser = by_quality,
    progress: Progress | None = None,
) -> Segmenter:
    """Load a segmenter of images.

        segmenter = load_segmenter("mobilesam")  # downloaded at first use, then from the cache
        image = segmenter.embed(rgb)  # uint8 (H, W, 3); computed once for any number of prompts
        for found in image.segment([Box((40, 60, 200, 220)), Points([(300, 80)])]):
            print(found.object_id, found.best.sum(), found.quality_n)

    Args:
        name: a name that `samvideo models` lists, NAME=FILE, or "auto": the model that a weights file fits, without
            a file the bundled one.
        weights: a file to read the model from, see `samvideo.checkpoints.load`; where the publisher gives several,
            these separated by commas, or their folder; "random" for untrained weights from a fixed seed.
        device: auto, cpu, cuda or mps.
        dtype: auto, fp32, bf16 or fp16.
        runtime: what computes: torch or onnx, which does not import torch and takes the folder of
            `samvideo export-model` as weights.
        choose: chooses among the candidates of an object; by default the one with the highest predicted IoU.
        progress: called during a download with the number of bytes present and expected.

    Raises:
        ConfigError: no model, device or dtype of that name, or one that cannot segment images.
        WeightsError: the weights are not available, or are another model's.
    """
    name, file = split_name(name, weights)
    if runtime != "torch":
        return _exported(name, file, runtime, device, choose)
    spec = find_segmenter(name, file)
    check_device(spec.name, spec.devices, device)
    return spec.build(SegmenterOptions(weights=file, device=device, dtype=dtype, choose=choose, progress=progress))


def _exported(name: str, folder: Path | None, runtime: str, device: str, choose: Chooser) -> Segmenter:
    from samvideo.segmenters.exported_image import open_segmenter

    if runtime != "onnx":
        raise ConfigError(f"no runtime of segmenters is called {runtime!r}: torch or onnx expected")
    if folder is None:
        raise ConfigError(
            "the runtime onnx needs an exported model: make one with samvideo export-model NAME -o DIR, and give "
            "it with --weights DIR"
        )
    found = open_segmenter(folder, device=device, choose=choose)
    if name not in (AUTO, found.manifest.model):
        raise ConfigError(f"{folder} holds {found.manifest.model}, not {name}: leave --model out")
    return found


def check_device(name: str, devices: Collection[str], device: str) -> None:
    """Raise ConfigError for an unknown device; log that a known one has no effect on a model of `devices`."""
    kind = device.partition(":")[0]
    if kind not in DEVICES:
        raise ConfigError(f"no device is called {device!r}: {', '.join(DEVICES)} expected")
    if kind not in (AUTO, *devices):
        log.warning("%s computes on the CPU: the device %s has no effect on it", name, device)


def find_segmenter(name: str = AUTO, weights: Path | None = None) -> SegmenterSpec:
    """The segmenter of a name, and what "auto" means; see `load_segmenter` for arguments and errors."""
    if name == AUTO:
        return SEGMENTERS.find(BUNDLED) if weights is None else RECOGNISED
    spec = SEGMENTERS.find(name)
    if weights is not None and not spec.takes_weights:
        raise ConfigError(f"{name} has no weights: leave --weights out, or name another model")
    return spec
