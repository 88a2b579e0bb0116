# SPDX-License-Identifier: Apache-2.0
"""Compiled sparse matrices: their products in every form and instruction set, and what is refused.

The H-LSTM over them: test_h_lstm_sparse.py.
"""

import re

import pytest
import torch
from torch import Tensor

from child import instruction_sets, run_alone
from ltlstm_kernels.sparse import sparse_compile, sparse_linear
from sparse_masks import PATTERNS, mask_of
from tolerance import assert_close

F32, F64 = torch.float32, torch.float64
FORMS = (None, "rows", "columns", "windows")
# Columns that a permutation reaches, by the bytes of a vector; fewer than that have no windows.
WINDOW = {(64, F32): 32, (64, F64): 16, (32, F32): 8}
SIZES = [  # gates, rows, columns, rows of x
    (1, 1, 1, 1), (4, 7, 5, 3), (1, 33, 32, 1), (2, 16, 64, 2), (4, 17, 33, 9), (1, 65, 31, 13),
    (1, 128, 257, 1), (3, 5, 300, 17), (1, 40, 48, 0),
]  # fmt: skip
NOT_A_NUMBER = float("nan")


def poisoned(t: Tensor) -> Tensor:
    """A copy with NaN before and behind it: whatever is read there shows."""
    around = 64
    memory = torch.full((t.numel() + 2 * around,), NOT_A_NUMBER, dtype=t.dtype)
    copy = memory[around : around + t.numel()].view(t.shape)
    return copy.copy_(t)


