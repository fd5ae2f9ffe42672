"""SuperSAM's order of hidden units against the published code's own."""

import pytest
import torch
from method_fixtures import SEEDED, close, pictures, small_sam, stored_numbers

from samvideo.compress.slim import mlp_channels
from samvideo.compress.supersam import magnitude_scores, order_of, wanda_scores
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


def hub_name(own: str) -> str:
    for ours, theirs in HUB:
        own = own.replace(ours, theirs)
    return own


def test_scores_and_orders_are_the_published_ones() -> None:
    model = small_sam(lambda own, shape: SEEDED.seeded_array(f"super/{hub_name(own)}", shape))
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
    mlp_channels(mlp).keep(order[:keep])
    assert mlp.layers[0].out_features == keep
    assert torch.allclose(mlp(x), before, atol=1e-6) == (keep == 16)
