"""From the name of a model to a tracker."""

import platform
import shutil
import socket
import threading
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from samvideo.deploy.runtimes import TORCH, check_runtime, is_weights, open_exported
from samvideo.errors import ConfigError
from samvideo.segmenters.base import Segmenter
from samvideo.segmenters.factory import check_device, find_segmenter, load_segmenter
from samvideo.segmenters.specs import ModelOptions, SegmenterOptions
from samvideo.specs import IMAGE_SPECS
from samvideo.trackers.base import Tracker
from samvideo.trackers.first_mask import FirstMaskTracker
from samvideo.trackers.specs import TRACKERS, TrackerOptions, TrackerSpec
from samvideo.trackers.specs.sam import RECOGNISED
from samvideo.weights.catalog import checkpoint
from samvideo.weights.fetch import cached_path
from samvideo.weights.naming import is_random, split_name
from samvideo.weights.transfer import Progress

if TYPE_CHECKING:
    from samvideo.deploy.graph_runtime import GraphRuntime

AUTO = "auto"
ON_CPU = "nano"
ON_GPU = "edgetam"
PATIENCE = 3.0  # seconds to find out whether a server can be reached


@dataclass(frozen=True)
class Choice:
    """A tracker, and the reason for it if it was chosen by "auto", else an empty string."""

    tracker: TrackerSpec
    reason: str = ""


def create_tracker(
    model: str = ON_CPU,
    *,
    weights: Path | str | None = None,
    memory: str | None = None,
    policy: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    runtime: str = "torch",
    compiled: bool = False,
    first_mask: Segmenter | str | None = None,
    progress: Progress | None = None,
) -> Tracker:
    """Create a new tracker.

    Args:
        model: a name that `samvideo models` lists, NAME=FILE, or "auto", see `choose`.
        weights: a file to read the model from, or "random", see `samvideo.checkpoints.load`; of other runtimes than
            torch also the folder of an exported model.
        memory, policy: other than the model's own.
        device: auto, cpu, cuda or mps; of the other runtimes see `samvideo.deploy.onnx_runtime.open_onnx` and
            `samvideo.deploy.openvino_runtime.open_openvino`.
        dtype: auto, fp32, bf16 or fp16.
        runtime: what computes: torch, or another of `samvideo.deploy.runtimes.RUNTIMES`, which run exported models
            without torch. A model that is not exported yet is exported once, see `samvideo.deploy.cache`.
        compiled: compile the network, see `samvideo.compiled`; the first frames take minutes.
        first_mask: a segmenter, or its name or NAME=FILE (see `load_segmenter`), that turns boxes and clicks into
            masks in the tracker's place; see `samvideo.trackers.first_mask`.
        progress: called during a download.

    Raises:
        ConfigError: no model, memory, policy, device or dtype of that name, or an option that the model lacks.
        WeightsError: the weights are not available; no other model is used instead.
    """
    name, file = split_name(model, weights)
    options = TrackerOptions(
        weights=file, memory=memory, policy=policy, device=device, dtype=dtype, compiled=compiled, progress=progress
    )
    check_runtime(runtime)
    if runtime == TORCH:
        tracker = _find_spec(name, options)
        check_device(tracker.name, tracker.devices, device)
    if isinstance(first_mask, str):
        first_mask = load_segmenter(first_mask, device=device, dtype=dtype, progress=progress)
    built = tracker.build(options) if runtime == TORCH else _exported_tracker(name, runtime, options)
    return built if first_mask is None else FirstMaskTracker(built, first_mask)


def _exported_tracker(model: str, runtime: str, options: TrackerOptions) -> Tracker:
    from samvideo.trackers.sam import SamTracker

    return SamTracker(_exported(model, runtime, options))


def _exported(model: str, runtime: str, options: TrackerOptions) -> "GraphRuntime":
    """An exported model on a runtime other than torch."""
    if options.dtype not in ("auto", "fp32"):
        raise ConfigError(f"an exported model has its number format: leave --dtype {options.dtype} out")
    if options.compiled:
        raise ConfigError("PyTorch compiles its own models, not exported ones: leave --compile or --runtime out")
    weights = options.weights
    if weights is None or is_random(weights) or is_weights(weights):
        return _exported_once(model, runtime, options)
    if options.memory is not None:
        raise ConfigError(f"an exported model has its memory: leave --memory {options.memory} out")
    found = open_exported(runtime, weights, policy=options.policy, device=options.device)
    held = found.manifest.model
    if model not in (AUTO, held):
        raise ConfigError(f"{weights} holds {held}, not {model}: give --model {held}")
    return found


