"""RAP-SAM's decoder: queries that are updated from the pixels of their masks (Zhang et al. 2021, K-Net).

Counterparts: xushilin1/RAP-SAM: seg/models/heads/rapsam_head.py and seg/models/utils.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.nn.mlp import Mlp
from samvideo.nn.position import sine_box


class Stage(NamedTuple):
    """What one stage of the decoder says of B x N queries.

    Attributes:
        logits_bnhw: float32 (B, N, H / 4, W / 4) masks, positive inside.
        quality_bn: float32 (B, N) predicted IoU; may leave [0, 1].
        queries_bnc: (B, N, C).
        classes_bnk: float32 (B, N, K) class scores; None without class embeddings.
    """

    logits_bnhw: Tensor
    quality_bn: Tensor
    queries_bnc: Tensor
    classes_bnk: Tensor | None = None


class KernelUpdate(nn.Module):
    """Mixes queries with the features of their masks, by gates that both decide (K-Net, section 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dynamic_layer = nn.Linear(width, 2 * width)
        self.input_layer = nn.Linear(width, 2 * width)
        self.input_gate, self.update_gate, self.fc_layer = (nn.Linear(width, width) for _ in range(3))
        self.norm_in, self.norm_out, self.input_norm_in, self.input_norm_out, self.fc_norm = (
            nn.LayerNorm(width) for _ in range(5)
        )

    def forward(self, queries: Tensor, masks: Tensor, features: Tensor) -> Tensor:
        """(B, N, C) queries, their (B, N, H, W) mask logits and (B, C, H, W) features to (B, N, C)."""
        inside = (masks.sigmoid() > 0.5).to(features.dtype)
        read, update = self.dynamic_layer(inside.flatten(2) @ features.flatten(2).transpose(1, 2)).chunk(2, -1)
        own, keep = self.input_layer(queries).chunk(2, -1)
        both = read * own
        mixed = self.norm_in(self.update_gate(both)).sigmoid() * self.norm_out(update)
        mixed = mixed + self.input_norm_in(self.input_gate(both)).sigmoid() * self.input_norm_out(keep)
        return F.relu(self.fc_norm(self.fc_layer(mixed)))


def _normed(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width, bias=False), nn.LayerNorm(width), nn.ReLU())


def attend_all(attention: nn.MultiheadAttention, queries: Tensor, keys: Tensor) -> Tensor:
    """(B, N, C) queries over (B, M, C) keys, which are the values, too."""
    out: Tensor = attention(queries, keys, keys, need_weights=False)[0]
    return out


class DecoderStage(nn.Module):
    """Updates queries and predicts their masks, their quality and what their classes follow from.

    Args:
        width: of features and queries.
        class_width: of class embeddings.
        hidden: of the feed-forward network.
    """

    def __init__(self, width: int, class_width: int, hidden: int = 2048) -> None:
        super().__init__()
        self.kernel_update = KernelUpdate(width)
        self.s_atten = nn.MultiheadAttention(width, 8, batch_first=True)
        self.s_atten_norm = nn.LayerNorm(width)
        self.ffn = Mlp(width, hidden, width)
        self.ffn_norm = nn.LayerNorm(width)
        self.cls_fcs, self.mask_fcs = _normed(width), _normed(width)
        self.cls_proj = Mlp(width, width, width, class_width)
        self.fc_mask = nn.Linear(width, width)
        self.iou_embed = Mlp(width, width, width, 1)

    def forward(self, queries: Tensor, masks: Tensor, features: Tensor, alone: bool) -> Stage:
        """See `KernelUpdate.forward`. Queries that are `alone` do not attend to one another."""
        queries = self.kernel_update(queries, masks, features)
        groups = queries.flatten(0, 1)[:, None] if alone else queries
        groups = self.s_atten_norm(groups + attend_all(self.s_atten, groups, groups))
        queries = self.ffn_norm(groups + self.ffn(groups)).view(queries.shape)
        kernels = self.mask_fcs(queries)
        return Stage(masks_of(self.fc_mask(kernels), features), self.iou_embed(kernels)[..., 0].float(), queries)

    def class_code(self, queries: Tensor) -> Tensor:
        """(B, N, C) queries to (B, N, class_width), to be compared with class embeddings."""
        out: Tensor = self.cls_proj(self.cls_fcs(queries))
        return out


