"""What a video model of the SAM 2 family is trained on: objects propagated through a clip from simulated prompts.

Source: Ravi et al. 2024, SAM 2, appendix D: shares of the prompts, corrective clicks, losses and their weights.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from samvideo.heads.masks import upsample
from samvideo.memory.bank import MemoryBank
from samvideo.memory.base import MemoryEntry
from samvideo.models import VideoModel
from samvideo.tensors import Features, MaskPrediction, PromptTensors
from samvideo.torch_runtime import CLAMP
from samvideo.training.candidates import MaskWeights, chosen_losses
from samvideo.training.prompting import STRIDE, box_prompts, click_prompts, corrected

T = TypeVar("T")
Losses = dict[str, Tensor]


@dataclass(frozen=True)
class PromptRule:
    """How the objects of a clip are prompted.

    Attributes:
        mask, box: shares of clips whose objects are given by their mask or by a box; by a click in the others.
        frames: at most so many frames are prompted, the first always.
        again: probability that prompts, but masks, are corrected.
        clicks: corrective clicks then, each where the answer errs.
    """

    mask: float = 0.5
    box: float = 0.25
    frames: int = 2
    again: float = 0.5
    clicks: int = 7


class ClipMemory:
    """A model with the memories of the objects of a clip, as its policy keeps them.

    Args:
        model: in evaluation mode; gradients flow through its memory.
        count: number of objects.
        saving: keep no activations of memory attention, and of the encoder if it learns: they are computed again
            for gradients.
    """

    def __init__(self, model: VideoModel, count: int, *, saving: bool = False) -> None:
        self.model, self.saving = model, saving
        self._encoder_learns = any(parameter.requires_grad for parameter in model.encoder.parameters())
        self.banks = [MemoryBank(model.policy) for _ in range(count)]

    def encode(self, frame_chw: Tensor) -> Features:
        """Features of a normalised frame."""
        return self._called(self.saving and self._encoder_learns, self.model.encode, frame_chw[None])

    def embedding(self, features: Features, index: int) -> Tensor:
        """(O, 256, h, w): the features conditioned on the memory of each object on frame `index`."""
        memories = [bank.recall(index) for bank in self.banks]
        return self._called(self.saving, self.model.attend_to_memory, features, memories)

    def remember(self, features: Features, index: int, prediction: MaskPrediction, *, prompted: bool) -> None:
        """Add the frame to the memory of each object."""
        binarise = torch.full((len(self.banks),), prompted, device=self.model.device)
        tokens = self.model.encode_memory(features, prediction, binarise)
        for row, bank in enumerate(self.banks):
            bank.insert(MemoryEntry(index, prompted, tokens.row(row), prediction.pointer[row : row + 1]))

    def _called(self, again: bool, call: Callable[..., T], *arguments: object) -> T:
        """The result; with `again`, its activations are computed once more for gradients."""
        device = self.model.device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            if not again:
                return call(*arguments)
            out: T = checkpoint(call, *arguments, use_reentrant=False)
            return out


def clip_losses(
    model: VideoModel,
    frames: Tensor,
    masks: Tensor,
    rule: PromptRule,
    weights: MaskWeights,
    *,
    saving: bool = False,
) -> Losses:
    """Losses and measurements by name, as means over the frames that the model answers, and their corrections.

    Args:
        model: in evaluation mode.
        frames: normalised, (T, 3, H, W), at least two.
        masks: (O, T, H, W) of 0 and 1, each object on the first frame.
        rule: how they are prompted; what is random about it comes from torch's own generator.
        weights: of the losses.
        saving: see `ClipMemory`.
    """
    length, memory = len(frames), ClipMemory(model, len(masks), saving=saving)
    truth = F.avg_pool2d(masks, STRIDE)
    kind, again = torch.rand(2).tolist()
    clicks = rule.clicks if again < rule.again else 0
    count = int(torch.randint(1, 1 + max(1, min(rule.frames, length - 1)), ()))
    prompted = {0, *(1 + torch.randperm(length - 1)[: count - 1]).tolist()}
    found: list[Losses] = []
    for index in range(length):
        features, target = memory.encode(frames[index]), truth[:, index]
        given = index in prompted and bool((target.amax((1, 2)) > 0.5).all())
        if given and kind < rule.mask:
            prediction = model.use_mask_as_output(features, masks[:, index, None])
        else:
            embedding, prompts = memory.embedding(features, index), None
            if given:
                prompts = (box_prompts if kind < rule.mask + rule.box else click_prompts)(target)
            prediction, losses = _answered(model, features, embedding, prompts, target, weights, clicks * given)
            found += losses
        memory.remember(features, index, prediction, prompted=given)
    return {name: torch.stack([losses[name] for losses in found]).mean() for name in found[0]}


def _answered(
    model: VideoModel,
    features: Features,
    embedding: Tensor,
    prompts: PromptTensors | None,
    truth: Tensor,
    weights: MaskWeights,
    clicks: int,
) -> tuple[MaskPrediction, list[Losses]]:
    """The answer to prompts, or without them to memory, after some corrective clicks; losses of each round."""
    found: list[Losses] = []
    earlier: Tensor | None = None
    while True:
        ambiguous = model.is_ambiguous(prompts, earlier)
        candidates = model.decode(features, embedding, prompts, earlier)
        offered, quality = candidates.logits_bnhw, candidates.quality_bn
        kept = slice(1, None) if ambiguous and quality.shape[1] > 1 else slice(0, 1)
        logits, losses = chosen_losses(offered[:, kept], quality[:, kept], truth, weights)
        there = (truth.amax((1, 2)) > 0.5).float()
        presence = F.binary_cross_entropy_with_logits(candidates.presence_b, there)
        found.append(losses | {"presence": weights.presence * presence})
        if prompts is None or len(found) > clicks:
            return model.choose(candidates, *model.default_choice(candidates, ambiguous)), found
        prompts, earlier = corrected(prompts, logits, truth), logits[:, None].clamp(-CLAMP, CLAMP)


@torch.no_grad()
def propagated(model: VideoModel, frames: Tensor, masks: Tensor) -> Iterator[Tensor]:
    """Masks, bool (O, H, W), of every frame but the first, on which the objects' own are given.

    Args:
        model: in evaluation mode.
        frames: normalised, (T, 3, H, W).
        masks: (O, H, W) of 0 and 1 on the first frame.
    """
    memory = ClipMemory(model, len(masks))
    for index, frame in enumerate(frames):
        features = memory.encode(frame)
        if index == 0:
            prediction = model.use_mask_as_output(features, masks[:, None])
        else:
            candidates = model.decode(features, memory.embedding(features, index))
            prediction = model.choose(candidates, *model.default_choice(candidates, model.is_ambiguous(None)))
            yield upsample(prediction.logits, (frame.shape[-2], frame.shape[-1]))[:, 0] > 0
        memory.remember(features, index, prediction, prompted=index == 0)
