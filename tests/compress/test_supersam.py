"""SuperSAM's order of hidden units against the published code's own."""

import numpy as np
import pytest
import torch
from method_fixtures import SEEDED, close, stored_numbers

from samvideo.compress.supersam import keep_units, magnitude_scores, order_of, wanda_scores
from samvideo.encoders.sam_vit import SamVit, SamVitConfig
from samvideo.nn.mlp import Mlp

FIXTURE = stored_numbers("supersam--reorder")
HUB = (
    ("patch_embed.proj.", "patch_embed.projection."),
    ("blocks.", "layers."),
    (".norm", ".layer_norm"),
    ("mlp.layers.0", "mlp.lin1"),
    ("mlp.layers.1", "mlp.lin2"),
    ("neck.0", "neck.conv1"),
    ("neck.1", "neck.layer_norm1"),
    ("neck.2", "neck.conv2"),
    ("neck.3", "neck.layer_norm2"),
)
MEAN, DEVIATION = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def small_sam() -> SamVit:
    """The encoder of the fixture, for pictures of 256 pixels."""
    globals_ = (2, 5, 8, 11)
    model = SamVit(SamVitConfig(48, 4, 12, globals_, 192, window=7)).eval()
    model.pos_embed = torch.nn.Parameter(torch.zeros(1, 16, 16, 48))
    for i in globals_:
        for axis in "hw":
            setattr(model.blocks[i].attn, f"rel_pos_{axis}", torch.nn.Parameter(torch.zeros(31, 12)))
    with torch.no_grad():
        for name, value in model.named_parameters():
            key = name
            for own, theirs in HUB:
                key = key.replace(own, theirs)
            value.copy_(torch.from_numpy(SEEDED.seeded_array(f"super/{key}", tuple(value.shape))))
    return model


def pictures(*frames: int) -> torch.Tensor:
    batch = np.stack([(SEEDED.picture(frame, 256) - MEAN) / DEVIATION for frame in frames])
    return torch.from_numpy(batch.transpose(0, 3, 1, 2).astype(np.float32))


def test_scores_and_orders_are_the_published_ones() -> None:
    model = small_sam()
    mlps: dict[str, Mlp] = {str(i): block.mlp for i, block in enumerate(model.blocks)}
    scores = wanda_scores(mlps, [lambda b=b: model(pictures(*b)) for b in ((0, 1), (2, 3))])
    for name, mlp in mlps.items():
        close(scores[name], torch.from_numpy(FIXTURE[f"wanda/score/{name}"]), 1e-5)
        assert order_of(scores[name]).tolist() == FIXTURE[f"wanda/order/{name}"].tolist()
        close(magnitude_scores(mlp), torch.from_numpy(FIXTURE[f"magnitude/score/{name}"]), 1e-5)


@pytest.mark.parametrize("keep", [16, 8])
def test_units_in_another_order_compute_the_same(keep: int) -> None:
    torch.manual_seed(0)
    mlp, x = Mlp(4, 16, 4), torch.randn(5, 4)
    before = mlp(x)
    order = torch.randperm(16)
    keep_units(mlp, order[:keep])
    assert mlp.layers[0].out_features == keep
    assert torch.allclose(mlp(x), before, atol=1e-6) == (keep == 16)
