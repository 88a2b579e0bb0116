# SPDX-License-Identifier: Apache-2.0
"""The CUDA operators over emulated kernels: values, gradients, streams, errors, modules."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

import ltlstm
from bench.gpu_target import DRY
from cases import EVERYTHING, Case, arguments
from emulated_library import OPERATORS, emulated, library
from ltlstm_kernels import ops
from ltlstm_kernels.plan import DeviceFacts, Shape, make_plan, told_facts
from operators import Named, assert_identical, call, check, names, operator, poisoned_memory, run

CASES = [
    Case(T=1, N=1, D=1, H=1),
    Case(T=5, N=3, D=7, H=19, L=2, bidirectional=True),
    Case(T=4, N=3, D=5, H=16, L=3, packed=True, peephole=True, bias=False),
    Case(T=4, N=3, D=5, H=40, L=2, P=17, reset=True, dropout=True),
    Case(T=3, N=20, D=9, H=72, dropout=True, L=2),
]
DEEP = Case(T=5, N=3, D=6, H=24, L=3, dropout=True)
IN_CHUNKS = [
    DEEP,
    Case(T=7, N=6, D=5, H=16, L=2, packed=True, peephole=True, reset=True),
    Case(T=4, N=3, D=5, H=24, L=5, P=9, peephole=True, reset=True, dropout=True),
]
REGIMES = ("block", "cluster", "grid")
HALF = (torch.bfloat16, torch.float16)
EMULATED = DeviceFacts(90, 132, 232_448, 65_536, (132, 66, 33, 15, 7))
ORDERS = (1, 2, 0, 3, 6)  # seeds: each another order of the streams, within what the events allow


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
    case: Case,
    lanes: int,
    seed: int = 0,
    side_by_side: bool = False,
    chunk: int = 0,
    way: str = "",
    dropped: int = -1,
) -> Named:
    """Outputs and gradients; wait number `dropped` is left out of the pass `way`. Side by side in
    chunks of so many steps, or back to back."""

    def how(case: Case, made: dict[str, Any]) -> Named:
        monkeypatch.setenv("EMULATOR_DROP_WAIT", str(dropped if way == "forward" else -1))
        found = operator(case, made, side_by_side)
        monkeypatch.setenv("EMULATOR_DROP_WAIT", str(dropped if way == "backward" else -1))
        return found

    monkeypatch.setenv("LTLSTM_CUDA_CHUNK", str(chunk if side_by_side else case.T))
    monkeypatch.setenv("EMULATOR_SEED", str(seed))
    return run(how, case, arguments(case, torch.float32, lanes), names(lanes))


# Two rows or more in each chunk: the product of a single one sums in another order.
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize(
    ("case", "chunk"), [*((case, 2) for case in IN_CHUNKS), (DEEP, 3)], ids=str
)
def test_whatever_order_the_streams_run_in(
    case: Case, lanes: int, chunk: int, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = result(monkeypatch, case, lanes)  # back to back, all steps at once
    for seed in ORDERS:
        assert_identical(result(monkeypatch, case, lanes, seed, True, chunk), expected)


def agrees(found: Named, expected: Named) -> bool:
    try:
        assert_identical(found, expected)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(("lanes", "layers", "steps"), [(2, 2, 4), (2, 2, 2), (1, 3, 2)])
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_a_wait_left_out_is_seen(
    way: str,
    lanes: int,
    layers: int,
    steps: int,
    calls: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case(T=4, N=3, D=6, H=16, L=layers)
    expected = result(monkeypatch, case, lanes)
    shape = Shape(case.T, case.N, case.H, case.H, layers, training=True, trajectory=lanes == 2)
    planned = make_plan(shape, torch.float32, EMULATED, chunk=steps, overlap=True).lanes
    assert planned.overlap and planned.chunk == steps
    streams = planned.at_once  # the first waits are for the caller, a lane each
    waits = (layers if lanes == 2 else layers - 1) * (case.T // steps)
    with poisoned_memory():
        for wait in range(streams, streams + waits):
            found = (
                result(monkeypatch, case, lanes, seed, True, steps, way, wait) for seed in ORDERS
            )
            assert not all(agrees(one, expected) for one in found), wait


@pytest.mark.parametrize("case", [*CASES[1:4], *IN_CHUNKS[1:]], ids=str)
@pytest.mark.parametrize("lanes", [1, 2])
def test_gates_computed_again(
    case: Case, lanes: int, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept(case: Case, made: dict[str, Any]) -> dict[str, torch.Tensor]:
        outputs = call(case, made, save=True)
        assert outputs[5].shape[0] == 0 and (lanes == 1 or outputs[8].shape[0] == 0)
        return stored(case, made)

    monkeypatch.setenv("LTLSTM_CUDA_RECOMPUTE", "1")
    for dtype in (torch.float32, torch.bfloat16)[: 1 + (case in CASES)]:
        check(case, dtype, lanes, how=kept)
    monkeypatch.setenv("LTLSTM_CUDA_CHUNK", "2")
    check(case, torch.float32, lanes, how=lambda *a: operator(*a, side_by_side=True))


def test_training_that_keeps_no_gates_keeps_less(
    calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    T, N, H, L = 6, 4, 32, 3
    module = ltlstm.LTLSTM(H, H, L)

    def saved_bytes(recompute: int) -> int:
        monkeypatch.setenv("LTLSTM_CUDA_RECOMPUTE", str(recompute))
        found: dict[int, int] = {}

        def pack(t: torch.Tensor) -> torch.Tensor:
            found[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            module(torch.zeros(T, N, H, requires_grad=True))
        return sum(found.values())

    gates = 2 * L * T * N * 4 * H  # of both lanes
    assert saved_bytes(0) - saved_bytes(1) == gates * 4
    monkeypatch.setenv("LTLSTM_CUDA_RECOMPUTE", "yes")
    with pytest.raises(RuntimeError, match="LTLSTM_CUDA_RECOMPUTE must be 0 or 1, got yes"):
        call(CASES[0], arguments(CASES[0], torch.float32))


def test_python_plans_with_the_facts_of_the_library(calls: Counter[str]) -> None:
    assert told_facts(library(), 0) == EMULATED


def test_a_chunk_is_a_number_of_steps(calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ("0", "-1", "many", "3s"):
        monkeypatch.setenv("LTLSTM_CUDA_CHUNK", bad)
        with pytest.raises(RuntimeError, match=f"CHUNK must be a positive .* steps, got {bad}"):
            call(CASES[0], arguments(CASES[0], torch.float32))


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
    planned = make_plan(Shape(3, 16, 1024, 1024, training=True), torch.bfloat16, DRY)
    for loop in (planned.forward, planned.backward):
        assert loop.regime == "grid" and loop.blocks * loop.groups == 128 and loop.k_splits > 1
    check(Case(T=3, N=16, D=32, H=1024), torch.bfloat16, lanes=1, how=stored)
