"""What the bundled model is trained on: tracking through clips with its own predictions in memory, and prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.memory.base import CODE_ROWS
from samvideo.memory.ridge import LABELS
from samvideo.memory.target import TargetMemory
from samvideo.models import VideoModel
from samvideo.tensors import Features, MaskCandidates, MemoryContext, PromptTensors
from samvideo.training.losses import mask_loss, quality_loss, soft_iou
from samvideo.training.prompting import PAD, STRIDE, box_prompts, click_prompts, corrected, either, rough_logits
from samvideo.training.teacher import Teacher

PROMPTED, LAST = CODE_ROWS - 1, 0
"""Rows of the temporal code."""
BETWEEN = CODE_ROWS - 2
"""Frames that are recalled between the prompted one and the newest, at most."""
OBJECTS = 0.75
"""Objects that are tracked of a batch, as a share of its slots, some of which are empty."""
IMPRECISE = 0.12
"""Share of first masks that are wider, and of those that are narrower, than the object."""
SCORE_SCALE = 4.0
"""The target model is fitted to -1 and 1: times this, a perfect score is a logit of probability 0.98."""
AGAIN = 0.5
"""Share of single clicks that are answered again from their own answer, as in windows, instead of corrected."""
BOX, CLICK, FOCUS = range(3)
"""Kinds of prompts."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the parts of the loss beside the masks' own, which is 1.

    Attributes:
        target_model: cross-entropy of the target model's first score.
        presence: whether the object is there.
        quality: predicted against reached IoU.
        prompts: all of the prompts' losses.
        absent: the mask's loss on frames without the object, where presence decides.
        other: the single mask on an ambiguous prompt, and the alternatives on any other.
        spread: all alternatives, beside the best: none is left untrained.
    """

    target_model: float = 0.3
    presence: float = 0.3
    quality: float = 0.2
    prompts: float = 1.0
    absent: float = 0.3
    other: float = 0.3
    spread: float = 0.05


class Objective:
    """Computes losses of a model; all methods return them by name, as means over objects.

    Args:
        model: with a `TargetMemory` and the heads `nano`.
        weights: of the parts.
        teacher: answers the same prompts, or None.
    """

    def __init__(
        self, model: VideoModel, weights: LossWeights = LossWeights(), teacher: Teacher | None = None
    ) -> None:
        self.model, self.weights = model, weights
        self.teacher = teacher
        assert isinstance(model.memory, TargetMemory)
        self.memory = model.memory
        statistics = torch.tensor([model.spec.mean, model.spec.std], device=model.device)
        self.mean, self.std = statistics[:, None, :, None, None].unbind(0)

    def encode(self, frames_bchw: Tensor) -> Features:
        """Features of B frames in 0..1."""
        image = ((frames_bchw - self.mean) / self.std).to(memory_format=torch.channels_last)
        coarse, fine = self.model.encoder(image)
        features = Features(coarse, tuple(fine))
        return features._replace(self_attended=self.memory.self_attend(features))

    def tracking(self, frames: Tensor, masks: Tensor, rows: Tensor, codes: Sequence[Tensor]) -> dict[str, Tensor]:
        """Track objects through clips from their masks on the first frame.

        Args:
            frames: (B, T, 3, S, S) in 0..1.
            masks: (B, O, T, S, S) of 0 and 1.
            rows: (K, 2) clip and slot of the objects to track, see `some_objects`.
            codes: of every frame but the first, see `recall_codes`.
        """
        length = frames.shape[1]
        all_features = self.encode(frames.flatten(0, 1))
        truth = F.avg_pool2d(masks[rows[:, 0], rows[:, 1]], STRIDE)
        at = [_select(all_features, rows[:, 0] * length + t) for t in range(length)]
        remembered = [self.memory.write(at[0], _imprecise(truth[:, :1]), torch.ones_like(rows[:, 0]) > 0)]
        parts: list[dict[str, Tensor]] = []
        for t in range(1, length):
            places, code_rows = codes[t - 1]
            tokens = torch.stack(remembered, 1).index_select(1, places)
            position = self.memory.frame_codes[code_rows, 0, 0][None, :, None].expand(len(rows), -1, -1, -1)
            none = tokens.new_zeros(len(rows), 0, 1)
            reads = self.memory.read(at[t], MemoryContext(tokens, position, 0, at[t].grid, none, none))
            candidates = self.model.decode(at[t], self.memory.condition(at[t], reads))
            parts.append(self._tracking_losses(candidates, reads, truth[:, t]))
            present = candidates.presence_b > 0
            probability = candidates.logits_bnhw[:, :1].sigmoid().detach() * present[:, None, None, None]
            remembered.append(self.memory.write(at[t], probability, present))
        return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}

    def clip(self, frames: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Track the objects of one clip: normalised frames (T, 3, H, W), and masks (O, T, H, W) of 0 and 1."""
        objects = torch.arange(len(masks), device=frames.device)
        rows = torch.stack([torch.zeros_like(objects), objects], 1)
        codes = recall_codes(len(frames), frames.device, torch.default_generator)
        return self.tracking((frames * self.std + self.mean)[None], masks[None], rows, codes)

    def _tracking_losses(
        self, candidates: MaskCandidates, reads: Sequence[Tensor], truth: Tensor
    ) -> dict[str, Tensor]:
        """Of one frame; `truth` is (K, h, w) at stride 4. Masks and quality count where the object is there."""
        there = truth.amax((1, 2)) > 0.5
        count = there.sum().clamp(min=1)
        logits = candidates.logits_bnhw[:, 0]
        iou = soft_iou(logits, truth)
        losses = mask_loss(logits, truth)
        target = sum(self._target_loss(scores, truth) for scores in reads[:-1])
        presence = F.binary_cross_entropy_with_logits(candidates.presence_b, there.float(), reduction="none")
        return {
            "mask": (losses * there).sum() / count + self.weights.absent * (losses * ~there).mean(),
            "target model": self.weights.target_model * (target * there).sum() / count,
            "presence": self.weights.presence * presence.mean(),
            "quality": self.weights.quality
            * (quality_loss(candidates.quality_bn[:, 0], iou) * there).sum()
            / count,
            "iou": (iou * there).sum().detach() / count,
            "presence accuracy": ((candidates.presence_b > 0) == there).float().mean().detach(),
        }

    def _target_loss(self, scores: Tensor, truth: Tensor) -> Tensor:
        """(K,) loss of a target model's first score, which was fitted to -1 and 1."""
        cell = round((scores.shape[1] / LABELS) ** 0.5)
        first = F.pixel_shuffle(scores[:, ::LABELS], cell)[:, 0]
        height, width = first.shape[-2:]
        pooled = F.adaptive_avg_pool2d(truth[:, None], (height, width))[:, 0]
        return F.binary_cross_entropy_with_logits(SCORE_SCALE * first, pooled, reduction="none").mean((1, 2))

    def prompted(self, frames: Tensor, masks: Tensor, kind: Tensor) -> dict[str, Tensor]:
        """Segment objects from prompts, then again with the answer, most with a click that corrects it.

        Args:
            frames: (B, 3, S, S) in 0..1.
            masks: (B, S, S) of 0 and 1.
            kind: (B,) BOX, CLICK (ambiguous: three alternatives) or FOCUS (a click, and an imperfect earlier mask).
        """
        features = self.encode(frames)
        truth = F.avg_pool2d(masks[:, None], STRIDE)[:, 0]
        prompts = either(kind == BOX, box_prompts(truth), click_prompts(truth))
        ambiguous, focus = kind == CLICK, kind == FOCUS
        embedding = self.memory.without_memory(features)
        target, lesson = truth, dict[str, Tensor]()
        if self.teacher is not None:
            target, lesson = self.teacher.teach(frames, features.coarse, prompts, kind == BOX, truth)
        rough = rough_logits(truth)
        logits, first = self._answer(features, embedding, prompts, rough, focus, truth, target, ambiguous)
        again = ambiguous & (torch.rand(len(kind), device=kind.device) < AGAIN)
        xy, labels = corrected(prompts, logits, truth)
        added = torch.arange(labels.shape[1], device=kind.device) == labels.shape[1] - 1
        further = PromptTensors(xy, labels.masked_fill(again[:, None] & added, PAD))
        everything, before = torch.ones_like(focus), logits[:, None]
        _, second = self._answer(features, embedding, further, before, everything, truth, target, again)
        return {
            "prompt": self.weights.prompts * (first["mask"] + 0.5 * second["mask"]),
            "prompt quality": self.weights.quality * (first["quality"] + second["quality"]),
            "box iou": _mean(first["ious"], kind == BOX),
            "click iou": _mean(first["ious"], ambiguous),
            "corrected iou": second["ious"].mean(),
            **lesson,
        }

    def _answer(
        self,
        features: Features,
        embedding: Tensor,
        prompts: PromptTensors,
        earlier: Tensor,
        has_earlier: Tensor,
        truth: Tensor,
        target: Tensor,
        ambiguous: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits of the answer, detached, and losses; of the alternatives, the best is trained, as in SAM.

        Masks learn from `target`, which may be soft, quality from `truth`.
        """
        dense = self.model.prompts.dense(earlier, features.grid) * has_earlier[:, None, None, None]
        candidates = self.model.decode(features, embedding + dense, prompts)
        all_logits = candidates.logits_bnhw
        count = all_logits.shape[1]
        losses = mask_loss(all_logits.flatten(0, 1), target.repeat_interleave(count, 0)).view(-1, count)
        ious = soft_iou(all_logits.flatten(0, 1), truth.repeat_interleave(count, 0)).view(-1, count)
        alternatives = losses[:, 1:]
        best = alternatives.min(1).values + self.weights.spread * alternatives.mean(1)
        other = self.weights.other
        mask = torch.where(ambiguous, other * losses[:, 0] + best, losses[:, 0] + other * best)
        quality = quality_loss(candidates.quality_bn, ious).mean(1)
        chosen = torch.where(ambiguous, 1 + candidates.quality_bn[:, 1:].argmax(1), 0)
        rows = torch.arange(len(chosen), device=chosen.device)
        return all_logits[rows, chosen].detach(), {
            "mask": mask.mean(),
            "quality": quality.mean(),
            "ious": ious[rows, chosen].detach(),
        }


def _select(features: Features, rows: Tensor) -> Features:
    assert features.self_attended is not None
    coarse, *fine, attended = (
        x.index_select(0, rows) for x in (features.coarse, *features.fine, features.self_attended)
    )
    return Features(coarse, tuple(fine), attended)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def some_objects(known: Tensor, generator: torch.Generator) -> Tensor:
    """(K, 2) clip and slot of objects of a batch, bool (B, O); K is always the same, repeating some if need be."""
    rows, count = known.nonzero(), max(1, round(OBJECTS * known.numel()))
    order = torch.randperm(len(rows), generator=generator).to(rows.device)
    return rows[order.repeat(1 + count // len(rows))[:count]]


def recall_codes(length: int, device: torch.device, generator: torch.Generator) -> list[Tensor]:
    """What is recalled on each frame but the first: (2, N) places of frames, and their rows of the temporal code.

    These are the prompted frame, those between and the newest, `CODE_ROWS` at most: of more, some are chosen at
    random. In use, the frames between are several steps apart: each gets a row at random, in their order.
    """
    codes = [torch.tensor([[0], [PROMPTED]])]
    for newest in range(1, length - 1):
        rows = 1 + torch.randperm(BETWEEN, generator=generator)[: newest - 1].sort(descending=True).values
        places = torch.arange(1, newest)
        if len(places) > BETWEEN:
            places = places[torch.randperm(len(places), generator=generator)[:BETWEEN].sort().values]
        first, last = torch.tensor([[0], [PROMPTED]]), torch.tensor([[newest], [LAST]])
        codes.append(torch.cat([first, torch.stack([places, rows]), last], 1))
    return [recalled.to(device) for recalled in codes]


def _imprecise(mask: Tensor) -> Tensor:
    """First masks as users and segmenters give them: some are a little wider or narrower."""
    grown, shrunk = F.max_pool2d(mask, 3, 1, 1), 1 - F.max_pool2d(1 - mask, 3, 1, 1)
    draw = torch.rand(len(mask), 1, 1, 1, device=mask.device)
    out = torch.where(draw < IMPRECISE, grown, torch.where(draw < 2 * IMPRECISE, shrunk, mask))
    return torch.where(shrunk.amax((2, 3), keepdim=True) > 0, out, mask)
