# SPDX-License-Identifier: Apache-2.0
"""Sizes around those at which weights are read where they lie: those of the inputs up to two rows,
the others up to a few, which W_hh's size decides."""

from dataclasses import replace

import pytest
import torch

from cases import Case, arguments
from operators import DTYPES, assert_identical, call, check, threads
from tolerance import assert_close

FEW_INPUTS = 2
SMALL = Case(T=1, N=1, D=19, H=37, L=2)
SHARED = replace(SMALL, H=161)  # enough for threads to share the units


def few_rows(case: Case) -> int:
    """As the kernels' caller has it: what packing W_hh costs, in rows that read it."""
    return 4 + (4 * case.H * case.out >> 16)


def around(case: Case) -> list[Case]:
    """As many steps, and as many rows, as lie next to a threshold; and both at once."""
    few = few_rows(case)
    counts = [1, FEW_INPUTS, FEW_INPUTS + 1, few, few + 1]
    longs = [replace(case, T=count) for count in counts]
    wides = [replace(case, N=count) for count in counts[1:]]
    return [*longs, *wides, replace(case, T=2, N=few // 2), replace(case, T=2, N=few // 2 + 1)]


SMALL_CASES = [
    *around(SMALL),
    *around(replace(SMALL, bidirectional=True, bias=False)),
    *around(replace(SMALL, P=23, peephole=True, reset=True)),
]
CASES = [*SMALL_CASES, *around(replace(SHARED, L=1)), *around(replace(SHARED, P=150, reset=True))]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case: Case, count: int) -> None:
    with threads(count):
        check(case, torch.float32, lanes=1)


@pytest.mark.parametrize("case", SMALL_CASES, ids=str)
def test_the_other_operator_and_type(case: Case) -> None:
    check(case, torch.float64, lanes=1)
    check(case, torch.float32, lanes=2)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_saved_changes_no_bit(case: Case, count: int) -> None:
    made = arguments(case, torch.float32)
    with threads(count), torch.no_grad():
        saved, bare = (call(case, made, save=save)[:3] for save in (True, False))
    assert_identical(dict(zip("abc", bare, strict=True)), dict(zip("abc", saved, strict=True)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("T", [1, FEW_INPUTS, FEW_INPUTS + 1])
def test_inputs_without_features(T: int, dtype: torch.dtype) -> None:
    # Like inputs that are zero: nothing but the biases and the state is left.
    case = replace(SMALL, T=T, D=1, L=1)
    made = arguments(case, dtype)
    made["input"].zero_()
    none = made | {"input": made["input"][..., :0]}
    none["weights"] = [made["weights"][0][:, :0], *made["weights"][1:]]
    for found, truth in zip(call(case, none)[:3], call(case, made)[:3], strict=True):
        assert_close(found, truth)
