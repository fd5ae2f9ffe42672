"""Measure the encoder of an image model: time, FLOPs, share of the peak, memory, a peer beside it.

Pictures are encoded by both alternately, in one process, so that other load on the machine affects both.
"""

from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samvideo.errors import ConfigError
from samvideo.evaluation import meter
from samvideo.evaluation.bench_inputs import Case, Clip, Plan, ready_image_model
from samvideo.evaluation.image_peers import ImagePeer, TimmPeer, image_peer
from samvideo.evaluation.meter import Clock, Times, clocked
from samvideo.image_model import ImageModel
from samvideo.models import count_parameters
from samvideo.picture_sizes import prompt_scale
from samvideo.specs import IMAGE_SPECS
from samvideo.tensors import Features, PromptTensors
from samvideo.torch_runtime import DTYPES, resolve_device

WARM = 2
"""Pictures before the timed ones, at most: there is no memory to fill."""
SHARES = (0.05, 0.95)
"""Of the foreground, in masks that are compared by IoU: in others, single pixels decide it."""


def check_image_case(case: Case, plan: Plan) -> None:
    """Raise ConfigError for a model without an encoder of its own, and for a case of tracking."""
    if plan.compiled:
        raise ConfigError(f"--compile is for trackers, and {case.model!r} is none: leave it out")
    if IMAGE_SPECS[case.model].network is not None:
        raise ConfigError(f"{case.model!r} does not encode pictures apart from prompts: it cannot be timed here")
    if case.prompted > 1 or case.policies:
        raise ConfigError(f"{case.model!r} is an image model: --prompted and --policy are of no use")


def measure_image(case: Case, plan: Plan, clip: Clip) -> dict[str, Any]:
    """One case: a row of the table, an entry of the JSON; times in seconds per picture, memory in bytes.

    Raises:
        ConfigError: no such peer, or one that lacks the model.
    """
    device, dtype = resolve_device(case.device, case.dtype)
    model = ready_image_model(case, plan).requires_grad_(False)  # the counter of FLOPs fails on gradients
    peer_dtype = dtype if plan.peer_dtype == "same" else DTYPES[plan.peer_dtype]
    peer = image_peer(plan.peer, model, device, peer_dtype) if plan.peer else None
    parameters = count_parameters(model)
    timed = TimedEncoder(model.fuse().convert(device, dtype), peer, clip, case)
    timed.run(min(plan.warmup, WARM))
    timed.reset()
    peak = meter.matmul_peak(device, dtype)
    meter.reset_peak_memory(device)
    timed.run(plan.frames)
    memory = meter.peak_memory(device)
    peak = max(peak, meter.matmul_peak(device, dtype))
    seconds = median(timed.ours.wall)
    flops = meter.count_flops(timed.encode_again)
    result: dict[str, Any] = {
        "model": case.model,
        "input_wh": list(model.spec.input_wh),
        "objects": case.objects,
        "prompted": 1,
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "parameters": parameters,
        **timed.ours.summary(),
        "fps": 1 / seconds,
        "course": [],
        "stages": {name: median(times.wall) for name, times in timed.stages.items()},
        "flops": flops,
        "network_seconds": seconds,
        "matmul_peak": peak,
        "peak_share": flops / seconds / peak,
        "peak_memory": memory,
    }
    if peer is not None:
        result["peer"] = {"dtype": str(peer_dtype).removeprefix("torch."), **timed.compared(peer)}
    return result


class TimedEncoder:
    """Encodes pictures, and decodes the clip's boxes in them.

    Args:
        model: ours.
        peer: encodes after ours, or None.
        clip: its frames are the pictures.
        case: how many boxes.
    """

    def __init__(self, model: ImageModel, peer: ImagePeer | None, clip: Clip, case: Case) -> None:
        self._model, self._peer, self._clip = model, peer, clip
        scale = np.array(prompt_scale(clip.info.size_wh, model.spec)).astype(np.float32)
        corners = [np.asarray(p.xyxy, np.float32).reshape(2, 2) * scale for p in clip.prompts[: case.objects]]
        xy = torch.from_numpy(np.array(corners)).to(model.device)
        self._boxes = PromptTensors(xy, torch.tensor([[2, 3]], device=model.device).expand(len(xy), -1))
        self._trunk_clock: Clock | None = None
        if isinstance(peer, TimmPeer):  # which has no neck: the time until ours begins is its like
            model.encoder.get_submodule("neck").register_forward_pre_hook(self._end_trunk)
        self.reset()

    def reset(self) -> None:
        """Forget all times."""
        self.ours, self._theirs, self._trunk = Times(), Times(), Times()
        self.stages = {"preprocess": Times(), "encode": self.ours, "decode": Times()}
        self._errors: list[float] = []
        self._ious: list[float] = []

    @torch.inference_mode()
    def run(self, count: int) -> None:
        """Encode so many pictures."""
        model, device = self._model, self._model.device
        for index in range(count):
            rgb = self._clip.frames[index % len(self._clip.frames)].rgb
            image = clocked(self.stages["preprocess"], device, partial(model.preprocess, rgb))
            self._trunk_clock = Clock(device)
            features = clocked(self.ours, device, partial(model.encode, image))
            self._trunk_clock = None
            logits = clocked(self.stages["decode"], device, partial(self._decode, features))
            if self._peer is not None:
                theirs = clocked(self._theirs, device, partial(self._peer.encode, image))
                self._compare(logits, self._peer.masks(theirs, self._boxes))

    @torch.inference_mode()
    def encode_again(self) -> Features:
        """Encode the first picture, untimed."""
        return self._model.encode(self._model.preprocess(self._clip.frames[0].rgb))

    def _end_trunk(self, *_: Any) -> None:
        if self._trunk_clock is not None:
            self._trunk_clock.stop(self._trunk)

    def _decode(self, features: Features) -> Tensor:
        embedding = self._model.embedding(features).expand(len(self._boxes.xy), -1, -1, -1)
        return self._model.decode(features, embedding, self._boxes).logits_bnhw[:, -3:]

    def _compare(self, ours: Tensor, theirs: Tensor | None) -> None:
        if theirs is None:
            return
        for a, b in zip(ours.float().flatten(0, 1), theirs.float().flatten(0, 1), strict=True):
            self._errors.append(float((a - b).norm() / b.norm()))
            if SHARES[0] <= float((b > 0).float().mean()) <= SHARES[1]:
                union = int(((a > 0) | (b > 0)).sum())
                self._ious.append(int(((a > 0) & (b > 0)).sum()) / union)

    def compared(self, peer: ImagePeer) -> dict[str, Any]:
        """The peer's entry in the JSON; ratios are of the same picture, so that both met the same load."""
        ratios = [b / a for a, b in zip(self.ours.wall, self._theirs.wall, strict=True)]
        entry: dict[str, Any] = {
            "parameters": peer.parameters,
            **self._theirs.summary(),
            "speedup": median(ratios),
            "cpu_speedup": median(self._theirs.cpu) / median(self.ours.cpu),
        }
        if self._trunk.wall:
            entry["trunk"] = {
                **self._trunk.summary(),
                "speedup": median(b / a for a, b in zip(self._trunk.wall, self._theirs.wall, strict=True)),
            }
        if self._errors:
            entry["logit_error"] = {"mean": float(np.mean(self._errors)), "max": max(self._errors)}
        if self._ious:
            entry["mask_iou"] = {"mean": float(np.mean(self._ious)), "min": min(self._ious)}
        return entry
