# SPDX-License-Identifier: Apache-2.0
"""The CUDA operators over emulated kernels: values, gradients, streams, errors, modules."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

import ltlstm
from bench.gpu_target import DRY
from cases import EVERYTHING, Case, arguments
from emulated_library import OPERATORS, emulated
from ltlstm_kernels import ops, plan
from operators import Named, assert_identical, call, check, names, operator, poisoned_memory, run

CASES = [
    Case(T=1, N=1, D=1, H=1),
    Case(T=5, N=3, D=7, H=19, L=2, bidirectional=True),
    Case(T=4, N=3, D=5, H=16, L=3, packed=True, peephole=True, bias=False),
    Case(T=4, N=3, D=5, H=40, L=2, P=17, reset=True, dropout=True),
    Case(T=3, N=20, D=9, H=72, dropout=True, L=2),
]
DEEP = Case(T=4, N=3, D=6, H=24, L=3, dropout=True)
REGIMES = ("block", "cluster", "grid")
HALF = (torch.bfloat16, torch.float16)
ORDERS = range(7)  # seeds: each another order of the streams, within what the events allow


@pytest.fixture(scope="module")
def calls() -> Iterator[Counter[str]]:
    with emulated() as found:
        yield found


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case: Case, lanes: int, calls: Counter[str]) -> None:
    before = sum(calls.values())
    check(case, torch.float32, lanes)
    assert sum(calls.values()) == before + 2


def stored(case: Case, made: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The outputs in the storage type: the cells of every step are float32 whatever it is."""
    return {name: t.to(made["input"].dtype) for name, t in operator(case, made).items()}


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("lanes", [1, 2])
def test_half_types(dtype: torch.dtype, lanes: int, calls: Counter[str]) -> None:
    for case in CASES[1:4]:
        check(case, dtype, lanes, how=stored)


@pytest.mark.parametrize("regime", REGIMES)
def test_each_regime(regime: str, calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTLSTM_CUDA_REGIME", regime)
    for dtype in (torch.float32, torch.bfloat16):
        check(Case(T=3, N=3, D=6, H=64, L=2, bidirectional=True), dtype, lanes=2, how=stored)


def test_an_unknown_regime_is_refused(calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTLSTM_CUDA_REGIME", "warp")
    with pytest.raises(RuntimeError, match="must be block, cluster or grid, got warp"):
        call(CASES[0], arguments(CASES[0], torch.float32))


def result(
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    side_by_side: bool,
    way: str = "",
    dropped: int = -1,
) -> Named:
    """Outputs and gradients of DEEP; wait number `dropped` is left out of the pass `way`."""

    def how(case: Case, made: dict[str, Any]) -> Named:
        monkeypatch.setenv("EMULATOR_DROP_WAIT", str(dropped if way == "forward" else -1))
        found = operator(case, made, side_by_side)
        monkeypatch.setenv("EMULATOR_DROP_WAIT", str(dropped if way == "backward" else -1))
        return found

    monkeypatch.setenv("EMULATOR_SEED", str(seed))
    return run(how, DEEP, arguments(DEEP, torch.float32, lanes=2), names(2))


def test_whatever_order_the_streams_run_in(
    calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = result(monkeypatch, 0, side_by_side=False)  # back to back there is one order
    for seed, side_by_side in itertools.product(ORDERS, (True, False)):
        assert_identical(result(monkeypatch, seed, side_by_side), expected)


def agrees(found: Named, expected: Named) -> bool:
    try:
        assert_identical(found, expected)
    except AssertionError:
        return False
    return True


# Of each operator the lanes wait twice for the caller, once a layer for each other, and then the
# caller waits for both.
@pytest.mark.parametrize("wait", range(2, 2 + DEEP.L))
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_a_wait_left_out_is_seen(
    way: str, wait: int, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = result(monkeypatch, 0, side_by_side=False)
    with poisoned_memory():
        seen = [agrees(result(monkeypatch, seed, True, way, wait), expected) for seed in ORDERS]
    assert not all(seen)


def test_inference_keeps_nothing(calls: Counter[str]) -> None:
    made = arguments(DEEP, torch.bfloat16, lanes=2)
    for side_by_side in (False, True):
        kept = call(DEEP, made, save=True, side_by_side=side_by_side)
        bare = call(DEEP, made, save=False, side_by_side=side_by_side)
        for a, b in zip(kept[:3], bare[:3], strict=True):
            assert torch.equal(a, b)
        assert all(t.shape[0] == 0 for t in bare[3:])
        assert kept.cells.dtype == torch.float32


def test_an_empty_batch(calls: Counter[str]) -> None:
    check(Case(T=3, N=0, D=4, H=5, L=2), torch.float32, lanes=1)
    check(Case(T=3, N=0, D=4, H=5, L=2), torch.float32, lanes=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("peephole", [False, True])
def test_the_bare_cell(dtype: torch.dtype, peephole: bool, calls: Counter[str]) -> None:
    from ltlstm import reference
    from tolerance import assert_all_close

    def run_cell(cell, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        g = torch.Generator().manual_seed(0)
        drawn = [torch.randn(s, generator=g) for s in ((9, 4 * 7), (9, 7), (3, 7))[: 2 + peephole]]
        made = [t.bfloat16().to(dtype).requires_grad_() for t in drawn]
        h, c = cell(*made)
        grads = torch.autograd.grad((h * h).sum() + c.sum(), made)
        return dict(zip("hcxyz", (h, c, *grads), strict=False))

    mine = run_cell(lambda *a: ops.cell_forward(*a, *[None] * (3 - len(a))), dtype)
    truth = run_cell(reference.cell, torch.float64)
    assert_all_close(mine, truth, run_cell(reference.cell, dtype))


def test_float64_is_refused(calls: Counter[str]) -> None:
    with pytest.raises(RuntimeError, match="input must be float32, float16 or bfloat16, got float"):
        call(CASES[0], arguments(CASES[0], torch.float64))


def test_modules_train_on_them(calls: Counter[str]) -> None:
    for made in (ltlstm.LSTM, ltlstm.LTLSTM):
        calls.clear()
        module = made(6, 24, 2, dropout=0.3)
        sizes = torch.tensor([4, 2, 3])
        x = torch.randn(4, 3, 6, requires_grad=True)
        output, _ = module(x, lengths=sizes)
        output.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
        assert sum(calls.values()) == 2 and set(calls) < set(OPERATORS)


def test_everything_at_once(calls: Counter[str]) -> None:
    case = replace(EVERYTHING, H=40, P=17)
    check(case, torch.float32, lanes=1)
    check(case, torch.float32, lanes=2)


def test_a_production_tiling(calls: Counter[str]) -> None:
    """H=1024, N=16 as the plan cuts it up for an H100: every SM's block, both ways."""
    planned = plan.make_plan(plan.Shape(3, 16, 1024, 1024, training=True), torch.bfloat16, DRY)
    for loop in (planned.forward, planned.backward):
        assert loop.regime == "grid" and loop.blocks * loop.groups == 128 and loop.k_splits > 1
    check(Case(T=3, N=16, D=32, H=1024), torch.bfloat16, lanes=1, how=stored)
