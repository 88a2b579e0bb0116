# SPDX-License-Identifier: Apache-2.0
"""The pointwise cell operator against the reference."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import ltlstm.autograd  # noqa: F401
from ltlstm import reference
from ltlstm_kernels import ops
from operators import DTYPES, F64, Calls, Named, assert_identical, poisoned_memory, threads
from tolerance import assert_all_close

SIZES = [(0, 5), (1, 1), (3, 7), (17, 33), (129, 64)]
NAMES = ("preact", "c", "peephole")


def make(rows: int, h: int, peephole: bool, dtype: torch.dtype, scale: float = 2.0) -> list[Any]:
    g = torch.Generator().manual_seed(0)
    preact = torch.randn(rows, 4 * h, generator=g) * scale
    c = torch.randn(rows, h, generator=g) * scale
    p = torch.randn(3, h, generator=g).to(dtype) if peephole else None
    return [preact.to(dtype), c.to(dtype), p]


def evaluate(how: Any, given: list[Any], paths: tuple[int, ...] = (0, 1)) -> Named:
    wanted = {k: t.requires_grad_() for k, t in zip(NAMES, given, strict=True) if t is not None}
    results = how(*given)
    g = torch.Generator().manual_seed(5)
    outer = [torch.randn(r.shape, generator=g).to(r.dtype) for r in results]
    grads = torch.autograd.grad(
        [results[i] for i in paths], list(wanted.values()), [outer[i] for i in paths]
    )
    named = {f"d_{k}": grad for k, grad in zip(wanted, grads, strict=True)}
    return {"h": results[0], "c_new": results[1], **named}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("paths", [(0,), (1,), (0, 1)], ids=["h", "c", "both"])
@pytest.mark.parametrize("peephole", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_and_gradients(
    size: tuple[int, int], peephole: bool, paths: tuple[int, ...], dtype: torch.dtype
) -> None:
    assert_all_close(
        evaluate(ops.cell_forward, make(*size, peephole, dtype), paths),
        evaluate(reference.cell, make(*size, peephole, F64), paths),
        evaluate(reference.cell, make(*size, peephole, torch.float32), paths),
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 50.0, 1e4, 1e30])
def test_tiny_and_huge_values(scale: float) -> None:
    assert_all_close(
        evaluate(ops.cell_forward, make(17, 33, False, torch.float32, scale)),
        evaluate(reference.cell, make(17, 33, False, F64, scale)),
        evaluate(reference.cell, make(17, 33, False, torch.float32, scale)),
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_values_stay_in_their_cell(bad: float) -> None:
    given = make(7, 33, True, torch.float32)
    clean = ops.cell_forward(*given)
    for gate in range(4):
        preact = given[0].clone()
        preact[3, gate * 33 + 20] = bad
        spoiled = ops.cell_forward(preact, *given[1:])
        expected = reference.cell(preact, *given[1:])
        for a, b, c in zip(spoiled, clean, expected, strict=True):
            others = torch.ones_like(a, dtype=torch.bool)
            others[3, 20] = False
            assert torch.equal(a[others], b[others])
            assert_identical({"": a[3, 20].sign()}, {"": c[3, 20].sign()})


def test_strided_poisoned_and_threaded_runs_are_bit_equal() -> None:
    given = make(129, 64, True, torch.float32)
    plain = evaluate(ops.cell_forward, given)
    strided = [t.detach().t().contiguous().t() for t in given]
    assert_identical(evaluate(ops.cell_forward, strided), plain)
    with poisoned_memory():
        assert_identical(evaluate(ops.cell_forward, make(129, 64, True, torch.float32)), plain)
    with threads(2):
        assert_identical(evaluate(ops.cell_forward, make(129, 64, True, torch.float32)), plain)


@pytest.mark.parametrize("peephole", [False, True])
def test_gradcheck_and_gradgradcheck(peephole: bool) -> None:
    given = [t for t in make(3, 2, peephole, F64, scale=1.0) if t is not None]
    flat = tuple(t.requires_grad_() for t in given)

    def function(preact: Tensor, c: Tensor, p: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return ops.cell_forward(preact, c, p)

    assert torch.autograd.gradcheck(function, flat)
    assert torch.autograd.gradgradcheck(function, flat)


def test_first_derivatives_stay_on_the_kernel() -> None:
    with Calls() as calls:
        evaluate(ops.cell_forward, make(3, 7, True, torch.float32))
    assert calls.ours() == ["ltlstm::cell_forward", "ltlstm::cell_backward"]


def test_the_cell_keeps_no_more_than_its_arguments() -> None:
    given = make(3, 7, True, torch.float32)
    kept: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        evaluate(ops.cell_forward, given)
    addresses = {t.data_ptr() for t in given}
    assert {t.data_ptr() for t in kept} <= addresses
