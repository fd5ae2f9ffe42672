"""Two small networks on square crops: one fuses the cues of a tracked object, one predicts masks from prompts."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EVIDENCE = 14  # planes of one crop: Lab in the first three, then those of the next line
LOGITS, MOTION, EXACT, VALID = slice(3, 9), slice(9, 12), 12, 13  # see `samvideo.trackers.nano`
HAND = (1.0, 1.5, 1.0, 2.0, 1.6, 0.0)  # weights of the planes `LOGITS` before training
PROMPT = 21  # planes of one prompted crop, see `samvideo.nano.prompted`
KEY = 16
POOL = 3  # memory has a third of the resolution of the crop that is compared with it


class Block(nn.Sequential):
    """Convolution, normalisation, rectifier."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, size, stride, (size - 1) // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Encoder and decoder over five resolutions (Ronneberger et al., MICCAI 2015); few channels at the fine ones.

    Args:
        inputs: planes of the crop.
        looks: planes that are added at a quarter of the resolution.
        widths: channels at 1/2, 1/4, 1/8 and 1/16.
        raw: how many of the first planes are also inputs of the last layers, at full resolution.
    """

    def __init__(self, inputs: int, looks: int, widths: tuple[int, int, int, int], raw: int) -> None:
        super().__init__()
        a, b, c, d = widths
        self.raw = raw
        self.stem = Block(inputs, a, 4, 2)
        self.quarter = nn.Sequential(Block(a, b, 3, 2), Block(b, b))
        self.eighth = nn.Sequential(Block(b + looks, c, 3, 2), Block(c, c))
        self.sixteenth = nn.Sequential(Block(c, d, 3, 2), Block(d, d), Block(d, d))
        self.to_eighth = Block(c + d, c)
        self.to_quarter = Block(b + c + looks, b)
        self.to_half = nn.Sequential(Block(a + b, a, 1), Block(a, a))
        self.fine = nn.Conv2d(a, 24, 3, 1, 1)
        self.last = nn.Sequential(nn.Conv2d(6 + raw, 8, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 1, 3, 1, 1))
        self.judge = nn.Sequential(nn.Linear(2 * d + a + 2, 32), nn.ReLU(inplace=True), nn.Linear(32, 2))

    def forward(
        self, planes: Tensor, looks: Tensor | None = None, base: Tensor | float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Map planes (B, inputs, S, S) to mask logits (B, 1, S, S) and logits of presence and quality (B, 2).

        Args:
            planes: the input.
            looks: (B, looks, S/4, S/4).
            base: logits (B, 1, S, S) that are added to the output.
        """
        half = self.stem(planes)
        quarter = self.quarter(half)
        if looks is not None:
            quarter = torch.cat([quarter, looks.to(quarter.dtype)], 1)
        eighth = self.eighth(quarter)
        deep = self.sixteenth(eighth)
        up = self.to_eighth(torch.cat([eighth, _like(deep, eighth)], 1))
        up = self.to_quarter(torch.cat([quarter, _like(up, quarter)], 1))
        up = self.to_half(torch.cat([half, _like(up, half)], 1))
        fine = F.relu(F.pixel_shuffle(self.fine(up), 2))
        logits = self.last(torch.cat([fine, planes[:, : self.raw].to(fine.dtype)], 1)) + base
        mask = F.avg_pool2d(logits.detach().sigmoid(), 2)
        inside = (up * mask).sum((2, 3)) / (mask.sum((2, 3)) + 1)
        sizes = torch.cat([mask.mean((2, 3)), mask.amax((2, 3))], 1)
        return logits, self.judge(torch.cat([deep.mean((2, 3)), deep.amax((2, 3)), inside, sizes], 1))