def _exported_once(model: str, runtime: str, options: TrackerOptions) -> "GraphRuntime":
    from samvideo.deploy.cache import open_cached

    spec = _find_spec(model, options)
    if "weights" not in spec.options:
        raise ConfigError(f"{spec.name} is not a network, and has no graphs: leave --runtime {runtime} out")
    return open_cached(
        runtime,
        None if spec is RECOGNISED else spec.name,
        weights=options.weights,
        memory=options.memory,
        policy=options.policy,
        device=options.device,
        progress=options.progress,
    )


def create_segmenter(model: str, options: TrackerOptions, runtime: str = TORCH) -> Segmenter:
    """Create the segmenter with which a tracker infers first masks; errors as of `create_tracker`."""
    name, file = split_name(model, options.weights)
    if runtime != TORCH:
        from samvideo.segmenters.exported import ExportedSegmenter

        return ExportedSegmenter(_exported(name, runtime, replace(options, weights=file)))
    spec = _find_spec(name, replace(options, weights=file))
    given = {field.name: getattr(options, field.name) for field in fields(ModelOptions)}
    return find_segmenter(spec.segmenter, file).build(SegmenterOptions(**given | {"weights": file}))


def _find_spec(model: str, options: TrackerOptions) -> TrackerSpec:
    spec = choose(model, weights=options.weights, device=options.device).tracker
    for name in ("weights", "memory", "policy"):
        if getattr(options, name) is not None and name not in spec.options:
            raise ConfigError(f"{spec.name} has no {name}: name a model of the SAM 2 family, or leave --{name} out")
    if options.compiled and "compiled" not in spec.options:
        raise ConfigError(f"{spec.name} has no network to compile: leave --compile out")
    return spec


def choose(model: str = AUTO, *, weights: Path | str | None = None, device: str = "auto") -> Choice:
    """The tracker of a name, and what "auto" means.

    "auto" is the model that a weights file fits. Without a file it is EdgeTAM if there is a GPU, and its weights
    are cached or can be downloaded; else the bundled tracker, which is much faster on a CPU. This takes at most
    `PATIENCE` seconds, offline too.

    Raises:
        ConfigError: there is no model of that name.
    """
    if model in IMAGE_SPECS:
        raise ConfigError(
            f"{model} segments images and cannot track: name a model that tracks, such as {ON_CPU}, and take "
            f"{model} for the first masks (--first-mask {model})"
        )
    if model != AUTO:
        return Choice(TRACKERS.find(model))
    if weights is not None:
        return Choice(RECOGNISED)
    on_cpu, on_gpu = TRACKERS.find(ON_CPU), TRACKERS.find(ON_GPU)
    if device == "cpu" or not _has_gpu():
        return Choice(on_cpu, f"no GPU{' wanted' if device == 'cpu' else ' found'}; it is fast on a CPU")
    row = checkpoint(ON_GPU)
    if cached_path(row).exists():
        return Choice(on_gpu, "a GPU was found, and its weights are cached")
    assert row.url is not None
    if _reachable(row.url):
        return Choice(on_gpu, f"a GPU was found; its weights, about {row.megabytes} MB, are downloaded once")
    return Choice(
        on_cpu, f"a GPU was found, but the weights of {ON_GPU} are not cached and cannot be downloaded now"
    )


def _has_gpu() -> bool:
    # torch takes seconds to import: only where a GPU is likely
    nvidia = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    if not (nvidia or apple):
        return False
    from samvideo.torch_runtime import resolve_device

    return resolve_device()[0].type != "cpu"


def _reachable(url: str, patience: float = PATIENCE) -> bool:
    """Whether a server accepts a connection. A name look-up may hang, so it is made in a thread."""
    parts = urlsplit(url)
    connected = threading.Event()

    def connect() -> None:
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), timeout=patience).close()
            connected.set()
        except OSError:
            pass

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(patience)
    return connected.is_set()
