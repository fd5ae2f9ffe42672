"""What cameras and files do to clips, as batched operations: colours, blur, noise, compression.

`frames` are float32 (n, T, 3, S, S) in 0..1; parameters are numpy arrays of n rows.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.training.library import Floats

BLOCK = 8  # pixels of a block of JPEG
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
YCC = np.array([LUMA, (-0.1687, -0.3313, 0.5), (0.5, -0.4187, -0.0813)])  # from RGB, as in JFIF
TAPS = 5  # samples along a motion blur
RADIUS = 4  # pixels of a Gaussian's kernel, at least
REACH = 2.5  # of its standard deviations that the kernel covers, at least


def colour(frames: Tensor, matrix: Floats, offset: Floats) -> Tensor:
    """Apply a matrix (n, T, 3, 3) and an offset (n, T, 3) to the colours of each frame."""
    n, length, _, side, _ = frames.shape
    flat = torch.baddbmm(
        _to(offset.reshape(-1, 3, 1), frames), _to(matrix.reshape(-1, 3, 3), frames), frames.reshape(-1, 3, side**2)
    )
    return flat.clamp_(0, 1).view(n, length, 3, side, side)


def colour_matrix(contrast: float, brightness: float, saturation: float, gain: Floats) -> Floats:
    """Return (3, 4), matrix and offset: contrast about mid-grey, brightness, saturation, gain of each channel."""
    matrix = saturation * np.eye(3) + (1 - saturation) * np.array([LUMA])
    matrix = contrast * gain[:, None] * matrix
    return np.concatenate([matrix, (gain * (0.5 - 0.5 * contrast + brightness))[:, None]], 1)


def gamma(frames: Tensor, exponent: Floats) -> Tensor:
    """Raise to a power (n,)."""
    return frames.clamp_min(1e-4) ** _to(exponent, frames).view(-1, 1, 1, 1, 1)


def blur(frames: Tensor, sigma: Floats) -> Tensor:
    """Blur by Gaussians of `sigma` (n,) pixels."""
    radius = max(RADIUS, math.ceil(REACH * float(sigma.max())))
    x = torch.arange(-radius, radius + 1, device=frames.device)
    kernel = torch.exp(-0.5 * (x / _to(sigma, frames)[:, None]) ** 2)
    weights = (kernel / kernel.sum(1, keepdim=True)).T[..., None, None, None, None].unbind()
    for axis in (3, 4):
        padding = [radius if axis == k // 2 + 3 else 0 for k in (2, 3, 0, 1)]
        around = F.pad(frames.flatten(0, 1), padding, "replicate")
        around = around.view(*frames.shape[:2], *around.shape[1:])
        frames = torch.zeros_like(frames)
        for place, weight in enumerate(weights):
            frames.addcmul_(around.narrow(axis, place, frames.shape[axis]), weight)
    return frames


def motion_blur(frames: Tensor, path: Floats) -> Tensor:
    """Average each frame along a straight line (n, T, 2), x and y in pixels."""
    flat = frames.flatten(0, 1)
    step = _to(path.reshape(-1, 2) * 2 / frames.shape[-1], frames)
    maps = torch.eye(2, 3, device=frames.device).repeat(len(flat), 1, 1)
    total = torch.zeros_like(flat)
    for share in np.linspace(-0.5, 0.5, TAPS).tolist():
        maps[:, :, 2] = share * step
        grid = F.affine_grid(maps, list(flat.shape), align_corners=False)
        total += F.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    return (total / TAPS).view(frames.shape)


def noise(frames: Tensor, sigma: Floats, seed: int) -> Tensor:
    """Add normal noise of `sigma` (n,)."""
    generator = torch.Generator(frames.device).manual_seed(seed)
    grain = torch.randn(frames.shape, generator=generator, device=frames.device)
    return (frames + grain * _to(sigma, frames).view(-1, 1, 1, 1, 1)).clamp_(0, 1)


def compress(frames: Tensor, strength: Floats) -> Tensor:
    """Quantise the cosine transform of 8x8 blocks, as JPEG does; `strength` (n,) 1 is about its quality 50.

    Counterpart: ITU-T T.81, annex K, whose tables the steps follow roughly.
    """
    device = frames.device
    ycc = torch.einsum("ij,ntjhw->ntihw", _to(YCC, frames), frames)
    k = torch.arange(BLOCK, device=device)
    basis = torch.cos(math.pi / BLOCK * k[:, None] * (k + 0.5)) * math.sqrt(2 / BLOCK)
    basis[0] /= math.sqrt(2)
    steps = (
        torch.stack([12 + 6.0 * (k[:, None] + k), (20 + 20.0 * (k[:, None] + k)).clamp(max=100)])[[0, 1, 1]] / 255
    )
    steps = steps[:, None, :, None, :] * _to(strength, frames).view(-1, 1, 1, 1, 1, 1, 1)
    rows = frames.shape[3] // BLOCK
    blocks = ycc.reshape(*ycc.shape[:3], rows, BLOCK, rows, BLOCK)
    blocks = torch.einsum("ij,ntcrjsk,lk->ntcrisl", basis, blocks, basis)
    blocks = torch.round(blocks / steps) * steps
    ycc = torch.einsum("ji,ntcrjsk,kl->ntcrisl", basis, blocks, basis).flatten(5, 6).flatten(3, 4)
    return torch.einsum("ij,ntjhw->ntihw", _to(np.linalg.inv(YCC), frames), ycc).clamp_(0, 1)


def _to(values: Floats, like: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32)).to(like.device, non_blocking=True)
