"""What learns of a video model: whole parts, or low-rank changes of linear layers (LoRA, Hu et al. 2022)."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from samvideo.errors import ConfigError, shown
from samvideo.models import VideoModel

PARTS = {"decoder": ("prompts", "decoder"), "memory": ("memory", "pointers"), "encoder": ("encoder",)}
"""Names of parts on the command line, and the modules that each means."""
LORA = "lora:"


class LowRank(nn.Module):
    """Adds a matrix of low rank to a weight; zero at first.

    Args:
        weight: (out, in).
        rank: of what is added.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        out, into = weight.shape
        self.down = nn.Parameter(torch.randn(rank, into, device=weight.device) / into**0.5)
        self.up = nn.Parameter(torch.zeros(out, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight."""
        return weight + self.up @ self.down


def choose_parts(model: VideoModel, text: str) -> None:
    """Let only the chosen parameters learn, in place.

    Args:
        model: to be trained.
        text: `all`, or several of `decoder`, `memory`, `encoder` and `lora:RANK`, separated by commas.

    Raises:
        ConfigError: another name, or no rank.
    """
    words = [word.strip() for word in text.split(",")]
    parts = [*PARTS] if words == ["all"] else [word for word in words if not word.startswith(LORA)]
    ranks = [word.removeprefix(LORA) for word in words if word.startswith(LORA)]
    if len(ranks) > 1 or not set(parts) <= set(PARTS) or not all(r.isdecimal() and int(r) for r in ranks):
        raise ConfigError(f"--train takes all, or some of {', '.join(PARTS)}, {LORA}8, not {shown(text)}")
    model.requires_grad_(False)
    for name in (name for part in parts for name in PARTS[part]):
        if (module := getattr(model, name)) is not None:
            module.requires_grad_(True)
    for rank in map(int, ranks):
        linear = [layer for layer in model.modules() if type(layer) is nn.Linear]
        for layer in (layer for layer in linear if not layer.weight.requires_grad):
            parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))


def merge_parts(model: VideoModel) -> None:
    """Put low-rank changes into the weights themselves, in place: the names are the published ones again."""
    for layer in [layer for layer in model.modules() if parametrize.is_parametrized(layer, "weight")]:
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
