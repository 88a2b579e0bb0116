# SPDX-License-Identifier: Apache-2.0
"""The CUDA operators over emulated kernels: values, gradients, streams, errors, modules."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map

import ltlstm
from bench.gpu.device import dry_facts
from cases import EVERYTHING, Case, arguments
from emulated_library import OPERATORS, emulated
from ltlstm_kernels import ops
from ltlstm_kernels.plan import Shape, make_plan
from operators import call, check, operator

CASES = [
    Case(T=1, N=1, D=1, H=1),
    Case(T=5, N=3, D=7, H=19, L=2, bidirectional=True),
    Case(T=4, N=3, D=5, H=16, L=3, packed=True, peephole=True, bias=False),
    Case(T=4, N=3, D=5, H=40, L=2, P=17, reset=True, dropout=True),
    Case(T=3, N=20, D=9, H=72, dropout=True, L=2),
]
DEEP = Case(T=5, N=3, D=6, H=24, L=3, dropout=True)
REGIMES = ("block", "cluster", "grid", "streamed")
HALF = (torch.bfloat16, torch.float16)


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


@pytest.mark.parametrize("lanes", [1, 2])
def test_what_is_streamed(lanes: int, calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTLSTM_CUDA_REGIME", "streamed")
    for case in (*CASES, EVERYTHING):
        check(case, torch.float32, lanes)
    for dtype in HALF:
        for case in CASES[1:4]:
            check(case, dtype, lanes, how=stored)


def test_what_fits_on_no_chip(calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(T=2, N=2, D=3, H=2048)
    check(case, torch.float32, lanes=1)
    monkeypatch.setenv("LTLSTM_CUDA_REGIME", "grid")
    with pytest.raises(RuntimeError, match="have a kernel on this GPU, .*; not streamed: not ask"):
        call(case, arguments(case, torch.float32))


@pytest.mark.parametrize("regime", REGIMES)
def test_each_regime(regime: str, calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTLSTM_CUDA_REGIME", regime)
    for dtype in (torch.float32, torch.bfloat16):
        check(Case(T=3, N=3, D=6, H=64, L=2, bidirectional=True), dtype, lanes=2, how=stored)


def test_an_unknown_regime_is_refused(calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTLSTM_CUDA_REGIME", "warp")
    with pytest.raises(ValueError, match="must be block, cluster, grid or streamed, got warp"):
        call(CASES[0], arguments(CASES[0], torch.float32))


@pytest.mark.parametrize("case", CASES[1:4], ids=str)
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


@pytest.mark.parametrize("recompute", ["0", "1"])
@pytest.mark.parametrize("lanes", [1, 2])
def test_the_compiler_knows_what_is_kept(
    lanes: int, recompute: str, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_gpu(t: Any) -> Any:
        return torch.empty(t.shape, device="cuda") if isinstance(t, torch.Tensor) else t

    monkeypatch.setenv("LTLSTM_CUDA_RECOMPUTE", recompute)
    made = arguments(DEEP, torch.float32, lanes)
    kept = [t.shape for t in call(DEEP, made)]
    with FakeTensorMode():
        fake = call(DEEP, tree_map(on_gpu, made))
    assert [t.shape for t in fake] == kept


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
    with pytest.raises(ValueError, match="LTLSTM_CUDA_RECOMPUTE must be 0 or 1, got yes"):
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
    planned = make_plan(Shape(3, 16, 1024, 1024, training=True), torch.bfloat16, dry_facts())
    for loop in (planned.forward, planned.backward):
        assert loop.regime == "grid" and loop.blocks * loop.groups == 128 and loop.k_splits > 1
    check(Case(T=3, N=16, D=32, H=1024), torch.bfloat16, lanes=1, how=stored)
