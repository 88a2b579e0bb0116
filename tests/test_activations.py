# SPDX-License-Identifier: Apache-2.0
"""The kernels' logistic function and tanh over the whole range of float32, against float64.

They show through the bare cell, whose other gates are set wide open or shut.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from child import instruction_sets, run_alone
from ltlstm_kernels import ops

OPEN, SHUT = 100.0, -100.0  # a gate of exactly 1, and one of exactly 0
SMALLEST_NORMAL = torch.finfo(torch.float32).tiny
FEW_ULPS = 3.0
WIDTHS = (1, 7, 16, 37, 4096)  # less than a vector, one, one and a rest


def cell(H: int, gates: tuple[Tensor | float, ...], c: Tensor | float) -> tuple[Tensor, Tensor]:
    """h and the new c of a cell whose gates i, f, g, o and state are numbers or (R, H)."""
    (shape,) = {t.shape for t in (*gates, c) if isinstance(t, Tensor)}
    full = [t if isinstance(t, Tensor) else torch.full(shape, t) for t in (*gates, c)]
    assert shape[1] == H
    return ops.cell_forward(torch.cat(full[:4], 1), full[4], None)


def logistic(x: Tensor) -> Tensor:
    return cell(x.shape[1], (x, SHUT, OPEN, OPEN), 0.0)[1]


def output_gate(x: Tensor) -> Tensor:
    return cell(x.shape[1], (SHUT, OPEN, 0.0, x), OPEN)[0]


def tanh(x: Tensor) -> Tensor:
    # -0 + -0 keeps the sign of a zero.
    return cell(x.shape[1], (OPEN, SHUT, x, OPEN), -0.0)[1]


def tanh_of_the_cell(x: Tensor) -> Tensor:
    return cell(x.shape[1], (SHUT, OPEN, -0.0, OPEN), x)[0]


FUNCTIONS: dict[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] = {
    logistic: torch.sigmoid,
    output_gate: torch.sigmoid,
    tanh: torch.tanh,
    tanh_of_the_cell: torch.tanh,
}


def floats() -> Tensor:
    """Every 4099th float of either sign, and every one near where the kernels change their ways."""
    bits = torch.arange(-(2**31), 2**31, 4099)
    edges = torch.tensor([0.625, 10.0, 87.33654, 88.0, 88.72284, 89.0, SMALLEST_NORMAL, 0.0])
    near = edges.view(torch.int32)[:, None] + torch.arange(-500, 500)
    near = near.clamp(min=0).flatten()
    all_bits = torch.cat([bits.int(), near.int(), (near - 2**31).int()])
    return all_bits.view(torch.float32)


def ulps(found: Tensor, truth: Tensor) -> Tensor:
    exponent = truth.abs().clamp(min=SMALLEST_NORMAL).frexp().exponent
    return (found.double() - truth).abs() / torch.ldexp(torch.ones_like(truth), exponent - 24)


def over_the_whole_range() -> None:
    x = floats()
    for ours, theirs in FUNCTIONS.items():
        for H in WIDTHS[1:]:
            some = x[:: 1 if H == WIDTHS[-1] else 101]
            some = some[: len(some) // H * H].view(-1, H)
            found, truth = ours(some), theirs(some.double())
            name = f"{ours.__name__}, {H} units"
            assert torch.equal(found.isnan(), some.isnan()), name
            normal = truth.abs() >= SMALLEST_NORMAL
            worst = ulps(found, truth)[normal].max().item()
            print(name, worst, flush=True)
            assert worst <= FEW_ULPS, f"{name}: {worst} ulp"
            small = ~normal & ~some.isnan()
            assert (found[small].abs() <= SMALLEST_NORMAL).all(), name
            assert (found.abs() <= 1)[~some.isnan()].all(), name


@pytest.mark.parametrize("isa", instruction_sets())
def test_the_whole_range(isa: str) -> None:
    run_alone(over_the_whole_range, LTLSTM_CPU_ISA=isa)


@pytest.mark.parametrize("ours", [tanh, tanh_of_the_cell])
def test_tanh_of_the_smallest_is_the_smallest(ours: Callable[[Tensor], Tensor]) -> None:
    x = torch.tensor([[0.0, -0.0, 1e-45, -1e-45, 1e-39, -1e-39, SMALLEST_NORMAL, 1e-30]])
    assert torch.equal(ours(x).view(torch.int32), x.view(torch.int32))


def test_where_both_end() -> None:
    inf = torch.inf
    x = torch.tensor([[inf, -inf, 3e38, -3e38, 89.0, -89.0]])
    ones = torch.tensor([[1.0, 0, 1, 0, 1, 0]])
    for ours in (logistic, output_gate):
        assert torch.equal(ours(x), ones)
    for ours in (tanh, tanh_of_the_cell):
        assert torch.equal(ours(x), 2 * ones - 1)


@pytest.mark.parametrize("ours", FUNCTIONS)
def test_a_unit_has_the_same_bits_wherever_it_lies(ours: Callable[[Tensor], Tensor]) -> None:
    values = torch.randn(200, 1) * 4
    (alone,) = (ours(values),)
    for H in WIDTHS[1:4]:
        assert torch.equal(ours(values.expand(200, H)), alone.expand(200, H))
