"""TinyViT, RepViT, EfficientFormerV2 and EfficientNet-Lite: equal to timm's, also folded, and at any size."""

from copy import deepcopy

import pytest
import timm
import torch
from torch import Tensor, nn

from samvideo import registry
from samvideo.encoders.base import ImageEncoder
from samvideo.encoders.efficientformer import EfficientFormer
from samvideo.encoders.efficientnet_lite import EfficientNetLite
from samvideo.encoders.repvit import PUBLISHED, FusedRepVit
from samvideo.encoders.tinyvit import TinyVit


def make(name: str, **changes: object) -> ImageEncoder:
    torch.manual_seed(0)
    encoder: ImageEncoder = registry.ENCODERS.build(name, **changes).eval()
    return randomise(encoder)


@torch.no_grad()
def randomise(module: nn.Module) -> nn.Module:
    """Replace the values of a new network, many of which are 0 or 1 and would hide errors."""
    for key, value in module.state_dict().items():
        if key.endswith(("running_var", "gamma")) or (key.endswith("weight") and value.ndim == 1):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            value.normal_(std=0.3 if value.ndim < 2 else value[0].numel() ** -0.5)
    return module


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("size", [(96, 160), (112, 224)])
@torch.inference_mode()
def test_tinyvit_is_timms(size: tuple[int, int]) -> None:
    """With windows that fill the map, and such that stick out; timm's last stage gets stride 16, as published."""
    reference = timm.create_model("tiny_vit_5m_224", num_classes=0).eval().double()
    reference.stages[3].downsample.conv2.conv.stride = (1, 1)
    randomise(reference)
    encoder = make("tinyvit-5m").double()
    assert isinstance(encoder, TinyVit)
    values = reference.state_dict()
    for key, value in encoder.state_dict().items():
        if not key.startswith("neck."):
            value.copy_(values[timms_tinyvit_key(key)])
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    assert relative(encoder(image)[0], encoder.neck(reference.forward_features(image))) < 1e-12


def timms_tinyvit_key(key: str) -> str:
    parts = key.replace(".c.", ".conv.").replace("seq.0", "conv1").replace("seq.2", "conv2").split(".")
    if parts[0] == "layers":
        parts[:2] = ["stages", str(int(parts[1]) + (parts[2] == "downsample"))]
    return ".".join(parts)


@torch.inference_mode()
def test_tinyvit_takes_weights_after_its_first_call() -> None:
    """The published code keeps the biases of the first call."""
    encoder, other = make("tinyvit-5m"), make("tinyvit-5m")
    image = torch.randn(1, 3, 32, 48)
    before = encoder(image)[0]
    for key, value in other.state_dict().items():
        if key.endswith("attention_biases"):
            value += torch.randn_like(value)
    encoder.load_state_dict(other.state_dict())
    assert torch.equal(encoder(image)[0], other(image)[0])
    assert relative(encoder(image)[0], before) > 1e-3


@torch.inference_mode()
def test_efficientformer_is_timms() -> None:
    """Also on a smaller input than its tables are for: what is equally far apart has the same bias."""
    name = "efficientformerv2_s0"
    reference = timm.create_model(name, features_only=True, img_size=128, out_indices=(2, 3)).eval().double()
    randomise(reference)
    encoder = make("efficientformer-s0", side=192).double()
    assert isinstance(encoder, EfficientFormer)
    values = reference.state_dict()
    for key, value in encoder.state_dict().items():
        theirs = key.replace(".c.", ".conv.").replace("stages.", "stages_").replace("stem.", "stem_")
        if key.endswith("attention_biases"):
            side, small = (int(x.shape[1] ** 0.5) for x in (value, values[theirs]))
            value.view(-1, side, side)[:, :small, :small] = values[theirs].view(-1, small, small)
        elif not key.startswith("neck."):
            value.copy_(values[theirs])
    image = torch.randn(2, 3, 128, 128, dtype=torch.float64)
    # attention multiplies rounding errors
    assert relative(encoder(image)[0], encoder.neck(*reference(image))) < 1e-9


@torch.inference_mode()
def test_repvit_is_timms() -> None:
    """In one list of blocks; what EdgeSAM enlarges less is the map before timm's third downsampling."""
    encoder = make("repvit-m1-fused")
    assert isinstance(encoder, FusedRepVit)
    reference = timm.create_model("repvit_m1", num_classes=0).eval()
    names = iter(encoder.features.state_dict().values())
    order = ["stem"]
    for i, stage in enumerate(reference.stages):
        if i:
            order += [f"stages.{i}.downsample.pre_block", f"stages.{i}.downsample"]
        order += [f"stages.{i}.blocks.{j}" for j in range(len(stage.blocks))]
    for path in order:
        for key, value in reference.get_submodule(path).state_dict().items():
            if not key.startswith("pre_block."):
                value.copy_(next(names))
    seen = {}
    down = reference.stages[3].downsample
    down.pre_block.register_forward_hook(lambda _module, _inputs, output: seen.update(near=output))
    image = torch.randn(2, 3, 64, 96)
    far = reference.forward_features(image)
    assert relative(encoder(image)[0], encoder.neck(seen["near"], far)) < 1e-6


@torch.inference_mode()
def test_efficientnet_lite_is_timms() -> None:
    """With the weights of a classifier, which are read in their order, whatever their names."""
    reference = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3)).eval()
    randomise(reference)
    encoder = make("efficientnet-lite0")
    assert isinstance(encoder, EfficientNetLite)
    values = reference.state_dict()
    weights = {f"entry {i}": value for i, (key, value) in enumerate(values.items()) if "num_batches" not in key}
    encoder.load_trunk({**weights, "entry.num_batches_tracked": torch.tensor(7)})
    image = torch.randn(2, 3, 96, 160)
    quarter, eighth, coarse = reference(image)
    for fused in (False, True):
        if fused:
            encoder.fuse()
        mine, fine = encoder(image)
        assert relative(mine, encoder.neck(coarse)) < (1e-5 if fused else 1e-6)
        assert relative(fine[0], quarter) < 1e-5
        assert relative(fine[1], eighth) < 1e-5


@pytest.mark.parametrize("name", ["repvit-m1-fused", "repvit-m2.3"])
def test_published_names_of_repvit(name: str) -> None:
    """No part of timm's names is left, and no two names are the same."""
    with torch.device("meta"):
        encoder: ImageEncoder = registry.ENCODERS.build(name)
    names = [encoder.published(own) for own in encoder.state_dict()]
    assert len(set(names)) == len(names)
    assert {name.split(".")[0] for name in names} <= {"features", "neck", "fuse_stage2", "fuse_stage3"}
    strange = set(PUBLISHED) - {".token_mixer."}
    assert not [name for name in names if any(part in name for part in strange)]


@pytest.mark.parametrize(
    "name", ["tinyvit-5m", "repvit-m1-fused", "repvit-m2.3", "efficientformer-s0", "efficientnet-lite0"]
)
@torch.inference_mode()
def test_folded_and_channels_last(name: str) -> None:
    """Folding rounds but changes nothing else, whatever the memory format; pictures of a batch are independent."""
    encoder = make(name)
    plain = deepcopy(encoder).double()
    encoder.fuse()
    assert not [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    images = torch.randn(2, 3, 64, 96)
    expected = plain(images.double())[0]
    encoder.to(memory_format=torch.channels_last)
    assert relative(encoder(images.to(memory_format=torch.channels_last))[0], expected) < 1e-4
    assert relative(torch.cat([encoder(image[None])[0] for image in images]), expected) < 1e-4
