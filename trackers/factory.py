"""From a model's name to a tracker; nothing is imported before it is asked for."""

import platform
import shutil
import socket
import threading
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from samvideo.errors import ConfigError
from samvideo.trackers.base import Tracker
from samvideo.weights.catalog import CATALOG, checkpoint
from samvideo.weights.fetch import Progress, cached_path

BUILT_IN = "nano"
WITHOUT_WEIGHTS = "flow"
WITH_GPU = "edgetam"
PATIENCE = 3.0  # seconds to find out whether the server can be reached


def create_tracker(
    model: str = BUILT_IN,
    *,
    weights: Path | str | None = None,
    memory: str | None = None,
    policy: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    progress: Progress | None = None,
) -> Tracker:
    """A fresh tracker.

    Args:
        model: `"nano"`, whose small weights come with the package; `"flow"`, which has none; a published model of
            the SAM 2 family; or `"auto"`, see `choose_model`.
        weights: a file to read the model from, see `samvideo.checkpoints.load`.
        memory, policy: of another kind than the model's own.
        device: auto, cpu, cuda or mps.
        dtype: auto, fp32, bf16 or fp16.
        progress: told of a download.

    Raises:
        ConfigError: no model, memory, policy, device or dtype of that name, or options that a built-in one has no
            use for.
        WeightsError: the weights cannot be had; there is no falling back to another model.
    """
    if model == "auto":
        model = WITH_GPU if weights is not None else choose_model()[0]
        name = None if weights is not None else model
    else:
        name = model
    if name in (BUILT_IN, WITHOUT_WEIGHTS):
        return _built_in(name, weights, {"memory": memory, "policy": policy})
    if name is not None and name not in CATALOG:
        raise _unknown(name)
    from samvideo.checkpoints import load
    from samvideo.torch_runtime import TorchRuntime, resolve_device
    from samvideo.trackers.sam import SamTracker

    resolve_device(device, dtype)  # a wrong device is told before anything is fetched
    loaded = load(name, weights=weights, memory=memory, policy=policy, progress=progress)
    return SamTracker(TorchRuntime(loaded, device=device, dtype=dtype))


def _built_in(name: str, weights: Path | str | None, options: dict[str, str | None]) -> Tracker:
    if name == WITHOUT_WEIGHTS:
        options = {"weights": None if weights is None else str(weights)} | options
    if unused := [key for key, value in options.items() if value is not None]:
        raise ConfigError(
            f"{name} has no {unused[0]}: name a model of the SAM 2 family, or leave --{unused[0]} out"
        )
    if name == BUILT_IN:
        from samvideo.trackers.nano import NanoTracker

        return NanoTracker(None if weights is None else Path(weights))
    from samvideo.trackers.flow import FlowTracker

    return FlowTracker()


def _unknown(name: str) -> ConfigError:
    known = [BUILT_IN, WITHOUT_WEIGHTS, *CATALOG]
    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return ConfigError(f"there is no model {name!r}; {hint}")


def choose_model() -> tuple[str, str]:
    """The model that `"auto"` means on this machine, and why.

    With a GPU it is EdgeTAM, when its weights are cached or can be fetched; else the built-in tracker, which is
    many times faster on a CPU. Decided within `PATIENCE` seconds, offline too.
    """
    if not _has_gpu():
        return BUILT_IN, "no GPU here; it is made for a CPU, its weights are at hand"
    row = checkpoint(WITH_GPU)
    if cached_path(row).exists():
        return WITH_GPU, "a GPU is here and its weights are cached"
    assert row.url is not None
    if _reachable(row.url):
        return WITH_GPU, f"a GPU is here; its weights, about {row.megabytes} MB, are fetched once"
    return BUILT_IN, f"a GPU is here, but the weights of {WITH_GPU} are not cached and cannot be fetched now"


def _has_gpu() -> bool:
    # torch takes seconds to load: it is only asked where there is a chance.
    nvidia = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    if not (nvidia or apple):
        return False
    from samvideo.torch_runtime import resolve_device

    return resolve_device()[0].type != "cpu"


def _reachable(url: str, patience: float = PATIENCE) -> bool:
    """Whether the server takes a connection; name look-ups may hang, so a thread waits for them."""
    parts = urlsplit(url)
    answered = threading.Event()

    def knock() -> None:
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), timeout=patience).close()
            answered.set()
        except OSError:
            pass

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(patience)
    return answered.is_set()
