"""Position codes."""

import math

import torch

from samvideo.nn.position import _sine_grid, sine_grid, sine_time
from samvideo.nn.rope import _rotary_table, project_rotated, quarter_turn, rotary_table, rotate

CPU = torch.device("cpu")


def turn(x: torch.Tensor) -> torch.Tensor:
    return quarter_turn(x.transpose(0, -1)).transpose(0, -1)


def test_rotation_keeps_lengths_and_knows_distances_only() -> None:
    """The product of two rotated vectors depends on how far apart their places are, not on where they are."""
    table = rotary_table((4, 5), 16, CPU, torch.float32)
    q, k = torch.randn(16), torch.randn(16)
    rotated_q, rotated_k = (rotate(x.expand(20, 16), turn(x.expand(20, 16)), table) for x in (q, k))
    assert torch.allclose(rotated_q.norm(dim=1), q.norm().expand(20), atol=1e-5)
    place = {(y, x): 5 * y + x for y in range(4) for x in range(5)}
    one = rotated_q[place[0, 0]] @ rotated_k[place[1, 2]]
    other = rotated_q[place[2, 1]] @ rotated_k[place[3, 3]]
    assert torch.allclose(one, other, atol=1e-4)
    assert not torch.allclose(one, rotated_q[place[0, 0]] @ rotated_k[place[2, 1]], atol=1e-3)


def test_rotation_is_the_complex_product() -> None:
    table = rotary_table((3, 3), 8, CPU, torch.float32)
    x = torch.randn(2, 9, 8)
    angles = torch.complex(table.cos, table.sin)[:, ::2]
    expected = torch.view_as_real(torch.view_as_complex(x.view(2, 9, 4, 2)) * angles).flatten(2)
    assert torch.allclose(rotate(x, turn(x), table), expected, atol=1e-6)


def test_projecting_and_rotating_in_one_go() -> None:
    layer = torch.nn.Linear(6, 8)
    x = torch.randn(2, 9, 6)
    projected = layer(x)
    expected = rotate(projected, turn(projected), rotary_table((3, 3), 8, CPU, torch.float32))
    assert torch.allclose(project_rotated(layer, x, (3, 3)), expected, atol=1e-5)


def test_sine_grid_runs_to_two_pi_with_y_first() -> None:
    code = sine_grid((4, 8), 8, CPU, torch.float32)
    assert code.shape == (1, 8, 4, 8)
    assert math.isclose(float(code[0, 0, 0, 0]), math.sin(2 * math.pi / 4), rel_tol=1e-4)
    assert math.isclose(float(code[0, 4, 0, 0]), math.sin(2 * math.pi / 8), rel_tol=1e-4)
    assert torch.equal(code[0, :4, :, 0], code[0, :4, :, 5])


def test_sine_time_is_odd_in_its_first_half() -> None:
    ahead, behind = sine_time(torch.tensor([0.4, -0.4]), 8)
    assert torch.equal(ahead[:4], -behind[:4])
    assert torch.equal(ahead[4:], behind[4:])


def test_cached_codes_serve_training() -> None:
    _sine_grid.cache_clear()
    _rotary_table.cache_clear()
    with torch.inference_mode():
        grid, table = sine_grid((2, 2), 8, CPU, torch.float32), rotary_table((2, 2), 8, CPU, torch.float32)
    x = torch.randn(4, 8, requires_grad=True)
    (rotate(x, turn(x), table) * grid.flatten(2).transpose(1, 2)).sum().backward()
    assert x.grad is not None
