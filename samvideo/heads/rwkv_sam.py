"""The heads of RWKV-SAM (Yuan et al. 2024): SAM's with one mask, refined by the encoder's fine maps.

Counterpart: HarborYuan/ovsam: projects/rwkvsam.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samvideo.errors import ConfigError
from samvideo.heads.masks import MaskDecoder
from samvideo.heads.prompt_encoder import PromptEncoder
from samvideo.nn.norm import LayerNorm2d

KIND = "heads"


@dataclass(frozen=True)
class RwkvSamHeadsConfig:
    """Options of the heads.

    Attributes:
        fine_widths: channels of the encoder's fine maps, which are needed.
        middle: channels inside of what refines the masks.
    """

    fine_widths: tuple[int, int] | None = None
    middle: int = 64


VARIANTS = {"rwkv-sam": RwkvSamHeadsConfig()}


class RwkvSamDecoder(MaskDecoder):
    """Proposes one mask; of the four output tokens in the checkpoint, only the first takes part.

    Args:
        fine_widths: channels of the stride-4 and stride-8 maps.
        middle: channels inside of what refines the masks.
        width: channels of image and tokens.
    """

    def __init__(self, fine_widths: tuple[int, int], middle: int, width: int = 256) -> None:
        super().__init__(None, width, object_score=False)
        self.output_hypernetworks_mlps = self.output_hypernetworks_mlps[:1]
        quarter, eighth = fine_widths
        upscaled = width // 8
        self.hr_feat_proj = _refine(nn.Conv2d(quarter, middle, 3, padding=1), upscaled)
        self.mr_feat_proj = _refine(nn.ConvTranspose2d(eighth, middle, 2, stride=2), upscaled)
        self.mix_feat_proj = _refine(nn.Conv2d(3 * upscaled, middle, 3, padding=1), upscaled)

    def published(self, own: str) -> str:
        """See `MaskDecoder.published`."""
        return own if "_feat_proj." in own else f"mask_decoder.{super().published(own)}"

    def project(self, fine: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Both fine maps at stride 4 in the decoder's width; once per frame."""
        quarter, eighth = fine
        return self.hr_feat_proj(quarter), self.mr_feat_proj(eighth)

    def _upscale(self, image: Tensor, fine: Sequence[Tensor]) -> Tensor:
        upscaled: Tensor = self.output_upscaling(image)
        maps = [x.expand(len(upscaled), -1, -1, -1) for x in reversed(fine)]  # published order: coarse to fine
        out: Tensor = upscaled + self.mix_feat_proj(torch.cat([upscaled, *maps], 1))
        return out


def _refine(first: nn.Conv2d | nn.ConvTranspose2d, outputs: int) -> nn.Sequential:
    """A convolution, a norm over channels, GELU, a 3x3 convolution."""
    middle = first.out_channels
    return nn.Sequential(first, LayerNorm2d(middle), nn.GELU(), nn.Conv2d(middle, outputs, 3, padding=1))


def build(config: RwkvSamHeadsConfig) -> tuple[PromptEncoder, MaskDecoder]:
    """Prompt encoder and mask decoder with untrained weights.

    Raises:
        ConfigError: the encoder has no fine maps.
    """
    if config.fine_widths is None:
        raise ConfigError("the heads 'rwkv-sam' need an encoder with fine maps, such as 'rwkv-small'")
    return PromptEncoder(padding="without box"), RwkvSamDecoder(config.fine_widths, config.middle)
