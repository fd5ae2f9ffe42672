"""Two-way mask decoder (Kirillov et al. 2023; high-resolution features and object score: Ravi et al. 2024).

Counterparts: facebookresearch/sam2: sam2/modeling/sam/transformer.py and mask_decoder.py.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.nn.attention import Attention
from samvideo.nn.mlp import Mlp
from samvideo.nn.norm import LayerNorm2d
from samvideo.tensors import MaskCandidates
from samvideo.weights.keys import SAM_MLP, renamed

STABILITY_DELTA = 0.05
STABILITY_THRESHOLD = 0.98


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves and to the image, then the image to the tokens.

    Args:
        width: channels of tokens and image.
        heads: of all attention.
        hidden: channels inside of the MLP.
        first: whether no block comes before.
        eps: of the norms.
        residual: EfficientSAM's rules: a residual in the first block, too; in the others, the position code of the
            tokens is added for good, and values have it as well.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, first: bool, eps: float = 1e-5, residual: bool = False
    ) -> None:
        super().__init__()
        self.first = first
        self.residual = residual
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width, eps)
        self.cross_attn_token_to_image = Attention(width, heads, inner=width // 2)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, hidden, width)
        self.norm3 = nn.LayerNorm(width, eps)
        self.norm4 = nn.LayerNorm(width, eps)
        self.cross_attn_image_to_token = Attention(width, heads, inner=width // 2)

    def forward(
        self, tokens: Tensor, image: Tensor, token_code: Tensor, image_code: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, T, C) tokens and (B, N, C) image, each with its position code."""
        if self.residual:
            tokens = tokens if self.first else tokens + token_code
            tokens = tokens + self.self_attn(tokens, tokens, tokens)
        elif self.first:  # the first block's tokens are nothing but code
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            coded = tokens + token_code
            tokens = tokens + self.self_attn(coded, coded, tokens)
        tokens = self.norm1(tokens)
        coded_image = image + image_code
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_code, coded_image, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(coded_image, tokens + token_code, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Two blocks and a last look of the tokens at the image."""

    def __init__(
        self,
        width: int,
        heads: int = 8,
        hidden: int = 2048,
        depth: int = 2,
        eps: float = 1e-5,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(width, heads, hidden, i == 0, eps, residual) for i in range(depth))
        self.final_attn_token_to_image = Attention(width, heads, inner=width // 2)
        self.norm_final_attn = nn.LayerNorm(width, eps)

    def forward(self, image: Tensor, image_code: Tensor, token_code: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C) image and its code, (B, T, C) tokens; returns tokens and image."""
        tokens = token_code
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_code, image_code)
        look = self.final_attn_token_to_image(tokens + token_code, image + image_code, image)
        return self.norm_final_attn(tokens + look), image


