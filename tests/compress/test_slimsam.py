"""SlimSAM's importances and kept channels against the published code's own."""

import numpy as np
import pytest
import torch
from method_fixtures import SEEDED, close, gauss, pictures, small_sam, stored_numbers
from torch import Tensor

from samvideo.compress.slim import find_transformer
from samvideo.compress.slimsam import (
    disturbed_gradients,
    importance,
    keep_global,
    keep_local,
    kept_width,
    standardised,
)
from samvideo.encoders.sam_vit import SamVit
from samvideo.errors import ConfigError

FIXTURE = stored_numbers("slimsam--method")
RATIO, HEADS = 0.5, 4


def seeded(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The published names have q, k and v apart."""
    name = name.replace("mlp.layers.0", "mlp.lin1").replace("mlp.layers.1", "mlp.lin2")
    if ".qkv." in name:
        part = (shape[0] // 3, *shape[1:])
        return np.concatenate([seeded(name.replace("qkv", x), part) for x in "qkv"])
    array: np.ndarray = SEEDED.seeded_array(f"slim/{name}", shape)
    return array


def gradients(model: SamVit, step: int) -> None:
    noise = (0.01 * gauss(f"slim{step}/noise{f}", 1, 256, 16, 16) for f in range(4))
    disturbed_gradients(model, (pictures(f) for f in range(4)), lambda map_: map_ + next(noise))


def same(scores: Tensor, name: str, heads: int) -> None:
    """Stored are scores by their mean, repeated for each head."""
    close((scores / scores.mean()).repeat(heads), torch.from_numpy(FIXTURE[name]), 1e-5)


def test_both_steps() -> None:
    model = small_sam(seeded)
    gradients(model, 1)
    (embedding,) = find_transformer(model).embedding
    scores = importance(embedding)
    same(scores, "step1/importance", HEADS)
    kept = keep_local(scores, RATIO, HEADS, HEADS)
    assert kept.tolist() == FIXTURE["step1/kept"].tolist()
    embedding.keep(kept)
    with torch.no_grad():  # as published
        for block in model.blocks:
            block.attn.rel_pos_h.zero_()
            block.attn.rel_pos_w.zero_()
    gradients(model, 2)
    found = find_transformer(model)
    within, hidden = ([importance(one) for one in of] for of in (found.attention, found.hidden))
    within_kept, hidden_kept = keep_global(within, RATIO, HEADS, HEADS), keep_global(hidden, RATIO, 1, HEADS)
    for i in range(12):
        at = f"step2/local/importance/blocks.{i}"
        same(within[i], f"{at}.attn.v", HEADS)
        same(hidden[i], f"{at}.mlp.lin1", 1)
        assert keep_local(within[i], RATIO, HEADS, HEADS).tolist() == FIXTURE[f"step2/local/qkv_kept/{i}"].tolist()
        assert keep_local(hidden[i], RATIO, 1, HEADS).tolist() == FIXTURE[f"step2/local/mlp_kept/{i}"].tolist()
        at = f"step2/global/importance/blocks.{i}"
        close(standardised(within[i], HEADS).repeat(HEADS), torch.from_numpy(FIXTURE[f"{at}.attn.v"]), 1e-5)
        close(standardised(hidden[i], 1), torch.from_numpy(FIXTURE[f"{at}.mlp.lin1"]), 1e-5)
        assert within_kept[i].tolist() == FIXTURE[f"step2/global/qkv_kept/{i}"].tolist()
        assert hidden_kept[i].tolist() == FIXTURE[f"step2/global/mlp_kept/{i}"].tolist()
    for channels, stay in zip(found.attention + found.hidden, within_kept + hidden_kept, strict=True):
        channels.keep(stay)
    assert model(pictures(0))[0].shape == (1, 256, 16, 16)


def test_wrong_input_is_named() -> None:
    with pytest.raises(ConfigError, match="ratio 1"):
        kept_width(48, 1, 4)
    with pytest.raises(ConfigError, match="choose a smaller"):
        kept_width(48, 0.95, 4)
    with pytest.raises(ConfigError, match="no gradient"):
        importance(find_transformer(small_sam(seeded)).embedding[0])
