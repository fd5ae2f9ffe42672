"""Convolutional heads of the bundled model: prompts are drawn as maps, one decoder serves prompts and tracking.

Sources: prompts as maps and earlier masks as an input, RITM (Sofiiuk et al. 2021); several masks with predicted
quality, SAM (Kirillov et al. 2023); ConvNeXt blocks (Liu et al. 2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.nn.convnext import ConvNextBlock, GlobalContext
from samvideo.nn.norm import LayerNorm2d
from samvideo.tensors import Grid, MaskCandidates, PromptTensors

KIND = "heads"
MASKS = 4
"""One mask, and three alternatives for a single click, as SAM has them."""
CELL = 4
"""Cells of the stride-4 mask along a side of a cell of stride 16."""
BOX_LABEL = 2
RADII = (0.05, 0.25)
"""Standard deviations of the blobs that mark a click, as shares of the input's shorter side: there, and around."""
INSIDE, RIM = 0.01, 0.02
"""Widths of the border of the map of a box and of its rim, as shares of the same side: about a cell of stride 4."""
PROMPT_MAPS = 2 + 2 * len(RADII)


@dataclass(frozen=True)
class NanoHeadsConfig:
    """Widths of the heads.

    Attributes:
        widths: channels at strides 4, 8 and 16.
        blocks: residual blocks at strides 4, 8 and 16.
        fine_widths: channels of the encoder's fine maps.
        image_width: channels of the image embedding.
    """

    widths: tuple[int, int, int] = (32, 64, 144)
    blocks: tuple[int, int, int] = (1, 2, 4)
    fine_widths: tuple[int, int] | None = (24, 40)
    image_width: int = 256


VARIANTS = {"nano": NanoHeadsConfig()}


class NanoPrompts(nn.Module):
    """Draws prompts as maps.

    Args:
        width: channels of the image embedding.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.logits = nn.Sequential(nn.Conv2d(2 * CELL**2, 64, 1), nn.GELU(), nn.Conv2d(64, width, 1))

    def points(self, prompts: PromptTensors, size_wh: tuple[int, int]) -> Tensor:
        """(B, PROMPT_MAPS, H/4, W/4) maps: the box, its border, and blobs of clicks on the object and beside it.

        Args:
            prompts: in pixels of the input.
            size_wh: of the input.
        """
        width, height = size_wh
        xy, labels = prompts.xy.float(), prompts.labels
        x, y = (torch.arange(side // CELL, device=xy.device) * CELL + (CELL - 1) / 2 for side in (width, height))
        near = min(width, height)
        dx, dy = x - xy[..., :1], y - xy[..., 1:]
        far = (dx**2)[:, :, None, :] + (dy**2)[:, :, :, None]
        maps = [*_box(dx, dy, labels, near)]
        for label in (1, 0):
            asked = (labels == label)[..., None, None]
            for radius in RADII:
                blobs = torch.exp(-far / (2 * (radius * near) ** 2)) * asked
                maps.append(F.pad(blobs, (0, 0, 0, 0, 0, 1)).amax(1))
        return torch.stack(maps, 1)

    def no_points(self, batch: int) -> PromptTensors:
        """No prompt at all, for tracking."""
        device = next(self.parameters()).device
        return PromptTensors(torch.zeros(batch, 0, 2, device=device), torch.zeros(batch, 0, device=device).long())

    def grid_code(self, grid: Grid) -> None:
        """Nothing: the decoder is convolutional."""

    def dense(self, mask_logits: Tensor | None, grid: Grid) -> Tensor:
        """(B, width, h, w) map of (B, 1, 4 h, 4 w) earlier logits; zeros, (1, width, 1, 1), without."""
        weight = next(self.parameters())
        if mask_logits is None:
            return weight.new_zeros(1, self.width, 1, 1)
        cells = F.pixel_unshuffle(mask_logits.float().sigmoid(), CELL)
        out: Tensor = self.logits(torch.cat([cells, torch.ones_like(cells)], 1).to(weight.dtype))
        return out

    def published(self, own: str) -> str:
        """Name in a weights file of an entry of the state dict."""
        return own


def _box(dx: Tensor, dy: Tensor, labels: Tensor, near: int) -> tuple[Tensor, Tensor]:
    """(B, h, w): how far inside the box a place is, 0 outside, and the box's rim; zeros where there is no box."""
    if labels.shape[1] < 2:
        empty = (dx.sum(1)[:, None, :] + dy.sum(1)[:, :, None]) * 0
        return empty, empty
    asked = (labels[:, 0] == BOX_LABEL)[:, None, None]
    inner_x = torch.minimum(dx[:, 0], -dx[:, 1])[:, None, :]
    inner_y = torch.minimum(dy[:, 0], -dy[:, 1])[:, :, None]
    signed = torch.minimum(inner_x, inner_y) / near
    return (signed / INSIDE).sigmoid() * asked, torch.exp(-((signed / RIM) ** 2)) * asked


