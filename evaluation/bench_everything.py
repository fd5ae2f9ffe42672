"""Measure everything mode of an image model by a grid of clicks: its cost over the network's, a peer beside it.

All parts are timed for each picture in turn, in one process, so that other load on the machine affects all.
"""

import math
from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from samvideo.evaluation.bench_inputs import Case, Clip, Plan, ready_image_model
from samvideo.evaluation.image_peers import GridPeer
from samvideo.evaluation.image_protocols import iou
from samvideo.evaluation.meter import Times, clocked
from samvideo.image_model import ImageModel
from samvideo.models import count_parameters
from samvideo.picture_sizes import prompt_scale
from samvideo.prompters.base import Embed, MaskFilter
from samvideo.prompters.decoding import PromptedPart
from samvideo.prompters.grid import GridConfig, GridPrompter, click_grid
from samvideo.segmenters.image_model import BATCH
from samvideo.tensors import PromptTensors
from samvideo.torch_runtime import DTYPES, resolve_device
from samvideo.types import BoolArray, UInt8Array, image_wh

MATCHED = 0.5
"""IoU from which two masks are taken to be the same."""
MATCHED_PIXELS = 2**17
"""Of a mask, at most, by which masks are matched; their IoU is that of all pixels."""
FEW = 8
"""Clicks along a side, at most, from which the thresholds for random weights are taken."""
PASSING = 0.75, 0.5
"""Quantiles of predicted IoU, and of stability beyond that, which are those thresholds."""


def measure_everything(case: Case, plan: Plan, clip: Clip) -> dict[str, Any]:
    """One case: a row of the table, an entry of the JSON; times in seconds per picture.

    Raises:
        ConfigError: the peer lacks the model.
    """
    assert plan.points is not None
    device, dtype = resolve_device(case.device, case.dtype)
    model = ready_image_model(case, plan).requires_grad_(False)
    peer_dtype = dtype if plan.peer_dtype == "same" else DTYPES[plan.peer_dtype]
    peer = GridPeer(model, device, peer_dtype) if plan.peer else None
    parameters = count_parameters(model)
    model = model.fuse().convert(device, dtype)
    config = GridConfig(points=plan.points)
    if plan.weights is None:
        config = config_for_random(partial(PromptedPart, model), clip.frames[0].rgb, plan.points)
    timed = TimedGrid(model, peer, config)
    for index in range(plan.frames):
        timed.run(clip.frames[index % len(clip.frames)].rgb)
    result: dict[str, Any] = {
        "model": case.model,
        "input_wh": list(model.spec.input_wh),
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "parameters": parameters,
        "points_per_side": config.points,
        "least_quality": config.keep.quality,
        "least_stability": config.keep.stability,
        "most_box_overlap": config.box_overlap,
        **timed.ours.summary(),
        "masks": timed.masks / plan.frames,
        **timed.limit(),
    }
    if peer is not None:
        result["peer"] = {"dtype": str(peer_dtype).removeprefix("torch."), **timed.compared(peer)}
    return result


def config_for_random(embed: Embed, rgb: UInt8Array, points: int) -> GridConfig:
    """Thresholds that a part of the masks of a model with random weights pass, which are neither good nor compact.

    Boxes are not compared: all of these masks reach from edge to edge.
    """
    size_wh = image_wh(rgb)
    clicks = click_grid(min(points, FEW)) * size_wh
    every = MaskFilter(0.0, 0.0)
    found = embed(rgb, (0, 0, *size_wh)).masks(clicks[:, None], np.ones((len(clicks), 1), np.int64), every)
    quality, stability = (
        np.array(values) for values in zip(*((f.quality, f.stability) for f in found), strict=True)
    )
    least = max(0.0, _between(quality, PASSING[0]))
    measured = ~np.isnan(stability) & (quality > least if least else True)
    return GridConfig(
        points=points, keep=MaskFilter(least, _between(stability[measured], PASSING[1])), box_overlap=1.0
    )


def _between(values: NDArray[np.float64], share: float) -> float:
    """The middle between the two values about a quantile, so that rounding decides on none of them."""
    rank = min(max(1, int(share * len(values))), len(values) - 1)
    return float(np.sort(values)[rank - 1 : rank + 1].mean())


