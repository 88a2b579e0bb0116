# SPDX-License-Identifier: Apache-2.0
"""The H-LSTM's operators against the float64 reference; memory, threads and bad values."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from h_lstm_problems import (
    BASE,
    CASES,
    EVERYTHING,
    LONG,
    TOGETHER,
    HCase,
    arguments,
    call,
    check,
    operator,
    oracle,
)
from operators import DTYPES, F64, OUTPUTS, Named, assert_identical, poisoned_memory, run, threads
from tolerance import assert_all_close

PADDED = replace(EVERYTHING, packed=False)
FEW = [EVERYTHING, PADDED, HCase(T=9, N=17, D=33, H=65, L=3, K=35, J=2, bidirectional=True)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case: HCase, dtype: torch.dtype) -> None:
    check(case, dtype)


@pytest.mark.parametrize("case", [EVERYTHING, BASE], ids=str)
@pytest.mark.parametrize("path", OUTPUTS)
def test_each_output_gradient_alone(case: HCase, path: str) -> None:
    check(case, torch.float32, (path,))


@pytest.mark.parametrize("case", TOGETHER, ids=str)
def test_threads_that_meet_after_every_product(case: HCase) -> None:
    with threads(2):
        check(case, torch.float32)


def test_two_thousand_steps() -> None:
    check(LONG, torch.float32)


@pytest.mark.parametrize("scale", [30.0, 1e4])
def test_saturated_gates(scale: float) -> None:
    def scaled(dtype: torch.dtype) -> dict[str, Any]:
        made = arguments(BASE, dtype)
        made["weights"] = [w * scale if w.dim() == 3 else w for w in made["weights"]]
        return made

    assert_all_close(
        operator(BASE, scaled(torch.float32)),
        oracle(BASE, scaled(F64)),
        oracle(BASE, scaled(torch.float32)),
    )


def everything(case: HCase, count: int = 1, dtype: torch.dtype = torch.float32) -> Named:
    with threads(count):
        return run(operator, case, arguments(case, dtype), OUTPUTS)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_bit_equal_from_run_to_run_and_on_two_threads(case: HCase) -> None:
    first = everything(case)
    assert_identical(everything(case), first)
    assert_identical(everything(case, count=2), first)


@pytest.mark.parametrize("case", TOGETHER, ids=str)
def test_bit_equal_from_run_to_run_where_threads_meet(case: HCase) -> None:
    first = everything(case, count=2)
    for _ in range(3):
        assert_identical(everything(case, count=2), first)


@pytest.mark.parametrize("case", [*FEW, *TOGETHER, replace(BASE, T=1, N=1)], ids=str)
def test_uninitialised_memory_is_never_read_and_inference_gives_the_same(case: HCase) -> None:
    clean = everything(case, count=2)
    with poisoned_memory(), threads(2):
        dirty = everything(case, count=2)
        bare = call(case, arguments(case, torch.float32), save=False)
    assert_identical(dirty, clean)
    assert all(value.isfinite().all() for value in dirty.values())
    first = OUTPUTS[:3]
    assert_identical(dict(zip(first, bare[:3], strict=True)), {name: clean[name] for name in first})
    assert [value.shape[0] for value in bare[3:]] == [0] * 4


def test_more_steps_than_stay_in_the_cache() -> None:
    # Without saving, the product for the inputs runs for some steps at a time.
    case = HCase(T=900, N=3, D=2, H=33, K=160, J=2, reset=True, bidirectional=True)
    made = arguments(case, torch.float32)
    saved, bare = call(case, made), call(case, made, save=False)
    assert all(torch.equal(a, b) for a, b in zip(saved[:3], bare[:3], strict=True))


def test_arguments_are_not_written() -> None:
    made = arguments(EVERYTHING, torch.float32)
    run(operator, EVERYTHING, made, OUTPUTS)
    for name, fresh in arguments(EVERYTHING, torch.float32).items():
        given = made[name]
        pairs = zip(given, fresh, strict=True) if isinstance(fresh, list) else [(given, fresh)]
        assert all(torch.equal(a, b) for a, b in pairs), name


def test_strided_arguments() -> None:
    def spread(t: Tensor) -> Tensor:
        return torch.stack([t, t], -1)[..., 0]

    made = arguments(EVERYTHING, torch.float32)
    strided = {
        k: [spread(t) for t in v] if isinstance(v, list) else v if v is None else spread(v)
        for k, v in made.items()
        if k != "batch_sizes"
    }
    strided |= {"batch_sizes": made["batch_sizes"]}
    assert not strided["gate_masks"].is_contiguous()
    order = {name: strided[name] for name in made}
    found, plain = run(operator, EVERYTHING, order, OUTPUTS), everything(EVERYTHING)
    assert_identical(found, plain)


def other_rows(value: Tensor, name: str, row: int) -> Tensor:
    """Everything but one batch row."""
    batch = 1 if name in ("output", "h_n", "c_n", "d_input", "d_h0", "d_c0") else 2
    keep = [n for n in range(value.shape[batch]) if n != row]
    return value.index_select(batch, torch.tensor(keep))


@pytest.mark.parametrize("slope", [0.0, 0.01])
@pytest.mark.parametrize("where", ["input", "h0", "c0"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_value_stays_in_its_row(bad: float, where: str, slope: float) -> None:
    case, row = replace(PADDED, N=9, reset=False, slope=slope), 4
    clean = run(operator, case, arguments(case, torch.float32), OUTPUTS)
    made = arguments(case, torch.float32)
    made[where][-1, row, 0] = bad
    spoiled = run(operator, case, made, OUTPUTS)
    for name in (*OUTPUTS, "d_input", "d_h0", "d_c0"):
        rest = other_rows(spoiled[name], name, row)
        assert torch.equal(rest, other_rows(clean[name], name, row)), name
    # In its own row it acts as it does in plain torch.
    expected = oracle(case, made)
    for name in OUTPUTS:
        assert torch.equal(spoiled[name].isnan(), expected[name].isnan()), name


@pytest.mark.parametrize("slope", [0.0, 0.01])
def test_the_slope_at_zero_is_torch_s(slope: float) -> None:
    # Nothing enters the hidden layer: its units stand at the kink, and torch takes the slope below.
    case = HCase(T=3, N=2, D=3, H=4, K=5, slope=slope)
    gradients = []
    for how in (operator, oracle):
        made = arguments(case, F64)
        for place in (0, 1, 2):
            made["weights"][place].zero_()
        made["weights"][2].requires_grad_()
        (d_bias,) = torch.autograd.grad(how(case, made)["output"].sum(), made["weights"][2])
        gradients.append(d_bias)
    torch.testing.assert_close(*gradients)
    assert gradients[0].any() == (slope > 0)


def test_a_reset_clears_a_bad_state() -> None:
    case = replace(PADDED, bidirectional=False)
    made = arguments(case, torch.float32)
    made["h0"][:, 2] = torch.nan
    made["c0"][:, 2] = torch.inf
    made["reset"][0, 2] = True
    found = run(operator, case, made, OUTPUTS)
    assert all(value.isfinite().all() for value in found.values())
    assert not found["d_h0"][:, 2].any() and not found["d_c0"][:, 2].any()