def truth(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    gates = x.unflatten(1, (weight.shape[0], -1))
    y = torch.einsum("rgc,goc->rgo", gates, weight).flatten(1)
    return y if bias is None else y + bias


def has(form: str | None, isa: str, dtype: torch.dtype, columns: int) -> bool:
    return form != "windows" or 0 < WINDOW.get((instruction_sets()[isa], dtype), 0) <= columns


def check_products(isa: str) -> None:
    for number, (gates, rows, columns, R) in enumerate(SIZES):
        g = torch.Generator().manual_seed(number)
        dense = torch.randn(gates, rows, columns, generator=g)
        x, bias = torch.randn(R, gates * columns, generator=g), torch.randn(gates * rows)
        for pattern in PATTERNS:
            mask = mask_of(pattern, dense.shape, 0.1, seed=number)
            masked = torch.where(mask, dense, 0)
            bias_or_none = bias if number % 2 else None
            exact = truth(x.double(), masked.double(), bias.double() if number % 2 else None)
            plain = truth(x, masked, bias_or_none)
            for dtype in (F32, F64):
                garbage = torch.where(mask, dense, NOT_A_NUMBER).to(dtype)  # not to be read
                given = poisoned(x.to(dtype))
                for form in FORMS:
                    name = f"{isa} {SIZES[number]} {pattern} {form} {dtype}"
                    if not has(form, isa, dtype, columns):
                        with pytest.raises(
                            RuntimeError, match="form must be one that this machine"
                        ):
                            sparse_compile(garbage, mask, form)
                        continue
                    matrix = sparse_compile(garbage, mask, form)
                    of_bias = None if bias_or_none is None else bias.to(dtype)
                    y = sparse_linear(given, matrix, of_bias)
                    assert_close(y, exact, plain, name)
                    for i in range(R):  # a row does not depend on its neighbours
                        assert torch.equal(
                            sparse_linear(given[i : i + 1], matrix, of_bias)[0], y[i]
                        )


@pytest.mark.parametrize("isa", instruction_sets())
def test_products(isa: str) -> None:
    run_alone(check_products, isa, LTLSTM_CPU_ISA=isa)


def test_without_a_mask_zeros_are_left_out() -> None:
    weight = torch.randn(20, 40).masked_fill_(torch.rand(20, 40) < 0.9, 0)
    assert torch.equal(sparse_compile(weight), sparse_compile(weight, weight != 0))


def check_forms() -> None:
    """Each pattern takes the form that is made for it, and no more memory than that needs."""
    weight = torch.randn(256, 256)
    # By pattern, the bytes of an entry times the fewest entries that could do.
    least = {
        "tall": (16 * 4 + 2) * mask_of("tall", weight.shape).sum() / 16,
        "blocks": (16 * 4 + 2) * mask_of("blocks", weight.shape).sum() / 16,
        "banks": (16 * 4 + 16 + 2) * mask_of("banks", weight.shape).sum() / 16,
        "element": 2.5 * (16 * 4 + 16 + 2) * mask_of("element", weight.shape).sum() / 16,
    }
    for pattern, bytes_ in least.items():
        found = sparse_compile(weight, mask_of(pattern, weight.shape)).numel()
        assert bytes_ * 0.6 < found < bytes_ * 1.1 + 2048, (pattern, found, bytes_)


@pytest.mark.skipif("avx512" not in instruction_sets(), reason="the sizes are those of AVX-512")
def test_each_pattern_takes_its_form() -> None:
    run_alone(check_forms, LTLSTM_CPU_ISA="avx512")


WEIGHT, MASK = torch.randn(6, 40), torch.rand(6, 40) < 0.3
MASK[:, -1] = False
BAD_COMPILE = {
    "half": ((WEIGHT.half(),), "weight must be float32 or float64, got float16"),
    "rank": ((WEIGHT[0],), "weight must have shape (rows, columns) or (gates, rows, columns)"),
    "empty": ((WEIGHT[:0],), "weight must not be empty, got (0, 40)"),
    "wide": ((torch.zeros(1, 40000),), "weight must have at most 32767 columns"),
    "mask shape": ((WEIGHT, MASK[:5]), "mask must be a contiguous bool CPU tensor of shape (6"),
    "mask dtype": ((WEIGHT, MASK.float()), "mask must be a contiguous bool CPU tensor"),
    "form": ((WEIGHT, MASK, "blocks"), "form must be rows, columns, windows or None, got blocks"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_COMPILE)
def test_what_cannot_be_compiled_is_refused(name: str) -> None:
    arguments, text = BAD_COMPILE[name]
    with pytest.raises(RuntimeError, match=re.escape(f"sparse_compile: {text}")):
        sparse_compile(*arguments)


COMES = "sparse_linear: matrix must come from sparse_compile, for this dtype and on this machine"


def altered(form: str, place: int, value: int, dtype: torch.dtype) -> Tensor:
    """The bytes with one number, counted in its own size, replaced."""
    matrix = sparse_compile(WEIGHT, MASK, form)
    numbers = matrix[: matrix.numel() // 8 * 8].view(dtype)
    numbers[place] = value
    return matrix


# Header: magic, scalar size, lanes, form, gates, width, columns, entries; then the starts of lines.
BAD_MATRIX = {
    "nothing": (torch.empty(0, dtype=torch.uint8), "too short"),
    "short": (torch.zeros(63, dtype=torch.uint8), "too short"),
    "zeros": (torch.zeros(640, dtype=torch.uint8), "not a compiled matrix"),
    "double": (sparse_compile(WEIGHT.double(), MASK), "compiled for another dtype"),
    "cut": (sparse_compile(WEIGHT, MASK)[:-4].clone(), "a damaged matrix"),
    "lanes": (altered("rows", 2, 5, torch.int64), "compiled for another instruction set"),
    "form": (altered("rows", 3, 3, torch.int64), "a damaged matrix"),
    "another form": (altered("rows", 3, 1, torch.int64), "a damaged matrix"),
    "no gates": (altered("rows", 4, 0, torch.int64), "a damaged matrix"),
    "many gates": (altered("rows", 4, 2**62, torch.int64), "a damaged matrix"),
    "width": (altered("rows", 5, 2**40, torch.int64), "a damaged matrix"),
    "one column less": (altered("rows", 6, 39, torch.int64), "sparse_linear: x must"),
    "few columns": (altered("rows", 6, 2, torch.int64), "a damaged matrix"),
    "entries": (altered("rows", 7, -1, torch.int64), "a damaged matrix"),
    "first start": (altered("rows", 16, 1, torch.int32), "a damaged matrix"),
    "falling starts": (altered("rows", 17, 10**6, torch.int32), "a damaged matrix"),
    "negative place": (altered("rows", 64, -1, torch.int16), "a damaged matrix"),
    "place": (altered("columns", 64, 40, torch.int16), "a damaged matrix"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MATRIX)
def test_bytes_that_are_no_matrix_are_refused(name: str) -> None:
    matrix, text = BAD_MATRIX[name]
    with pytest.raises(RuntimeError, match=re.escape(text)) as found:
        sparse_linear(torch.randn(2, 40), matrix)
    assert "sparse_linear: " in str(found.value)


def test_arguments_of_the_product_are_checked() -> None:
    matrix, x = sparse_compile(WEIGHT, MASK), torch.randn(2, 40)
    for arguments, text in (
        ((x[0], matrix), "x must have 2 dimensions (R, features), got 1"),
        ((x.half(), matrix), "x must be float32 or float64, got float16"),
        ((x[:, 1:], matrix), "x must be a contiguous float32 CPU tensor of shape (2, 40)"),
        ((x, matrix.int()), "matrix must be a contiguous uint8 CPU tensor of 1 dimension"),
        ((x, matrix[None]), "matrix must be a contiguous uint8 CPU tensor of 1 dimension"),
        ((x, matrix, torch.zeros(7)), "bias must be a contiguous float32 CPU tensor of shape (6)"),
    ):
        with pytest.raises(RuntimeError, match=re.escape(f"sparse_linear: {text}")):
            sparse_linear(*arguments)
    shifted = torch.empty(matrix.numel() + 1, dtype=torch.uint8)[1:].copy_(matrix)
    with pytest.raises(RuntimeError, match=re.escape(f"{COMES}, got a view that is not aligned")):
        sparse_linear(x, shifted)