class TimedGrid:
    """Finds the masks of pictures.

    Args:
        model: ours.
        peer: finds them after ours, or None.
        config: of both.

    Attributes:
        masks: how many were found.
    """

    def __init__(self, model: ImageModel, peer: GridPeer | None, config: GridConfig) -> None:
        self._model, self._peer, self._config = model, peer, config
        self._prompter = GridPrompter(partial(PromptedPart, model), config)
        self._encode, self._decode, self.ours, self._theirs = Times(), Times(), Times(), Times()
        self.masks = self._their_masks = 0
        self._ious: list[float] = []

    @torch.inference_mode()
    def run(self, rgb: UInt8Array) -> None:
        """Encode and decode a picture, find its masks, and let the peer do so."""
        model, device = self._model, self._model.device
        features = clocked(self._encode, device, lambda: model.encode(model.preprocess(rgb)))
        batches = self._batches(image_wh(rgb))

        def decode() -> None:
            for points in batches:
                embedding = model.embedding(features).expand(len(points.xy), -1, -1, -1)
                model.decode(features, embedding, points)

        clocked(self._decode, device, decode)
        found = clocked(self.ours, device, partial(self._prompter.propose, rgb))
        self.masks += len(found)
        if self._peer is not None:
            theirs = clocked(self._theirs, device, partial(self._peer.propose, rgb, self._config))
            self._their_masks += len(theirs)
            self._ious += matched([one.mask for one in found], theirs)

    def _batches(self, size_wh: tuple[int, int]) -> list[PromptTensors]:
        """The clicks, as the decoder takes them."""
        scaled = click_grid(self._config.points) * size_wh * prompt_scale(size_wh, self._model.spec)
        xy = torch.from_numpy(scaled.astype(np.float32))[:, None].to(self._model.device)
        return [
            PromptTensors(part, torch.ones_like(part[..., 0], dtype=torch.int64)) for part in torch.split(xy, BATCH)
        ]

    def limit(self) -> dict[str, Any]:
        """The entries of the encoding and all decodings alone, and how many times as long the whole takes."""
        wall, cpu = (
            median(all_of_it / (encode + decode) for all_of_it, encode, decode in zip(*times, strict=True))
            for times in (
                (self.ours.wall, self._encode.wall, self._decode.wall),
                (self.ours.cpu, self._encode.cpu, self._decode.cpu),
            )
        )
        return {
            "encode_seconds": median(self._encode.wall),
            "decode_seconds": median(self._decode.wall),
            "of_network": wall,
            "cpu_of_network": cpu,
        }

    def compared(self, peer: GridPeer) -> dict[str, Any]:
        """The peer's entry in the JSON; ratios are of the same picture, so that both met the same load."""
        pairs = len(self._ious)
        return {
            "parameters": peer.parameters,
            **self._theirs.summary(),
            "speedup": median(b / a for a, b in zip(self.ours.wall, self._theirs.wall, strict=True)),
            "cpu_speedup": median(self._theirs.cpu) / median(self.ours.cpu),
            "matched": pairs,
            "only_ours": self.masks - pairs,
            "only_theirs": self._their_masks - pairs,
            "mask_iou": {"mean": float(np.mean(self._ious)), "min": min(self._ious)} if pairs else None,
        }


def matched(ours: Sequence[BoolArray], theirs: Sequence[BoolArray]) -> list[float]:
    """IoU of masks (H, W), matched one to one so that its sum is greatest; only of pairs from `MATCHED` on."""
    if not ours or not theirs:
        return []
    step = math.ceil(math.sqrt(ours[0].size / MATCHED_PIXELS))
    a, b = (np.stack([m[::step, ::step].ravel() for m in masks]).astype(np.float32) for masks in (ours, theirs))
    shared = a @ b.T
    overlap = shared / np.maximum(a.sum(1)[:, None] + b.sum(1) - shared, 1)
    pairs = zip(*linear_sum_assignment(overlap, maximize=True), strict=True)
    return [iou(ours[row], theirs[column]) for row, column in pairs if overlap[row, column] >= MATCHED]


HEADER = (
    f"{'model':<20}{'input':>6}{'points':>8}{'device':>7}{'dtype':>9}{'p50 ms':>9}{'network':>9}{'of it':>7}"
    f"{'masks':>7}{'peer':>7}"
)


def row(result: dict[str, Any]) -> str:
    """One case as a line under `HEADER`, with its thresholds and parts."""
    network = result["encode_seconds"] + result["decode_seconds"]
    side, peer = result["points_per_side"], result.get("peer")
    line = (
        f"{result['model']:<20}{result['input_wh'][0]:>6}{f'{side}x{side}':>8}{result['device']:>7}"
        f"{result['dtype']:>9}{1000 * result['seconds']['p50']:>9.0f}{1000 * network:>9.0f}"
        f"{result['of_network']:>6.2f}x{result['masks']:>7.0f}"
    )
    text = (
        f"  network: one encoding {1000 * result['encode_seconds']:.0f} ms, {math.ceil(side**2 / BATCH)} decodings "
        f"of up to {BATCH} clicks {1000 * result['decode_seconds']:.0f} ms; processor time of all "
        f"{result['cpu_of_network']:.2f}x\n"
        f"  masks of a predicted IoU above {result['least_quality']:.3g}, a stability of at least "
        f"{result['least_stability']:.3g}, IoU of boxes at most {result['most_box_overlap']:g}"
    )
    if peer is None:
        return f"{line}{'-':>7}\n{text}"
    beside = (
        f"  peer ({peer['dtype']}): p50 {1000 * peer['seconds']['p50']:.0f} ms, processor time "
        f"{peer['cpu_speedup']:.2f}x; {peer['matched']} masks matched, {peer['only_ours']} only ours, "
        f"{peer['only_theirs']} only the peer's"
    )
    if ious := peer["mask_iou"]:
        beside += f"; IoU {ious['mean']:.4f}, at least {ious['min']:.4f}"
    return f"{line}{peer['speedup']:>6.2f}x\n{text}\n{beside}"
