"""First values of a video model that is trained from nothing: memory is used from the first step on.

With PyTorch's, the decoder begins with logits near zero, learns to answer from the picture alone, with all objects
at once, before memory says anything to it, and stays there for long. Here, what makes masks keeps variances, and
memory attention begins as a look-up by similarity: queries and keys are one projection of what is seen and of what
is remembered, and values pass unchanged (after Trockman and Kolter 2023, Mimetic Initialization of Self-Attention
Layers).
"""

import torch
from torch import Tensor, nn

from samvideo.memory.attention import CrossAttention, MemoryAttention
from samvideo.memory.encoder import MemoryEncoder
from samvideo.memory.method import MemoryMethod
from samvideo.memory.perceiver import PerceiverMemory, SpatialPerceiver
from samvideo.models import VideoModel
from samvideo.nn.attention import Attention

SHARPNESS = 1.5
"""Factor of queries and of keys: how much more is read from what is similar."""
BRANCH = 0.1
"""Layer scale of the memory encoder, and size of the Perceiver's latents."""
SELF = 0.5
"""Share of what self-attention adds."""
FINE = 0.05
"""Factor of the fine maps' projections, which show where edges are, but not of which object."""


@torch.no_grad()
def initialise(model: VideoModel, seed: int) -> None:
    """Set memory, and what makes masks, in place; a model whose memory has no attention stays as it is."""
    memory, generator = model.memory, torch.Generator().manual_seed(seed)
    if not isinstance(memory, MemoryMethod):
        return
    for part in (memory, model.decoder.output_upscaling, model.decoder.output_hypernetworks_mlps):
        _keep_variance(part, generator)
    for name, value in memory.named_parameters():
        if name.endswith("gamma"):
            value.fill_(BRANCH)
    seen = _orthogonal(memory.widths[1], memory.widths[0], generator)
    _pass_features(memory.encoder, seen)
    _look_up(memory.attention, seen, generator)
    if isinstance(memory, PerceiverMemory):
        _pass_tokens(memory.perceiver)
    for conv in model.decoder.fine_convs():
        conv.weight.mul_(FINE)


def _keep_variance(part: nn.Module, generator: torch.Generator) -> None:
    """Random weights that keep the variance of their input."""
    for layer in part.modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        gain = 1.0 if isinstance(layer, nn.Linear) else 2.0
        inputs = len(layer.weight) if isinstance(layer, nn.ConvTranspose2d) else layer.weight[0].numel()
        layer.weight.normal_(0, (gain / inputs) ** 0.5, generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()


def _pass_features(encoder: MemoryEncoder, seen: Tensor) -> None:
    """What is remembered of a frame is a projection of its features, plus what says where the mask is."""
    scale = (seen.shape[1] / seen.shape[0]) ** 0.5
    encoder.out_proj.weight.copy_(scale * seen[..., None, None])
    encoder.pix_feat_proj.weight.copy_(torch.eye(seen.shape[1])[..., None, None])


def _look_up(attention: MemoryAttention, seen: Tensor, generator: torch.Generator) -> None:
    """Attend to what is similar, and add it as it is."""
    count, width = seen.shape
    for layer in attention.modules():
        if isinstance(layer, CrossAttention):
            keys = SHARPNESS * _orthogonal(width, count, generator)
            layer.q_proj.weight.copy_(keys @ seen)
            layer.k_proj.weight.copy_(keys)
            layer.v_proj.weight.copy_(seen.T)
            layer.out_proj.weight.copy_(torch.eye(width))
        elif isinstance(layer, Attention):
            keys = _orthogonal(width, width, generator)
            layer.q_proj.weight.copy_(keys)
            layer.k_proj.weight.copy_(keys)
            layer.v_proj.weight.copy_(SELF * torch.eye(width))
            layer.out_proj.weight.copy_(torch.eye(width))


def _pass_tokens(perceiver: SpatialPerceiver) -> None:
    """Latents begin as means of what they attend to."""
    perceiver.latents.mul_(BRANCH)
    perceiver.latents_2d.mul_(BRANCH)
    for name, weight in perceiver.named_parameters():
        if name.endswith("attn.to_kv.weight"):
            weight.chunk(2)[1].copy_(torch.eye(weight.shape[1]))
        elif name.endswith(".attn.to_out.weight"):
            weight.copy_(torch.eye(len(weight)))
        elif name.endswith(("ff.3.weight", "self_attn.to_out.weight")):
            weight.zero_()


def _orthogonal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """(rows, columns) with orthonormal columns, or rows if these are fewer."""
    return nn.init.orthogonal_(torch.empty(rows, columns), generator=generator)
