"""The memory of the bundled model: an online target model in closed form, and affinity to earlier frames."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo import registry
from samvideo.memory.affinity import Affinity, AffinityConfig
from samvideo.memory.ridge import LABELS, Ridge, balanced
from samvideo.memory.target import CODES, TargetMemory
from samvideo.tensors import Features, MemoryContext

GRID = 4, 6
CELLS = GRID[0] * GRID[1]
SIZE = 4 * GRID[0], 4 * GRID[1]
CODE = {name: index for index, name in enumerate(CODES)}
PRESENT, ABSENT = torch.tensor([True]), torch.tensor([False])


def mask_of_cells(*cells: tuple[int, int]) -> Tensor:
    """(1, 1, 16, 24) mask at stride 4 that fills cells of stride 16."""
    coarse = torch.zeros(1, 1, *GRID)
    for y, x in cells:
        coarse[..., y, x] = 1
    return F.interpolate(coarse, scale_factor=4.0)


OBJECT = mask_of_cells((1, 1), (1, 2), (2, 2))


def codes(*rows: dict[str, float]) -> Tensor:
    """(1, R, 3) codes of R frames; what is not given is 0."""
    out = torch.zeros(1, len(rows), len(CODES))
    for index, row in enumerate(rows):
        for name, value in row.items():
            out[0, index, CODE[name]] = value
    return out


def plain_ridge(width: int = 3) -> Ridge:
    """A target model at stride 16 whose pixels have their balanced weight alone, and hardly a ridge."""
    ridge = Ridge(width, coarse=8)
    with torch.no_grad():
        ridge.log_ridge.fill_(-14.0)
        ridge.labels.layers[-1].weight.zero_()
        ridge.labels.layers[-1].bias.zero_()
    return ridge


def embeddings(mask: Tensor, on_object: int, elsewhere: int, width: int = 3) -> Tensor:
    """(1, N, width + 1) unit vectors along one axis on the object and another elsewhere, and the constant."""
    inside = F.avg_pool2d(mask, 4).flatten() > 0.5
    axis = torch.where(inside, on_object, elsewhere)
    return F.pad(F.one_hot(axis, width).float(), (0, 1), value=1.0)[None]


@torch.inference_mode()
def scores(ridge: Ridge, query: Tensor, rows: list[Tensor], frames: Tensor) -> Tensor:
    """(h, w) scores of the mask itself."""
    return ridge.read(query, torch.stack(rows, 1), frames, GRID, False)[0, 0]


@torch.inference_mode()
def test_a_separable_object_is_fitted_exactly() -> None:
    ridge, query = plain_ridge(), embeddings(OBJECT, 0, 1)
    rows = ridge.write(query, torch.zeros(1), OBJECT, PRESENT)
    assert rows.shape == (1, ridge.rows(CELLS), ridge.token_width)
    expected = 2 * F.avg_pool2d(OBJECT, 4)[0, 0] - 1
    assert torch.allclose(scores(ridge, query, [rows], codes({})), expected, atol=1e-3)
    elsewhere = mask_of_cells((0, 5))
    moved = scores(ridge, embeddings(elsewhere, 0, 1), [rows], codes({}))
    assert torch.allclose(moved, 2 * F.avg_pool2d(elsewhere, 4)[0, 0] - 1, atol=1e-3)


@torch.inference_mode()
def test_object_and_background_count_alike() -> None:
    """Pixels that all look alike are scored 0, the mean of both labels, however small the object is."""
    weights = balanced(F.avg_pool2d(OBJECT, 4))
    assert weights[0, 0, 1, 1] * 3 == pytest.approx(0.5)
    assert weights.sum() == pytest.approx(1.0)
    ridge, query = plain_ridge(), embeddings(OBJECT, 0, 0)
    rows = ridge.write(query, torch.zeros(1), OBJECT, PRESENT)
    assert scores(ridge, query, [rows], codes({})).abs().max() < 1e-3


@torch.inference_mode()
def test_frames_count_as_their_codes_say() -> None:
    """Two frames contradict each other: the code decides, not the order; frames without the object count less."""
    ridge, query = plain_ridge(), embeddings(OBJECT, 0, 1)
    other = mask_of_cells(*((y, x) for y in range(4) for x in range(6) if OBJECT[0, 0, 4 * y, 4 * x] == 0))
    one, opposite = (ridge.write(query, torch.zeros(1), mask, PRESENT) for mask in (OBJECT, other))
    heavy, light = {"ridge weight": 1.0}, {"ridge weight": -1.0}
    mixed = scores(ridge, query, [one, opposite], codes(heavy, light))
    assert torch.equal(mixed, scores(ridge, query, [opposite, one], codes(light, heavy)))
    assert mixed[1, 1] > 0 > mixed[0, 0]
    assert scores(ridge, query, [one, opposite], codes(light, heavy))[0, 0] > 0
    absent = ridge.write(query, torch.zeros(1), torch.zeros_like(OBJECT), ABSENT)
    present = ridge.write(query, torch.zeros(1), torch.zeros_like(OBJECT), PRESENT)
    assert torch.allclose(absent, present * ridge.absent.exp())


def test_the_fine_map_makes_finer_scores() -> None:
    """At stride 8, the four pixels of a cell are scored one by one."""
    torch.manual_seed(0)
    ridge = Ridge(6, coarse=8, fine=5)
    coarse, eighth = torch.randn(1, 8, *GRID), torch.randn(1, 5, 2 * GRID[0], 2 * GRID[1])
    query = ridge.query(coarse, eighth)
    rows = ridge.write(query, coarse, OBJECT, PRESENT)
    found = ridge.read(query, rows[:, None], codes({}), GRID, False)
    assert found.shape == (1, 4 * LABELS, *GRID)
    changed = eighth.clone()
    changed[..., 3, 5] += 3
    difference = (ridge.query(coarse, changed) - query).abs().sum(2).view(GRID) > 0
    assert difference.nonzero().tolist() == [[y, x] for y in (1, 2) for x in (2, 3)], (
        "a convolution of 3 x 3 around it"
    )


KEYS = 10.0 * torch.eye(CELLS)


def plain_affinity() -> Affinity:
    return Affinity(AffinityConfig(width=8, key_width=CELLS, value_width=8))


def shown(read: Tensor) -> Tensor:
    """(h, w): the part of a read map that is the mask of each cell, as the affinity says."""
    return read[0, -32:-16].mean(0)


def kept(read: Tensor) -> Tensor:
    """(h, w): the mask of the newest frame as it is."""
    return read[0, -16:].mean(0)


@torch.inference_mode()
def test_the_mask_moves_with_the_keys() -> None:
    torch.manual_seed(0)
    affinity = plain_affinity()
    where = torch.arange(CELLS).view(GRID)
    before, coarse = KEYS[where.flatten()][None], torch.randn(1, 8, *GRID)
    rows = affinity.write(before, coarse, OBJECT, PRESENT)
    assert rows.shape == (1, affinity.rows(CELLS), affinity.token_width)
    wide = codes({"affinity locality": -20.0})
    now = KEYS[where.roll((1, 2), (0, 1)).flatten()][None]
    moved = shown(affinity.read(now, rows[:, None], wide, GRID, False))
    assert torch.allclose(moved, F.avg_pool2d(OBJECT, 4)[0, 0].roll((1, 2), (0, 1)), atol=1e-4)
    local = affinity.read(now, rows[:, None], codes({"affinity locality": 5.0}), GRID, False)
    assert torch.allclose(shown(local), F.avg_pool2d(OBJECT, 4)[0, 0], atol=1e-4)
    assert torch.equal(kept(local), F.avg_pool2d(OBJECT, 4)[0, 0])


@torch.inference_mode()
def test_only_the_first_frame_and_the_newest_are_read() -> None:
    torch.manual_seed(0)
    affinity, alike = plain_affinity(), torch.ones(1, CELLS, CELLS)
    masks = [mask_of_cells(*[(0, 0), (1, 1), (2, 2), (3, 3)][: n + 1]) for n in range(4)]
    rows = [affinity.write(alike, torch.randn(1, 8, *GRID), mask, PRESENT) for mask in masks]
    wide = {"affinity locality": -20.0}
    later = {"affinity bias": 0.5, **wide}

    def read(*frames: Tensor) -> Tensor:
        return affinity.read(alike, torch.stack(frames, 1), codes(wide, *[later] * (len(frames) - 1)), GRID, False)

    ends = read(rows[0], rows[3])
    assert torch.equal(read(*rows), ends)
    assert not torch.allclose(read(rows[3], rows[0]), ends, atol=1e-3), "of different bias"
    first, newest = 1 / (1 + torch.tensor(0.5).exp()), 1 / (1 + torch.tensor(-0.5).exp())
    assert torch.allclose(shown(ends), (first * 1 + newest * 4) / CELLS * torch.ones(GRID), atol=1e-5)
    assert torch.equal(kept(ends), F.avg_pool2d(masks[3], 4)[0, 0])


def memory(seed: int = 0) -> tuple[TargetMemory, Features]:
    """Both readers with random weights, and features of one frame."""
    torch.manual_seed(seed)
    method = registry.MEMORY_METHODS.build("affinity-ridge", fine_widths=(6, 10))
    assert isinstance(method, TargetMemory)
    with torch.no_grad():
        method.frame_codes.normal_()
    return method.eval(), frame(method)


def frame(method: TargetMemory) -> Features:
    coarse = torch.randn(1, 256, *GRID)
    features = Features(coarse, (torch.randn(1, 6, *SIZE), torch.randn(1, 10, SIZE[0] // 2, SIZE[1] // 2)))
    return features._replace(self_attended=method.self_attend(features))


def context(method: TargetMemory, rows: list[Tensor], at: list[int], **rest: Tensor) -> MemoryContext:
    position = method.frame_codes[torch.tensor(at), 0, 0][None, :, None].expand(len(rows[0]), -1, -1, -1)
    none = rows[0].new_zeros(1, 0, 1)
    return MemoryContext(torch.stack(rows, 1), position, 0, GRID, none, none, **rest)


@pytest.mark.parametrize("count", [1, 2, 3])
@torch.inference_mode()
def test_padding_changes_nothing(count: int) -> None:
    """Nor what lies in it."""
    method, now = memory()
    at = [6, 2, 0][:count]
    rows = [method.write(frame(method), mask_of_cells((0, n), (2, 1 + n)), PRESENT) for n in range(count)]
    padding = [torch.full_like(rows[0], 1e3)] * 2
    mask = torch.arange(count + 2)[None] < count
    growing = method.attend(now, context(method, rows, at))
    padded = method.attend(now, context(method, rows + padding, [*at, 0, 0], frame_mask=mask))
    assert torch.allclose(padded, growing, atol=1e-4)


@torch.inference_mode()
def test_scales_of_frames_are_shares() -> None:
    """A frame whose scale is next to nothing is as good as not there; scales that are all alike change nothing."""
    method, now = memory()
    rows = [method.write(frame(method), mask_of_cells((0, n)), PRESENT) for n in range(2)]
    both = method.attend(now, context(method, rows, [6, 0]))
    scaled = method.attend(now, context(method, rows, [6, 0], frame_scale=torch.tensor([[0.3, 0.3]])))
    assert torch.allclose(scaled, both, atol=1e-4)
    newest = method.attend(now, context(method, rows, [6, 0], frame_scale=torch.tensor([[1e-12, 1.0]])))
    assert torch.allclose(newest, method.attend(now, context(method, rows[1:], [0])), atol=1e-4)
    assert not torch.allclose(both, newest, atol=1e-2)


@torch.inference_mode()
def test_objects_of_a_batch_are_independent() -> None:
    method, now = memory()
    masks = torch.cat([OBJECT, mask_of_cells((3, 3), (3, 4)), torch.zeros_like(OBJECT)])
    present, features = torch.tensor([True, True, False]), frame(method)
    together = method.write(features, masks, present)
    alone = [method.write(features, masks[n : n + 1], present[n : n + 1]) for n in range(3)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    both = method.attend(now, context(method, [together], [6]))
    each = [method.attend(now, context(method, [rows], [6])) for rows in alone]
    assert torch.allclose(both, torch.cat(each), atol=1e-3)


def test_features_are_learned_for_the_target_model() -> None:
    """The solution is differentiable: a step along its gradient lowers the loss on the next frame."""
    method, now = memory()
    earlier = frame(method)
    target = 2 * F.avg_pool2d(OBJECT, 4)[0, 0] - 1

    def loss() -> Tensor:
        first = method.write(earlier._replace(self_attended=method.self_attend(earlier)), OBJECT, PRESENT)
        scored = method.read(now._replace(self_attended=method.self_attend(now)), context(method, [first], [6]))
        return ((scored[0][0, 0] - target) ** 2).mean()

    before = loss()
    weight = method.readers[0].project.weight
    (gradient,) = torch.autograd.grad(before, weight)
    with torch.no_grad():
        weight -= 0.02 * gradient / gradient.norm()
    assert loss() < before