class NanoDecoder(nn.Module):
    """Refines the embedding from stride 16 to 4 and proposes masks, their quality, and whether the object is there.

    Args:
        config: widths.
    """

    def __init__(self, config: NanoHeadsConfig) -> None:
        super().__init__()
        assert config.fine_widths is not None
        self.projected_widths = config.fine_widths
        quarter, eighth, coarse = config.widths
        self.prompt_eighth = nn.Sequential(nn.Conv2d(PROMPT_MAPS, 24, 3, 2, 1), nn.GELU())
        self.prompt_coarse = nn.Sequential(nn.Conv2d(24, 48, 3, 2, 1), nn.GELU())
        self.enter = nn.Conv2d(config.image_width + 48, coarse, 1)
        blocks: list[nn.Module] = [ConvNextBlock(coarse, 7) for _ in range(config.blocks[2])]
        blocks.insert(len(blocks) // 2, GlobalContext(coarse))
        self.coarse = nn.Sequential(*blocks, LayerNorm2d(coarse))
        self.to_eighth = nn.Conv2d(coarse, eighth, 1)
        self.lateral_eighth = nn.Conv2d(config.fine_widths[1] + 24, eighth, 1)
        self.eighth = nn.Sequential(*(ConvNextBlock(eighth, 5) for _ in range(config.blocks[1])))
        self.to_quarter = nn.Conv2d(eighth, quarter, 1)
        self.lateral_quarter = nn.Conv2d(config.fine_widths[0] + PROMPT_MAPS, quarter, 1)
        self.quarter = nn.Sequential(*(ConvNextBlock(quarter, 5) for _ in range(config.blocks[0])))
        self.masks = nn.Sequential(LayerNorm2d(quarter), nn.GELU(), nn.Conv2d(quarter, MASKS, 3, padding=1))
        self.quality = nn.Sequential(nn.Linear(2 * coarse + 3, 128), nn.GELU(), nn.Linear(128, 1))
        self.presence = nn.Sequential(nn.Linear(2 * coarse + 3, 128), nn.GELU(), nn.Linear(128, 1))

    def published(self, own: str) -> str:
        """Name in a weights file of an entry of the state dict."""
        return own

    def fine_convs(self) -> list[nn.Conv2d]:
        """None: fine maps are used as they are."""
        return []

    def project(self, fine: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The fine maps as they are."""
        return tuple(fine)

    def forward(self, image: Tensor, image_code: None, points: Tensor, fine: Sequence[Tensor]) -> MaskCandidates:
        """Propose four masks for each of B objects.

        Args:
            image: (B, C, h, w) embedding.
            image_code: none.
            points: (B, PROMPT_MAPS, 4 h, 4 w).
            fine: maps of strides 4 and 8, of one frame or of B.
        """
        batch, points = len(image), points.to(image.dtype)
        quarter, eighth = (x.expand(batch, -1, -1, -1) for x in fine)
        prompt_eighth = self.prompt_eighth(points)
        x = self.coarse(self.enter(torch.cat([image, self.prompt_coarse(prompt_eighth)], 1)))
        y = _double(self.to_eighth(x)) + self.lateral_eighth(torch.cat([eighth, prompt_eighth], 1))
        z = _double(self.to_quarter(self.eighth(y))) + self.lateral_quarter(torch.cat([quarter, points], 1))
        logits = self.masks(self.quarter(z)).float()
        judged = _summaries(x.float(), logits).to(image.dtype)
        quality = self.quality(judged)[..., 0].float().sigmoid()
        presence = self.presence(judged[:, 0])[:, 0].float()
        return MaskCandidates(logits, quality, image.new_zeros(batch, MASKS, 0), presence)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _summaries(x: Tensor, logits: Tensor) -> Tensor:
    """(B, N, 2 C + 3) of (B, C, h, w) features and (B, N, 4 h, 4 w) logits: what a mask's quality is judged by.

    The features inside of the mask and everywhere, its area, how unsure it is there, and its highest probability.
    """
    inside = F.avg_pool2d(logits.detach().sigmoid(), CELL)
    area = inside.sum((2, 3))
    within = torch.einsum("bchw,bnhw->bnc", x, inside) / (area[..., None] + 1e-3)
    unsure = (inside * (1 - inside)).sum((2, 3)) / (area + 1e-3)
    share = area / inside[0, 0].numel()
    everywhere = x.mean((2, 3))[:, None].expand_as(within)
    return torch.cat([within, everywhere, torch.stack([share.sqrt(), unsure, inside.amax((2, 3))], 2)], 2)


def build(config: NanoHeadsConfig) -> tuple[NanoPrompts, NanoDecoder]:
    """Prompts and decoder with untrained weights."""
    return NanoPrompts(config.image_width), NanoDecoder(config)
