"""The published models of the SAM 2 family, each as a tracker."""

from functools import partial

from samvideo.segmenters.specs.sam import facts_of
from samvideo.specs import SPECS
from samvideo.trackers.base import Tracker
from samvideo.trackers.specs import TrackerOptions, TrackerSpec
from samvideo.weights.catalog import CATALOG


def build(name: str | None, options: TrackerOptions) -> Tracker:
    """The tracker of a model, None for the one that the weights fit; see `TrackerSpec.build`."""
    from samvideo.checkpoints import load
    from samvideo.torch_runtime import TorchRuntime, resolve_device
    from samvideo.trackers.sam import SamTracker

    resolve_device(options.device, options.dtype)  # fails before a long download
    model = load(
        name, weights=options.weights, memory=options.memory, policy=options.policy, progress=options.progress
    )
    if options.compiled:
        from samvideo.compiled import CompiledRuntime

        return SamTracker(CompiledRuntime(model, device=options.device, dtype=options.dtype))
    return SamTracker(TorchRuntime(model, device=options.device, dtype=options.dtype))


_sam = partial(
    TrackerSpec,
    needs_weights=True,
    devices=("cpu", "cuda", "mps"),
    options=frozenset({"weights", "memory", "policy", "compiled"}),
)
VARIANTS = {
    name: _sam(
        name,
        partial(build, name),
        f"published by {CATALOG[name].origin}",
        facts=partial(facts_of, CATALOG[name]),
        segmenter=name,
    )
    for name in SPECS
}
RECOGNISED = _sam(
    "auto", partial(build, None), "whichever model a weights file fits by its keys and shapes", segmenter="auto"
)
