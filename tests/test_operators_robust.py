# SPDX-License-Identifier: Apache-2.0
"""Determinism, uninitialised memory, and values that are no numbers."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cases import EVERYTHING, TOGETHER, Case, arguments
from ltlstm_kernels import ops
from operators import (
    F64,
    Named,
    assert_identical,
    call,
    leaves,
    names,
    operator,
    oracle,
    poisoned_memory,
    run,
    threads,
)
from tolerance import assert_close

LANES = pytest.mark.parametrize("lanes", [1, 2], ids=["lstm_stack", "lt_lstm"])
PADDED = replace(EVERYTHING, packed=False)
WIDE = Case(T=9, N=17, D=33, H=65, L=3, bidirectional=True, packed=True)
CASES = [EVERYTHING, PADDED, WIDE, replace(EVERYTHING, N=0, packed=False)]


def everything(case: Case, lanes: int, count: int = 1) -> Named:
    with threads(count):
        return run(operator, case, arguments(case, torch.float32, lanes), names(lanes))


@LANES
@pytest.mark.parametrize("case", CASES, ids=str)
def test_bit_equal_from_run_to_run_and_on_two_threads(case: Case, lanes: int) -> None:
    first = everything(case, lanes)
    assert_identical(everything(case, lanes), first)
    assert_identical(everything(case, lanes, count=2), first)


@LANES
@pytest.mark.parametrize("case", TOGETHER, ids=str)
def test_bit_equal_from_run_to_run_where_threads_meet(case: Case, lanes: int) -> None:
    # Not against one thread: at these sizes torch's own products differ in the last bit by then.
    first = everything(case, lanes, count=2)
    for _ in range(3):
        assert_identical(everything(case, lanes, count=2), first)


@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_lanes_side_by_side_give_the_same_numbers(case: Case, count: int, save: bool) -> None:
    made = arguments(case, torch.float32, 2)
    for leaf in leaves(made).values():
        leaf.requires_grad_(save)

    def outputs(lanes: bool) -> list[Tensor]:
        results = list(ops.lt_lstm_forward(**made, **case.flags, save=save, lanes=lanes))
        if save:
            wanted = list(leaves(made).values())
            results += torch.autograd.grad([r.sum() for r in results if r.requires_grad], wanted)
        return results

    # One thread in both: two would divide torch's large products otherwise than one does.
    with threads(1):
        expected = outputs(lanes=False)
    with threads(count):
        found = outputs(lanes=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@LANES
@pytest.mark.parametrize("case", [*CASES, *TOGETHER], ids=str)
def test_uninitialised_memory_is_never_read(case: Case, lanes: int) -> None:
    def results() -> tuple[Named, Named]:
        """Of training, and of inference."""
        training = everything(case, lanes, count=2)
        with threads(2):
            bare = call(case, arguments(case, torch.float32, lanes), save=False)
        return training, dict(zip(names(lanes)[:3], bare[:3], strict=True))

    clean = results()
    with poisoned_memory():
        assert torch.empty(3).isnan().all()
        dirty = results()
    # Not training against inference: the memory of their products is not aligned alike, which in
    # some libraries decides the last bit.
    for found, expected in zip(dirty, clean, strict=True):
        assert_identical(found, expected)
        assert all(value.isfinite().all() for value in found.values())
    truth, plain = (oracle(case, arguments(case, dtype, lanes)) for dtype in (F64, torch.float32))
    for name, value in dirty[1].items():
        assert_close(value, truth[name], plain[name], name)


@LANES
def test_arguments_are_not_written(lanes: int) -> None:
    made = arguments(EVERYTHING, torch.float32, lanes)
    run(operator, EVERYTHING, made, names(lanes))
    for name, fresh in arguments(EVERYTHING, torch.float32, lanes).items():
        given = made[name]
        pairs = zip(given, fresh, strict=True) if isinstance(fresh, list) else [(given, fresh)]
        assert all(torch.equal(a, b) for a, b in pairs), name


def other_rows(value: Tensor, name: str, row: int) -> Tensor:
    """Everything but one batch row."""
    batch = 1 if name in ("output", "h_n", "c_n", "d_input", "d_h0", "d_c0") else 2
    keep = [n for n in range(value.shape[batch]) if n != row]
    return value.index_select(batch, torch.tensor(keep))


@LANES
@pytest.mark.parametrize("where", ["input", "h0", "c0"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_value_stays_in_its_row(bad: float, where: str, lanes: int) -> None:
    case, row = replace(PADDED, N=9, reset=False), 4
    clean = run(operator, case, arguments(case, torch.float32, lanes), names(lanes))
    made = arguments(case, torch.float32, lanes)
    made[where][-1, row, 0] = bad
    spoiled = run(operator, case, made, names(lanes))
    for name in (*names(lanes), "d_input", "d_h0", "d_c0"):
        rest = other_rows(spoiled[name], name, row)
        assert torch.equal(rest, other_rows(clean[name], name, row)), name
    # In its own row it acts as it does in plain torch.
    expected = oracle(case, made)
    for name in names(lanes):
        assert torch.equal(spoiled[name].isnan(), expected[name].isnan()), name
    assert spoiled["output"][:, row].isnan().any() or math.isinf(bad)


@LANES
def test_a_reset_clears_a_bad_state(lanes: int) -> None:
    case = replace(PADDED, bidirectional=False)
    made = arguments(case, torch.float32, lanes)
    made["h0"][:, 2] = torch.nan
    made["c0"][:, 2] = torch.inf
    made["reset"][0, 2] = True
    found = run(operator, case, made, names(lanes))
    assert all(value.isfinite().all() for value in found.values())
    assert not found["d_h0"][:, 2].any() and not found["d_c0"][:, 2].any()


@LANES
def test_a_dropped_bad_value_is_still_seen(lanes: int) -> None:
    # 0 * NaN is NaN in torch: a mask is a factor, not a selection.
    case = Case(T=3, N=2, D=3, H=5, L=2, dropout=True)
    made = arguments(case, torch.float32, lanes)
    made["input"][0, 1] = torch.nan
    made["masks"][0][:, 1] = 0
    assert operator(case, made)["output"][0, 1].isnan().all()