class MaskDecoder(nn.Module):
    """Predicts one mask and three alternatives, their quality and, in SAM 2, whether the object is there at all.

    Args:
        fine_widths: channels of the stride-4 and stride-8 maps, if these are used.
        width: channels of image and tokens.
        object_score: whether there is a token and head for the object's presence; SAM 2's also bound the quality
            by a sigmoid.
        eps: of the transformer's norms.
        residual: rule of the transformer's blocks, see `TwoWayBlock`.
    """

    def __init__(
        self,
        fine_widths: tuple[int, int] | None = None,
        width: int = 256,
        *,
        object_score: bool = True,
        eps: float = 1e-5,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.object_score = object_score
        self.projected_widths = None if fine_widths is None else (width // 8, width // 4)
        self.transformer = TwoWayTransformer(width, hidden=8 * width, eps=eps, residual=residual)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(4, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, stride=2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, stride=2),
            nn.GELU(),
        )
        if fine_widths is not None:
            self.conv_s0: nn.Module = nn.Conv2d(fine_widths[0], width // 8, 1)
            self.conv_s1: nn.Module = nn.Conv2d(fine_widths[1], width // 4, 1)
        self.output_hypernetworks_mlps = nn.ModuleList(Mlp(width, width, width, width // 8) for _ in range(4))
        self.iou_prediction_head = Mlp(width, width, width, 4)
        if object_score:
            self.obj_score_token = nn.Embedding(1, width)
            self.pred_obj_score_head = Mlp(width, width, width, 1)

    def published(self, own: str) -> str:
        """Name in the published checkpoint, without prefix, of an entry of the state dict."""
        if self.object_score:
            return own
        return renamed(own, SAM_MLP)

    def fine_convs(self) -> list[nn.Conv2d]:
        """What `project` does, finest first; nothing once it has been taken over by the encoder."""
        own = [getattr(self, name, None) for name in ("conv_s0", "conv_s1")]
        return [conv for conv in own if isinstance(conv, nn.Conv2d)]

    def hand_over_fine(self) -> None:
        """From now on, the fine maps come in the decoder's widths."""
        self.conv_s0 = self.conv_s1 = nn.Identity()

    def project(self, fine: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The encoder's fine maps (finest first) in the decoder's widths; once per frame."""
        if not fine:
            return ()
        quarter, eighth = fine
        return self.conv_s0(quarter), self.conv_s1(eighth)

    def forward(self, image: Tensor, image_code: Tensor, points: Tensor, fine: Sequence[Tensor]) -> MaskCandidates:
        """Propose four masks for each of B objects, or one where there is one hypernetwork.

        Args:
            image: (B, C, H, W) conditioned features plus dense prompt.
            image_code: (1, C, H, W).
            points: (B, T, C) prompt tokens.
            fine: what `project` returned.
        """
        batch, _, height, width = image.shape
        count = len(self.output_hypernetworks_mlps)
        own = [self.iou_token.weight, self.mask_tokens.weight[:count]]
        if self.object_score:
            own.insert(0, self.obj_score_token.weight)
        tokens = torch.cat([torch.cat(own).expand(batch, -1, -1), points], 1)
        tokens, flat = self.transformer(
            image.flatten(2).transpose(1, 2), image_code.flatten(2).transpose(1, 2), tokens
        )
        upscaled = self._upscale(flat.transpose(1, 2).reshape(batch, -1, height, width), fine)
        first = len(own) - 2
        outputs = tokens[:, first + 1 : first + 1 + count]
        weights = torch.stack([mlp(outputs[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], 1)
        masks = torch.einsum("bmc,bchw->bmhw", weights, upscaled).float()
        quality = self.iou_prediction_head(tokens[:, first]).float()[:, :count]
        if not self.object_score:
            return MaskCandidates(masks, quality, outputs, quality.new_full((batch,), torch.inf))
        presence = self.pred_obj_score_head(tokens[:, 0]).float()[:, 0]
        return MaskCandidates(masks, quality.sigmoid(), outputs, presence)

    def _upscale(self, image: Tensor, fine: Sequence[Tensor]) -> Tensor:
        if not fine:
            out: Tensor = self.output_upscaling(image)
            return out
        grow1, norm, activate, grow2, last = self.output_upscaling
        quarter, eighth = fine
        upscaled: Tensor = last(grow2(activate(norm(grow1(image) + eighth))) + quarter)
        return upscaled


def best_alternative(candidates: MaskCandidates) -> Tensor:
    """(B,) which of the three alternatives has the highest predicted IoU, as an index of all four candidates."""
    return 1 + candidates.quality_bn[:, 1:].argmax(1)


def single_if_stable(candidates: MaskCandidates) -> Tensor:
    """(B,) index of the mask for unambiguous prompts: the first, or the best alternative where it is unstable."""
    best = best_alternative(candidates)
    stable = stability(candidates.logits_bnhw[:, 0]) >= STABILITY_THRESHOLD
    return torch.where(stable, torch.zeros_like(best), best)


def stability(logits: Tensor, delta: float = STABILITY_DELTA) -> Tensor:
    """(B, H, W) logits to (B,): how little the mask's area changes when its threshold moves by +-`delta`."""
    inner = (logits > delta).flatten(1).sum(1).float()
    outer = (logits > -delta).flatten(1).sum(1).float()
    return torch.where(outer > 0, inner / outer.clamp(min=1), torch.ones_like(inner))


def upsample(logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Bilinear resize of (B, 1, h, w) logits."""
    return F.interpolate(logits, size=size_hw, mode="bilinear", align_corners=False)