def masks_of(kernels: Tensor, features: Tensor) -> Tensor:
    """Mask logits: the products of (B, N, C) kernels and (B, C, H, W) features."""
    return torch.einsum("bnc,bchw->bnhw", kernels, features).float()


class RapSamDecoder(nn.Module):
    """Three stages for all tasks, and one more for either: objects and stuff of known classes, or prompts.

    Args:
        queries: learned ones, which find objects without prompts.
        stages: that both tasks share.
        width: of features and queries.
        class_width: of class embeddings.
        log_scale, temperature: of class scores; see `RapSamConfig`.
    """

    def __init__(
        self, queries: int, stages: int, width: int, class_width: int, *, log_scale: float, temperature: float
    ) -> None:
        super().__init__()
        self.temperature, self.log_scale = temperature, log_scale
        self.kernels = nn.Embedding(queries, width)
        self.mask_tokens = nn.Embedding(1, width)
        self.pb_embedding = nn.Embedding(2, width)
        self.pos_linear = nn.Linear(2 * width, width)
        self.mask_heads = nn.ModuleList(DecoderStage(width, class_width) for _ in range(stages))
        self.panoptic_attn = KernelUpdate(width)
        self.panoptic_cls = nn.Linear(width, class_width)
        self.prompt_attn = nn.MultiheadAttention(width, 8, batch_first=True)
        self.prompt_norm = nn.LayerNorm(width)
        self.prompt_iou = nn.Linear(width, 1)

    def prompted(self, features: Tensor, boxes: Tensor) -> list[Stage]:
        """Segment what boxes show; they have no influence on each other.

        Args:
            features: (1, C, H / 4, W / 4).
            boxes: (N, 4) x, y of the centre, width, height, as fractions of the image.

        Returns:
            The result of each stage; the last one is the answer.
        """
        code = self.pos_linear(sine_box(boxes, self.pos_linear.in_features // 4).to(features.dtype))
        queries = (code + self.pb_embedding.weight[1] + self.mask_tokens.weight)[None]
        results = self._shared(features, queries, alone=True)
        queries = results[-1].queries_bnc
        pixels = features.flatten(2).transpose(1, 2)
        queries = self.prompt_norm(queries + attend_all(self.prompt_attn, queries, pixels))
        return [*results, Stage(masks_of(queries, features), self.prompt_iou(queries)[..., 0].float(), queries)]

    def panoptic(self, features: Tensor, classes: Tensor) -> list[Stage]:
        """Find objects and stuff of known classes.

        Args:
            features: (B, C, H / 4, W / 4).
            classes: (class_width, K, names) unit vectors of the names of K classes; the last class is background.

        Returns:
            The result of each stage; the last one is the answer. Its predicted IoU is that of the stage before.
        """
        results = self._shared(features, self.kernels.weight.expand(len(features), -1, -1), alone=False)
        for index, (stage, result) in enumerate(zip(self.mask_heads, results, strict=True)):
            assert isinstance(stage, DecoderStage)
            scores = self._classify(stage.class_code(result.queries_bnc), classes) / self.temperature
            results[index] = result._replace(classes_bnk=scores)
        last = results[-1]
        queries = self.panoptic_attn(last.queries_bnc, last.logits_bnhw, features)
        scores = self._classify(self.panoptic_cls(queries), classes)
        return [*results, Stage(masks_of(queries, features), last.quality_bn, queries, scores)]

    def _shared(self, features: Tensor, queries: Tensor, alone: bool) -> list[Stage]:
        results: list[Stage] = []
        masks = masks_of(queries, features)
        for stage in self.mask_heads:
            results.append(stage(queries, masks, features, alone))
            masks, _, queries, _ = results[-1]
        return results

    def _classify(self, code: Tensor, classes: Tensor) -> Tensor:
        cosines = torch.einsum("bnc,ckp->bnkp", F.normalize(code.float(), dim=-1), classes)
        return cosines.amax(-1) * torch.exp(cosines.new_tensor(self.log_scale))
