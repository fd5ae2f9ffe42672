"""Prompt encoder, mask decoder, pointers."""

import torch

from samvideo.heads.masks import MaskDecoder, best_alternative, single_if_stable, stability
from samvideo.heads.pointers import PointerHead
from samvideo.heads.prompt_encoder import PromptEncoder
from samvideo.tensors import PromptTensors


@torch.inference_mode()
def test_labels_choose_embeddings_and_padding_says_nothing() -> None:
    encoder = PromptEncoder(8)
    xy = torch.tensor([[[3.0, 5.0], [3.0, 5.0], [9.0, 1.0]]])
    tokens = encoder.points(PromptTensors(xy, torch.tensor([[1, 0, -1]])), (16, 16))
    assert tokens.shape == (1, 4, 8)
    rows = [e.weight[0] for e in encoder.point_embeddings]
    assert torch.allclose(tokens[0, 0] - rows[1], tokens[0, 1] - rows[0], atol=1e-6)
    assert torch.equal(tokens[0, 2], encoder.not_a_point_embed.weight[0])
    assert torch.equal(tokens[0, 3], encoder.not_a_point_embed.weight[0])


@torch.inference_mode()
def test_points_and_cells_share_one_code() -> None:
    """A point at a cell's centre has the cell's code; half a pixel is added to points, so 7.5 stands for 8."""
    encoder = PromptEncoder(8)
    grid = encoder.grid_code((2, 4))
    assert grid.shape == (1, 8, 2, 4)
    point = PromptTensors(torch.tensor([[[7.5 + 16, 7.5]]]), torch.tensor([[1]]))
    token = encoder.points(point, (64, 32))[0, 0] - encoder.point_embeddings[1].weight[0]
    assert torch.allclose(token, grid[0, :, 0, 1], atol=1e-5)


def test_stability() -> None:
    logits = torch.full((3, 2, 2), 1.0)
    logits[1, 0] = 0.01  # half of the area hangs on the threshold
    logits[2] = -1.0
    assert stability(logits).tolist() == [1.0, 0.5, 1.0]


@torch.inference_mode()
def test_unstable_single_masks_give_way_to_the_best_alternative() -> None:
    torch.manual_seed(0)
    decoder = MaskDecoder(width=32)
    candidates = decoder(torch.randn(2, 32, 4, 4), torch.randn(1, 32, 4, 4), torch.randn(2, 3, 32), ())
    assert candidates.logits_bnhw.shape == (2, 4, 16, 16)
    best = 1 + candidates.quality_bn[:, 1:].argmax(1)
    assert torch.equal(best_alternative(candidates), best)
    stable = stability(candidates.logits_bnhw[:, 0]) >= 0.98
    assert torch.equal(single_if_stable(candidates), torch.where(stable, 0, best))


@torch.inference_mode()
def test_pointers() -> None:
    plain, timed = PointerHead(timed=False), PointerHead(timed=True)
    pointer = torch.randn(2, 256)
    kept = plain.where_present(pointer, torch.tensor([True, False]))
    assert torch.equal(kept[0], pointer[0])
    assert torch.equal(kept[1], plain.no_obj_ptr[0])
    assert torch.equal(plain.tokens(pointer[:, None])[0, 1], pointer[0, 64:128])
    ages = torch.tensor([[0.0, 3.0, -3.0]])
    assert not plain.age_code(ages).any()
    code = timed.age_code(ages)
    assert code.shape == (1, 12, 64)
    assert torch.equal(code[0, 4], code[0, 7])
    assert not torch.allclose(code[0, 4], code[0, 8]), "the code knows past from future"
    assert not torch.allclose(timed.age_code(ages, span=3)[0, 4], code[0, 4])
