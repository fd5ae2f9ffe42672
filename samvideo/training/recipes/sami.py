"""Masked pre-training with the features of a SAM as targets (SAMI): what is hidden is reconstructed from the rest.

Sources: Xiong et al. 2023, EfficientSAM; EfficientTAM (Xiong et al. 2024) begins so, too.
Differences: encoders here may have windows and convolutions, which need whole maps, so hidden cells are filled with
the mean colour instead of left out, as in SimMIM (Xie et al. 2022); and the last steps see whole pictures, so that
the encoder is of use without the decoder.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samvideo.encoders.base import WIDTH
from samvideo.errors import ConfigError
from samvideo.image_model import ImageModel
from samvideo.nn.attention import Attention
from samvideo.nn.mlp import Mlp
from samvideo.nn.position import sine_grid
from samvideo.training.distil_recipe import (
    Lesson,
    Recipe,
    RecipeConfig,
    check_range,
    encoded,
    feature_loss,
    features_loss,
    train_only,
)


@dataclass(frozen=True)
class SamiConfig(RecipeConfig):
    """Masks and the light decoder.

    Attributes:
        hidden: share of the cells of the encoder's map that are hidden.
        depth, heads: blocks of the decoder, and attention heads in each.
        whole: share of the steps at the end in which nothing is hidden.
    """

    hidden: float = 0.75
    depth: int = 2
    heads: int = 8
    whole: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("hidden", "whole"), 0, 1)
        check_range(self, ("depth", "heads"), 1)
        if WIDTH % self.heads:
            raise ConfigError(
                f"option 'heads' of a recipe is {self.heads}: a divisor of {WIDTH} channels expected, such as 8"
            )

    def build(self, student: ImageModel, teacher: ImageModel) -> "SamiRecipe":
        """See `RecipeConfig.build`."""
        return SamiRecipe(student, teacher, self)


class CrossDecoder(nn.Module):
    """Makes tokens of hidden cells from those of visible ones, by cross-attention alone.

    Args:
        depth: number of blocks.
        heads: of the attention.
    """

    def __init__(self, depth: int, heads: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(WIDTH))
        self.attentions = nn.ModuleList(Attention(WIDTH, heads) for _ in range(depth))
        self.mlps = nn.ModuleList(Mlp(WIDTH, 2 * WIDTH, WIDTH) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2 * depth))

    def forward(self, visible: Tensor, visible_code: Tensor, hidden_code: Tensor) -> Tensor:
        """(B, M, C) tokens at hidden places, from (B, N, C) visible ones; both with codes of their places."""
        x = self.token + hidden_code
        for k, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            x = x + attention(self.norms[2 * k](x), visible + visible_code, visible)
            x = x + mlp(self.norms[2 * k + 1](x))
        return x


def filled(tokens: Tensor, rebuilt: Tensor, hidden: Tensor) -> Tensor:
    """(B, N, C) tokens with (B, M, C) others in the (B, M) hidden places."""
    return tokens.scatter(1, hidden[..., None].expand_as(rebuilt), rebuilt)


class SamiRecipe(Recipe):
    """The encoder learns, and a decoder beside it, which is left out of the result."""

    def __init__(self, student: ImageModel, teacher: ImageModel, config: SamiConfig) -> None:
        super().__init__(student, teacher)
        self.config = config
        train_only(student, "encoder")
        self.aids["decoder"] = CrossDecoder(config.depth, config.heads)

    def losses(self, lesson: Lesson) -> dict[str, Tensor]:
        """See `Recipe.losses`."""
        if lesson.progress >= 1 - self.config.whole:
            return {"features": features_loss(encoded(self.student, lesson.pictures), lesson.features)}
        stride = self.student.encoder.stride
        height, width = (size // stride for size in lesson.pictures.shape[-2:])
        count, batch = height * width, len(lesson.pictures)
        cells = torch.rand(batch, count, device=lesson.pictures.device).argsort(1)
        number = min(max(round(self.config.hidden * count), 1), count - 1)
        hidden, visible = cells[:, :number], cells[:, number:]
        covered = torch.zeros_like(cells, dtype=torch.float).scatter(1, hidden, 1.0).view(batch, 1, height, width)
        covered = covered.repeat_interleave(stride, 2).repeat_interleave(stride, 3)
        mean = torch.tensor(self.student.spec.mean, device=covered.device)[:, None, None]
        coarse = encoded(self.student, torch.lerp(lesson.pictures, mean.expand_as(lesson.pictures), covered)).coarse
        tokens = coarse.flatten(2).transpose(1, 2)
        code = sine_grid((height, width), WIDTH, tokens.device, tokens.dtype)
        code = code.flatten(2).transpose(1, 2).expand_as(tokens)
        rebuilt = self.aids["decoder"](_at(tokens, visible), _at(code, visible), _at(code, hidden))
        whole = filled(tokens, rebuilt, hidden).transpose(1, 2).reshape(coarse.shape)
        return {"reconstruction": feature_loss(whole, lesson.features.coarse)}


def _at(tokens: Tensor, places: Tensor) -> Tensor:
    """(B, M, C), the tokens (B, N, C) at places (B, M)."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))


VARIANTS = {"sami": SamiConfig()}
