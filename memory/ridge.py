"""An online target model: ridge regression from features to the mask, in closed form, over the remembered frames.

Every frame leaves its normal equations, sums over its pixels: constant size whatever its resolution. The current
frame is scored by the solution of the weighted sum of those recalled. It is differentiable, so that features,
labels and weights are learned for it. Sources: FRTM (Robinson et al. 2020), the few-shot learner of LWL (Bhat et
al. 2020), and ridge regression as a layer (R2D2, Bertinetto et al. 2019).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.memory.target import CODES, Reader, TargetConfig, TargetMemory, full_precision, tokens_of
from samvideo.tensors import Grid

KIND = "memory method"
LABELS = 16
"""Label channels: the mask itself and learned ones."""
FRAME_WEIGHT = CODES.index("ridge weight")


@dataclass(frozen=True)
class RidgeConfig(TargetConfig):
    """Options of the target model; those of every memory method come first."""


VARIANTS = {"ridge": RidgeConfig()}


class _Labels(nn.Module):
    """What is regressed at one stride, from the mask alone: (B, 1, H/4, W/4) to labels and pixels' weights."""

    def __init__(self, halvings: int) -> None:
        super().__init__()
        self.cell = 2**halvings
        layers: list[nn.Module] = []
        channels = 1
        for _ in range(halvings):
            layers += [nn.Conv2d(channels, 32, 3, 2, 1), nn.GELU()]
            channels = 32
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, LABELS, 1))

    def forward(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        given = mask.to(next(self.layers.parameters()).dtype)
        learned, weight = torch.split(self.layers(given).float(), [LABELS - 1, 1], 1)
        pooled = F.avg_pool2d(mask.float(), self.cell)
        return torch.cat([2 * pooled - 1, learned], 1), balanced(pooled) * weight.clamp(-3, 3).exp()


def balanced(mask: Tensor) -> Tensor:
    """(B, 1, h, w) weights of pixels that give the object and the rest one half each; all to the rest if absent."""
    inside, outside = (m.sum((2, 3), keepdim=True).clamp(min=1.0) for m in (mask, 1 - mask))
    return 0.5 * mask / inside + 0.5 * (1 - mask) / outside


class Ridge(Reader):
    """The target model at one stride.

    Args:
        width: of the pixels' embedding, without its constant.
        fine: channels of the stride-8 map to work on; None: at stride 16, on the coarse map alone.
        coarse: channels of the coarse map.
    """

    def __init__(self, width: int, coarse: int, fine: int | None = None) -> None:
        super().__init__()
        self.width, self.cell = width + 1, 1 if fine is None else 2
        self.project = nn.Conv2d(coarse, width, 1)
        self.lateral = None if fine is None else nn.Conv2d(fine, width, 1)
        self.mix = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width), nn.GELU(), nn.Conv2d(width, width, 1)
        )
        self.labels = _Labels(2 if fine is None else 1)
        self.log_ridge = nn.Parameter(torch.tensor(-6.0))
        self.absent = nn.Parameter(torch.tensor(-2.0))
        self.query_width = self.width * self.cell**2
        self.token_width = self.width + LABELS
        self.out = LABELS * self.cell**2

    def rows(self, positions: int) -> int:
        """See `Reader.rows`: those of the normal matrix."""
        return self.width

    def query(self, coarse: Tensor, eighth: Tensor | None) -> Tensor:
        """See `Reader.query`: embeddings of unit length and a constant, of all pixels of a cell."""
        x = self.project(coarse)
        if self.lateral is not None:
            assert eighth is not None
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False) + self.lateral(eighth)
        x = F.normalize((x + self.mix(x)).float(), dim=1)
        return tokens_of(F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0), self.cell)

    def write(self, query: Tensor, coarse: Tensor, mask: Tensor, present: Tensor) -> Tensor:
        """See `Reader.write`: the normal matrix, and the correlation with the labels beside it."""
        labels, weight = self.labels(mask)
        phi = self._pixels(query)
        y, w = (self._pixels(tokens_of(x, self.cell)) for x in (labels, weight))
        w = w * torch.where(present, 1.0, self.absent.exp())[:, None, None]
        with full_precision(phi):
            return (w * phi).transpose(1, 2) @ torch.cat([phi.expand(len(y), -1, -1), y], 2)

    def read(self, query: Tensor, rows: Tensor, codes: Tensor, grid: Grid, padded: bool) -> Tensor:
        """See `Reader.read`: solves, then scores every pixel."""
        share = codes[..., FRAME_WEIGHT].softmax(1)
        with full_precision(rows):
            equations = torch.einsum("br,brij->bij", share, rows)
            normal, right = torch.split(equations, [self.width, LABELS], 2)
            ridge = self.log_ridge.exp() * torch.eye(self.width, device=rows.device)
            factor = torch.linalg.cholesky_ex(normal + ridge).L
            half = torch.linalg.solve_triangular(factor, right, upper=False)
            solution = torch.linalg.solve_triangular(factor.mT, half, upper=True)
            return self.score(query, solution, grid)

    def score(self, query: Tensor, solution: Tensor, grid: Grid) -> Tensor:
        """(B, out, h, w): every pixel of a query scored by (B, width, LABELS) solutions."""
        scores = self._pixels(query) @ solution
        return scores.reshape(len(scores), *grid, -1).permute(0, 3, 1, 2)

    def _pixels(self, tokens: Tensor) -> Tensor:
        """(B, N, cell^2 C), the pixels of a cell one after the other, to (B, cell^2 N, C)."""
        return tokens.reshape(len(tokens), tokens.shape[1] * self.cell**2, -1)


def build(config: RidgeConfig) -> TargetMemory:
    """A target model at stride 16 and, where the encoder has a map for it, stride 8; untrained."""
    return TargetMemory(config, ridges(config))


def ridges(config: TargetConfig) -> list[Reader]:
    """The target models of a config, coarse before fine."""
    readers: list[Reader] = [Ridge(config.ridge_width, config.width)]
    if config.fine_width is not None:
        readers.append(Ridge(config.ridge_width // 2, config.width, config.fine_width))
    return readers