class Fusion(nn.Module):
    """Predicts the mask of an object from the cues on a crop and a memory of its earlier appearance.

    Before training, the output is the sum of the cues with fixed weights. The memory gives, for every position, the
    similarity to parts of the object and to parts of the background in earlier crops.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (20, 32, 48, 64)) -> None:
        super().__init__()
        self.keys = nn.Sequential(
            Block(4, 12, 4, 2), Block(12, 24, 3, 2), Block(24, 24), nn.Conv2d(24, KEY, 3, 1, 1)
        )
        self.sharpness = nn.Parameter(torch.tensor(2.0))
        self.unet = UNet(EVIDENCE, KEY + 4, widths, LOGITS.stop)
        self.linear = nn.Conv2d(LOGITS.stop - LOGITS.start, 1, 1)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor(HAND)[None, :, None, None])
        for zero in (self.linear.bias, self.unet.last[2].weight, self.unet.last[2].bias):
            nn.init.zeros_(zero)  # type: ignore[arg-type]

    def look(self, planes: Tensor) -> Tensor:
        """Compute unit vectors (B, KEY, S/4, S/4) from the Lab and valid planes of a crop (B, EVIDENCE, S, S)."""
        keys: Tensor = F.normalize(self.keys(torch.cat([planes[:, :3], planes[:, VALID, None]], 1)), dim=1)
        return keys

    def remember(self, keys: Tensor, belief: Tensor, valid: Tensor) -> Tensor:
        """Encode a crop as memory (B, 2, KEY + 1, N): mean keys of object and background parts, and their shares.

        Args:
            keys: from `look`.
            belief: (B, 1, S, S) probability of the object.
            valid: (B, 1, S, S), 1 inside the image.
        """
        share = F.avg_pool2d(torch.cat([belief * valid, (1 - belief) * valid], 1), 4)
        pooled = F.avg_pool2d(share, POOL)
        sums = F.avg_pool2d((share[:, :, None] * keys[:, None]).flatten(1, 2), POOL)
        sums = sums.view(-1, 2, KEY, *sums.shape[2:])
        means = F.normalize(sums, dim=2, eps=1e-4)
        return torch.cat([means, pooled[:, :, None]], 2).flatten(3)

    def compare(self, keys: Tensor, memory: Tensor) -> Tensor:
        """Return the similarity to object and background of one memory, (B, 2, S/4, S/4), of order one."""
        with torch.autocast(keys.device.type, enabled=False):
            asked, memory = keys.flatten(2).float() * self.sharpness.exp(), memory.float()
            known, shares = memory[:, :, :KEY].transpose(2, 3), memory[:, :, KEY, None] + 1e-4
            # Keys are unit vectors, so that nothing overflows; logsumexp takes several times longer.
            sums = [s @ (k @ a).exp_() for k, a, s in zip(known, asked, shares, strict=True)]  # one fits the cache
            likeness = torch.stack(sums).squeeze(2).log()
        return likeness.view(*likeness.shape[:2], *keys.shape[2:]) / 4

    def forward(self, planes: Tensor, memories: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Map planes (B, EVIDENCE, S, S) and two memories to the outputs of `UNet`."""
        keys = self.look(planes)
        looks = torch.cat([keys, *(self.compare(keys, m) for m in memories)], 1)
        return self.unet(planes, looks, self.linear(planes[:, LOGITS]))


class Prompted(UNet):
    """Predicts a mask from a crop with prompt planes; given its own output, it refines that."""

    def __init__(self, widths: tuple[int, int, int, int] = (24, 40, 64, 96)) -> None:
        super().__init__(PROMPT, 0, widths, 9)


def fuse(network: nn.Module) -> nn.Module:
    """Fold every batch norm into the convolution before it, in place; for inference only."""
    for module in network.modules():
        if isinstance(module, Block):
            convolution = nn.utils.fuse_conv_bn_eval(module[0], module[1])  # type: ignore[type-var, arg-type]
            module[0], module[1] = convolution, nn.Identity()
    return network


def _like(planes: Tensor, other: Tensor) -> Tensor:
    return F.interpolate(planes, size=other.shape[2:], mode="bilinear", align_corners=False)
