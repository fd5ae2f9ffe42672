"""Models of the SAM 2 family with tiny widths, which learn in seconds to find simple objects."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.encoders.base import ImageEncoder
from samvideo.encoders.vit import PlainVit, VitConfig
from samvideo.heads.masks import MaskDecoder
from samvideo.heads.pointers import PointerHead
from samvideo.heads.prompt_encoder import PromptEncoder
from samvideo.memory.method import MemoryMethod, MethodConfig
from samvideo.memory.perceiver import PerceiverConfig, PerceiverMemory
from samvideo.models import VideoModel, build
from samvideo.nn.norm import LayerNorm2d
from samvideo.specs import ModelSpec

SIDE, WIDTH, TOKEN_WIDTH = 128, 64, 32


class SmallPyramid(ImageEncoder):
    """Convolutions with maps of strides 4, 8 and 16, as EdgeTAM's encoder has them."""

    step = 16
    fine = True
    fine_widths = (32, 48)

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, *self.fine_widths, WIDTH)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(map(LayerNorm2d, widths[1:]))
        self.neck = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), LayerNorm2d(WIDTH))

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        maps = [image_bchw]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            maps.append(F.gelu(norm(conv(maps[-1]))))
        return self.neck(maps[4]), (maps[2], maps[3])


def miniature(name: str) -> VideoModel:
    """A small "edgetam" (convolutions, fine maps, Perceiver) or "efficienttam-ti" (ViT, plain memory)."""
    torch.manual_seed(0)
    model = build(ModelSpec(name, "vit-ti", layers=1, input_wh=(SIDE, SIDE)))
    edge = name == "edgetam"
    sizes = {"layers": 1, "width": WIDTH, "token_width": TOKEN_WIDTH}
    memory: MemoryMethod = MemoryMethod(MethodConfig(**sizes))
    if edge:
        memory = PerceiverMemory(PerceiverConfig(**sizes, latents=16, side=4, depth=1))
    vit = VitConfig(128, 4, 2, window=4, global_blocks=(0, 1), width=WIDTH)
    model.encoder = SmallPyramid() if edge else PlainVit(vit)
    model.prompts = PromptEncoder(WIDTH)
    model.decoder = MaskDecoder(SmallPyramid.fine_widths if edge else None, WIDTH)
    model.memory, model.pointers = memory, PointerHead(timed=False, width=WIDTH, memory_width=TOKEN_WIDTH)
    return model.eval()
