"""SqueezeSAM (Varadarajan et al. 2023): a U-Net that gets the prompts as channels of its input.

Counterpart: yformer/EfficientSAM at commit 3477a43: squeeze_sam/.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.heads.masks import TwoWayTransformer
from samvideo.networks.base import Network
from samvideo.nn.mlp import Mlp
from samvideo.tensors import PromptTensors
from samvideo.weights.keys import renamed

KIND = "network"
CLICK_RADIUS = 5
"""Of the disc that stands for a click, in pixels of the input, as published."""
PUBLISHED_NAMES = (
    (r"^stem\.", "patch_embed.proj."),
    (r"^down\.0\.", "unet_encoder.down_layers.0.double_conv."),
    (r"^down\.(\d)\.", r"unet_encoder.down_layers.\1.maxpool_conv.1.double_conv."),
    (r"^up\.(\d)\.linear\.", r"unet_decoder.unet_upscaling_layers.\1.up.upsampler_linear.0."),
    (r"^up\.(\d)\.norm\.", r"unet_decoder.unet_upscaling_layers.\1.up.norm."),
    (r"^up\.(\d)\.convs\.", r"unet_decoder.unet_upscaling_layers.\1.conv.double_conv."),
    (r"\.conv\.(weight|bias)$", r".conv.0.\1"),
    (r"^(transformer|iou_token|mask_tokens)\.", r"get_iou_predictions_and_mask_tokens.\1."),
    (r"^(output_hypernetworks_mlps|iou_prediction_head)\.", r"mask_decoder.\1."),
    (r"(mask_decoder\..*)layers\.2\.", r"\1fc."),
    (r"(\.mlp\.)layers\.1\.", r"\1fc."),
    (r"(\.mlp\.|mask_decoder\..*)layers\.(\d)\.", r"\1layers.\2.0."),
)


@dataclass(frozen=True)
class SqueezeSamConfig:
    """Sizes of the U-Net.

    Attributes:
        widths: channels of its levels; each has half the resolution of the one before.
        heads: of the attention between the output tokens and the lowest level.
    """

    widths: tuple[int, ...] = (64, 128, 128, 128, 128, 164, 256, 256)
    heads: int = 8


VARIANTS = {"squeeze-sam": SqueezeSamConfig()}


class _Conv(nn.Module):
    """3x3 convolution, ReLU, batch norm: in this order."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(F.relu(self.conv(x)))
        return out


def _two_convs(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(_Conv(channels, out), _Conv(out, out))


class _Up(nn.Module):
    """Doubles the resolution by a linear layer to blocks of 2x2 pixels, and joins the level above."""

    def __init__(self, channels: int, skip: int) -> None:
        super().__init__()
        half = channels // 2
        self.linear = nn.Linear(channels, 4 * half)
        self.norm = nn.BatchNorm2d(4 * half)
        self.convs = _two_convs(skip + half, skip)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        grown = F.relu(self.linear(x.movedim(1, -1))).movedim(-1, 1)
        out: Tensor = self.convs(torch.cat([skip, F.pixel_shuffle(self.norm(grown), 2)], 1))
        return out


class SqueezeSam(Network):
    """Encodes image and prompts together: every prompt is a pass through the whole network.

    Attributes:
        step: input height and width must be multiples of this.
    """

    def __init__(self, config: SqueezeSamConfig) -> None:
        super().__init__()
        widths = config.widths
        first, bottom = widths[0], widths[-1]
        self.step = 2 ** len(widths)
        self.stem = nn.Sequential(nn.Conv2d(5, first, 2, stride=2), nn.GroupNorm(1, first))
        self.down = nn.ModuleList(_two_convs(a, b) for a, b in pairwise((first, *widths)))
        self.up = nn.ModuleList(_Up(a, b) for a, b in pairwise(reversed(widths)))
        self.transformer = TwoWayTransformer(bottom, config.heads, hidden=bottom, residual=True)
        self.iou_token = nn.Embedding(1, bottom)
        self.mask_tokens = nn.Embedding(4, bottom)
        self.output_hypernetworks_mlps = nn.ModuleList(Mlp(bottom, bottom, bottom, first) for _ in range(4))
        self.iou_prediction_head = Mlp(bottom, bottom, bottom, 4)

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """Three masks for each input.

        Args:
            image_bchw: (B, 5, H, W), the normalised image and the maps of `draw_prompts`.

        Returns:
            Mask logits (B, 3, H / 2, W / 2) and predicted IoU (B, 3), which may leave [0, 1].
        """
        with self.autocast():
            tokens, x = self._encode(image_bchw)
            kernels = torch.stack([mlp(tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps, 1)], 1)
            masks = torch.einsum("bmc,bchw->bmhw", kernels[:, 1:], x).float()  # the first mask is not used
            return masks, self.iou_prediction_head(tokens[:, 0])[:, 1:].float()

    def _encode(self, image_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """Output tokens (B, 6, C), of IoU, four masks and nothing, and features (B, widths[0], H / 2, W / 2)."""
        x = self.stem(image_bchw)
        levels: list[Tensor] = []
        for level in self.down:
            x = level(F.max_pool2d(x, 2) if levels else x)
            levels.append(x)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = F.pad(own, (0, 0, 0, 1)).expand(len(x), -1, -1)  # one token of zeros in the place of prompts
        flat = x.flatten(2).transpose(1, 2)
        tokens, flat = self.transformer(flat, torch.zeros_like(flat[:1]), tokens)
        x = flat.transpose(1, 2).reshape(x.shape)
        for level, skip in zip(self.up, reversed(levels[:-1]), strict=True):
            x = level(x, skip)
        return tokens, x

    def published(self, own: str) -> str:
        """See `Network.published`."""
        return renamed(own, PUBLISHED_NAMES)


def draw_prompts(prompts: PromptTensors, size_hw: tuple[int, int]) -> Tensor:
    """The prompts as maps: the box, filled, and a disc for each click on the object.

    Where a click on the object comes first, there is no box, and its map is ones everywhere. Clicks that are not on
    the object are not drawn, but as published, one that comes first is taken for the corner of a box.

    Args:
        prompts: in pixels of the input; the corners of a box come first.
        size_hw: of the input.

    Returns:
        (B, 2, H, W) of zeros and ones.
    """
    xy, labels = prompts
    grid = [torch.arange(side, device=xy.device, dtype=xy.dtype) for side in size_hw]
    yy, xx = torch.meshgrid(*grid, indexing="ij")
    at = torch.stack([xx, yy], -1)
    clicks = xy[:, :, None, None]
    near = ((at - clicks) ** 2).sum(-1) <= CLICK_RADIUS**2
    disc = (near & (labels == 1)[..., None, None]).any(1)
    low, high = xy[:, :2].aminmax(dim=1)
    inside = ((at >= low[:, None, None]) & (at <= high[:, None, None])).all(-1)
    return torch.stack([inside | (labels[:, 0] == 1)[:, None, None], disc], 1).to(xy.dtype)


def build(config: SqueezeSamConfig) -> SqueezeSam:
    """A SqueezeSAM with untrained weights."""
    return SqueezeSam(config)
